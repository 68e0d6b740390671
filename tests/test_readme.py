"""What the README tells a newcomer to type works, and answers what it says."""

import json
import re
import shlex
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from api.settings import SETTINGS, table
from tests.service import running_service

README = (Path(__file__).parent.parent / "README.md").read_text()
MAKEFILE = (Path(__file__).parent.parent / "Makefile").read_text()
AUDITING = (Path(__file__).parent.parent / "docs" / "auditing.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """(command, the first line shown below it) pairs; a line that ends in a backslash goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    shown = [*lines[1:], ""]
    return [
        (line[2:], "" if below.startswith("$ ") else below)
        for line, below in zip(lines, shown, strict=True)
        if line.startswith("$ ")
    ]


def promised(answer: str) -> list[str]:
    """The pieces of a shown answer that do not differ from one run to the next."""
    steady = re.sub(r'"updated_at":"[^"]*"|"\.\.\."', "...", answer)
    return [piece.strip(" ,}") for piece in steady.split("...") if len(piece.strip(" ,}")) > 4]


def typed_in(command: str, base: str) -> str:
    """Do what curl would, which a fresh machine may not have; returns the answer's body."""
    words = shlex.split(command)[1:]
    method, headers, data, url = "GET", {}, None, ""
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                data = words.pop(0).encode()
            case word:
                url = word.replace("localhost:8000", base)
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def asked_by_an_auditor(moment: str) -> list[str]:
    """The calls of the auditor's page, of a time at which there was something."""
    lines = re.findall(r"^\$ (curl [^>\n]*)", AUDITING, re.MULTILINE)
    assert len(lines) >= 6
    return [re.sub(r"as_of=[^']*", f"as_of={moment}", line) for line in lines]


def test_curl_commands_answer_what_the_readme_shows(postgres_url: str, schema: str):
    typed = [pair for block in BLOCKS for pair in commands(block) if pair[0].startswith("curl")]
    reservation_id = ""
    with running_service({"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}) as service:
        typed_in(f"curl -X PUT {service.url}/api/non-fungible/BIKE/VIN1", "")
        for command, shown in typed:
            answer = typed_in(command.replace("<id>", reservation_id), service.url)
            for piece in promised(shown):
                assert piece in answer, f"{command} answered {answer}"
            body = json.loads(answer)
            reservation_id = body.get("id") or reservation_id
        for command in asked_by_an_auditor(body["ended_at"]):
            answer = typed_in(command, service.url)
            assert "/problems/" not in answer, f"{command} answered {answer}"
            assert '"PENCIL"' in answer or '"actor"' in answer, f"{command} answered {answer}"
    assert len(typed) >= 5
    assert body["state"] == "purchased"


@pytest.mark.parametrize("verb", re.findall(r"`make (\w+)`", README))
def test_every_make_verb_that_the_readme_names_exists(verb: str):
    assert re.search(rf"^{verb}:", MAKEFILE, re.MULTILINE)


def test_the_settings_page_is_made_of_the_settings():
    """`make docs` makes it anew."""
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()

    assert table() in page
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {setting.name for setting in SETTINGS}


def test_the_files_that_the_map_names_exist():
    root = Path(__file__).parent.parent
    table = README.partition("## Map")[2].partition("\n## ")[0]
    folder = ""
    for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            folder = name.rpartition("/")[0] or folder
            assert (root / (name if "/" in name else f"{folder}/{name}")).exists(), name


def test_the_readme_is_a_front_page():
    assert len(README.splitlines()) < 200
