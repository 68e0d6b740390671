"""The HTTP load of `wrk`, where it is installed: the requests of our own generator, driven from C and Lua."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.load import SPREAD_STEP, LoadError
from bench.measured import Measured

GRACE_SECONDS = 30  # for wrk to end once its time is over

# Each wrk thread has its own Lua state, so each walks over the requests on its own, from its own place.
SCRIPT = """
local requests = {{
{requests}
}}
local threads = 0

function setup(thread)
  thread:set("at", threads * {step})
  threads = threads + 1
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end
"""
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
RATE = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
PER_SECOND = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
LATENCY = r"^\s+{share}%\s+([\d.]+)(us|ms|s|m)$"
REFUSED = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)", re.MULTILINE)
SOCKETS = re.compile(r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", re.MULTILINE)


def is_there() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def script(requests: list[bytes]) -> str:
    """The Lua source that sends these requests in turn."""
    quoted = (request.decode().replace("\\", "\\\\").replace('"', '\\"') for request in requests)
    lines = (request.replace("\r", "\\r").replace("\n", "\\n") for request in quoted)
    return SCRIPT.format(requests=",\n".join(f'"{line}"' for line in lines), step=SPREAD_STEP)


def parse(printed: str) -> Measured:
    """The figures in what `wrk --latency` prints. Raises LoadError when they are not there.

    wrk counts refusals (any status but 2xx and 3xx) as requests; the rate given here is without them.
    """
    requests, rate = RATE.search(printed), PER_SECOND.search(printed)
    if requests is None or rate is None:
        raise LoadError(f"wrk printed no figures: {printed.strip()[-500:]}")
    refused = int(found[1]) if (found := REFUSED.search(printed)) else 0
    broken = sum(map(int, found.groups())) if (found := SOCKETS.search(printed)) else 0
    return Measured(
        rate=float(rate[1]) * (1 - refused / max(1, int(requests[1]))),
        p50_ms=latency_ms(printed, 50),
        p99_ms=latency_ms(printed, 99),
        errors=refused + broken,
    )


def latency_ms(printed: str, share: int) -> float:
    """The latency that `share` per cent of the requests did not exceed; 0 when wrk had none to tell."""
    found = re.search(LATENCY.format(share=share), printed, re.MULTILINE)
    return float(found[1]) * UNITS_MS[found[2]] if found else 0.0


def measure(
    address: tuple[str, int], requests: list[bytes], connections: int, seconds: float, threads: int
) -> Measured:
    """Run wrk once. Raises LoadError when it fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script(requests))
        file.flush()
        command = ["wrk", "--latency", "-t", str(threads), "-c", str(connections), "-d", f"{round(seconds)}s"]
        command += ["--timeout", "10s", "-s", str(Path(file.name)), f"http://{address[0]}:{address[1]}/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False)
    if done.returncode:
        raise LoadError(f"wrk failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return parse(done.stdout)
