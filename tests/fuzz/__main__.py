"""`python -m tests.fuzz`: thousands of requests made of the service's own document, then a look at the whole ledger.

Exit status 0 if no check failed and the log and read models verify.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzing import fuzz, stocked_service, stockledger
from tests.service import data_folder

# Of the random phases, for each call; the coverage phase alone makes some 3,000 requests in all.
EXAMPLES = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="go on until so many (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each call in a run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the first run (default: random)")
    chosen = parser.parse_args()
    data, kept = data_folder(), Path(tempfile.mkdtemp(prefix="stockledger-fuzz-"))
    settings = {"STOCKLEDGER_DATA_DIR": str(data / "data")}
    made, seed = 0, chosen.seed
    try:
        with stocked_service(settings) as (service, key):
            while made < chosen.requests:
                began = time.monotonic()
                options = ("-n", str(chosen.examples), "--seed", str(seed))
                found = fuzz(service, key, kept, *options)
                made += found.requests
                seconds = time.monotonic() - began
                print(f"seed {seed}: {found.requests} requests in {seconds:.0f} s, {made} in all", flush=True)
                if found.failures:
                    print(found.failures)
                    return 1
                seed += 1
        verified = stockledger(settings, "verify")
        print(verified.stdout + verified.stderr)
        return verified.returncode
    finally:
        shutil.rmtree(data)
        shutil.rmtree(kept)


if __name__ == "__main__":
    sys.exit(main())
