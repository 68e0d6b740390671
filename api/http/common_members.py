"""api.http.common_members."""

from typing import Any

Common = dict[str, Any]
