"""/docs in a real browser: every call is shown, and no other host is asked for anything."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from falcon.testing import TestClient

from api.app import ROUTES
from api.openapi.operations import OPERATIONS
from api.resources.documents import FILES, POLICY
from tests.service import RunningService, running_service

STATIC = Path(__file__).parents[3] / "api" / "openapi" / "static"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_SECONDS = 60


def dom(service: RunningService, path: str, folder: Path) -> tuple[str, str]:
    """The page as the browser has it once it is at rest, and what it had to say on the way."""
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    ran = subprocess.run(
        [
            CHROMIUM,
            *flags,
            *quiet,
            f"--user-data-dir={folder}",
            "--virtual-time-budget=30000",
            "--dump-dom",
            service.url + path,
        ],
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS,
        check=True,
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
def test_a_browser_shows_every_call_and_complains_of_nothing(postgres_url: str, schema: str, tmp_path: Path):
    with running_service({"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}) as service:
        page, complaints = dom(service, "/docs", tmp_path)

    shown = set(re.findall(r'id="operations-(?!tag-)[^"]*-(\w+)"', page))
    assert shown == {operation.id for operation in OPERATIONS.values()}
    assert complaints == ""


def test_the_page_and_its_files_are_ours_alone_and_kept_for_long(client: TestClient):
    page = client.simulate_get("/docs")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "'unsafe-eval'" not in POLICY and "http" not in POLICY
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert named == {f"docs/{file}" for file in FILES}
    for name in named:
        file = client.simulate_get(f"/{name}")
        assert (file.status_code, file.headers["Content-Type"]) == (200, FILES[name.removeprefix("docs/")])
        assert "immutable" in file.headers["Cache-Control"]


def test_a_file_goes_compressed_to_who_takes_it_and_plain_to_others(client: TestClient):
    name = next(file for file in FILES if file.endswith(".js"))

    plain = client.simulate_get(f"/docs/{name}")
    packed = client.simulate_get(f"/docs/{name}", headers={"Accept-Encoding": "gzip, br"})
    refused = client.simulate_get(f"/docs/{name}", headers={"Accept-Encoding": "gzip;q=0, identity"})

    assert "Content-Encoding" not in plain.headers and "Content-Encoding" not in refused.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content == refused.content
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert len(packed.content) < len(plain.content) / 3


@pytest.mark.parametrize("name", ["page.html", "README.md", "nothing", "..", "swagger-ui-5.35.0.js.gz"])
def test_nothing_else_of_the_folder_is_served(client: TestClient, name: str):
    assert client.simulate_get(f"/docs/{name}").status_code == 404


def test_the_licence_is_kept_with_what_it_covers():
    names = {path.name for path in STATIC.iterdir()}

    assert {"LICENSE.swagger-ui.txt", "NOTICE.swagger-ui.txt", "LICENSE.swagger-ui-bundle.txt"} <= names
    assert "5.35.0" in (STATIC / "README.md").read_text()
    assert any(route.template == "/docs" for route in ROUTES)
