"""Install a wheel with its embedded PostgreSQL into an empty environment, serve from it, and stop it again.

`python serve_wheel.py dist/stockledger-0.1.0-py3-none-any.whl`; knows nothing of the sources beside it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from contextlib import suppress
from pathlib import Path

START_SECONDS, STOP_SECONDS = 60.0, 30.0


def main(wheel: str) -> None:
    with tempfile.TemporaryDirectory(prefix="stockledger-wheel-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user where this runs as root
        environment = folder / "venv"
        venv.create(environment, with_pip=True)
        install = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([*install, f"{Path(wheel).resolve()}[embedded]"], check=True)
        print(f"installed {wheel} with PostgreSQL")
        serve(environment / "bin" / "stockledger", folder)


def serve(program: Path, folder: Path) -> None:
    """Start the service, ask it what a newcomer would, and stop it as an operator does."""
    settings = {"STOCKLEDGER_PORT": "0", "STOCKLEDGER_DATA_DIR": str(folder / "data"), "PYTHONSAFEPATH": "1"}
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    process = subprocess.Popen([program, "serve"], env=bare | settings, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None, "it did not start"
        wait_ready(url[0])
        body, headers = b'{"amount_in_stock": 5}', {"Content-Type": "application/json"}
        made = asked(urllib.request.Request(f"{url[0]}/api/fungible/PENCIL", body, headers, method="PUT"))
        assert json.loads(made)["amount_in_stock"] == 5
        assert json.loads(asked(f"{url[0]}/openapi.json"))["openapi"] == "3.1.0"
        page = asked(f"{url[0]}/docs").decode()
        for file in re.findall(r'(?:src|href)="(docs/[^"]+)"', page):
            assert asked(f"{url[0]}/{file}"), file
        print(f"served at {url[0]}: ready, a product, the document and its page")
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOP_SECONDS)
    assert status == 0, f"it ended with {status}"
    print("stopped")


def wait_ready(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError):  # also an answer that says no
            asked(f"{url}/health/ready")
            return
        time.sleep(0.1)
    raise AssertionError("it did not get ready")


def asked(request: "str | urllib.request.Request") -> bytes:
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    main(sys.argv[1])
