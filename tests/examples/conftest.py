"""Makes the example importable the way Python does when it is run as a script: from its own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
