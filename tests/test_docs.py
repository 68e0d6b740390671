"""What the pages of docs/ tell people to type can be typed, and what they point at exists."""

import ast
import io
import re
import shlex
import subprocess
import tokenize
from pathlib import Path

import pytest
import yaml

from api.cli import COMMANDS, _parser
from api.settings import SETTINGS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
# In a command line, what the shell takes away before the command sees it.
_SHELL_ENDS = {"&&", "|", ";", ">", ">>", "2>>", "<"}


def typed(text: str) -> list[list[str]]:
    """The words of each `stockledger` command in the console blocks of a page, after the name."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.startswith("$ ") and "stockledger " in line else []
            for at, word in enumerate(words):
                if word == "stockledger" or word.endswith("/bin/stockledger"):
                    rest = words[at + 1 :]
                    end = next((n for n, each in enumerate(rest) if each in _SHELL_ENDS), len(rest))
                    found.append(rest[:end])
    return [words for words in found if words and words[0] != "stockledger"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path, capsys: pytest.CaptureFixture[str]):
    for words in typed(page.read_text()):
        try:
            _parser().parse_args(["X" if word in ("NAME", "FILE") else word for word in words])
        except SystemExit:
            pytest.fail(f"stockledger {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text()
    linked = {page.parent / target for target in re.findall(r"\]\((?!https?:)([^)#]+)", text)}
    folders = "ops|bench|tests|ledger|projections|api|examples|docs"
    named = {ROOT / name for name in re.findall(rf"`((?:{folders})/[\w./-]+?)`", text)}

    assert [str(path) for path in linked | named if not path.exists()] == []


def test_the_commands_are_found_and_a_wrong_one_is_noticed():
    page = "```console\n$ A=1 stockledger status --json && x\n$ systemctl start stockledger\n```"

    assert typed(page) == [["status", "--json"]]
    assert len(typed((ROOT / "docs" / "operations.md").read_text())) >= 20
    with pytest.raises(SystemExit):
        _parser().parse_args(["status", "--no-such-flag"])


def test_compose_migrates_as_the_owner_and_serves_in_a_login_of_its_own():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    urls = {name: services[name]["environment"]["DATABASE_URL"] for name in ("migrate", "stockledger")}

    assert urls["migrate"].startswith("postgresql://stockledger:${POSTGRES_PASSWORD:?")
    assert urls["stockledger"].startswith("postgresql://stockledger_service:${SERVICE_PASSWORD:?")
    assert services["stockledger"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    script, _, _ = services["db"]["volumes"][0].partition(":")
    assert "CREATE ROLE stockledger_service LOGIN" in (ROOT / script).read_text()


def test_the_environment_that_compose_wants_is_the_example():
    wanted = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))

    assert wanted == set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", ["Dockerfile", "ops/stockledger.service", "docker-compose.yml"])
def test_deployments_name_settings_that_there_are(file: str):
    named = set(re.findall(r"\b(STOCKLEDGER_\w+|DATABASE_URL)\b", (ROOT / file).read_text()))

    assert named
    assert named <= {setting.name for setting in SETTINGS}


NAMED = re.compile(r"(?<![\w/.<*{}$-])([\w.-]+/)*[\w-]+\.(?:py|md|sql|jsonl|yml|toml|cfg|sh|service)\b(?!\()")
# Names of files that are made, or are other people's.
NOT_OURS = {"roles.sql", "stockledger.jsonl"}


def texts() -> list[tuple[str, str]]:
    """What people read: pages, docstrings and comments. The changelog speaks of what was."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pages = [name for name in tracked if name.endswith((".md", "Makefile")) and name != "CHANGELOG.md"]
    found = [(name, (ROOT / name).read_text()) for name in pages]
    for name in tracked:
        if name.endswith(".py") and not name.startswith("tests/test_"):
            source = (ROOT / name).read_text()
            tokens = tokenize.generate_tokens(io.StringIO(source).readline)
            comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
            nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
            found.append((name, "\n".join([*comments, *(ast.get_docstring(node) or "" for node in nodes)])))
    return found


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def missing(where: str, text: str, tracked: set[str]) -> list[str]:
    """Files that a text names and that are nowhere: by whole path, by the end of one, or by name alone."""
    names = {re.sub(r"^(\.\.?/)+", "", match[0]) for match in NAMED.finditer(text)} - NOT_OURS
    return [
        f"{where}: {name}" for name in sorted(names) if not any(f"/{path}".endswith(f"/{name}") for path in tracked)
    ]


def test_every_file_that_a_docstring_a_comment_or_a_page_names_exists():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = set(listed.split())

    assert [wrong for where, text in texts() for wrong in missing(where, text, tracked)] == []


def test_a_name_of_no_file_is_noticed():
    tracked = {"ledger/engine/batch.py", "docs/http.md"}

    assert missing("x", "see ledger/engine/batch.py, batch.py and engine/batch.py", tracked) == []
    assert missing("x", "see tests/ledger/test_rules.py", tracked) == ["x: tests/ledger/test_rules.py"]


def test_every_module_and_command_that_a_page_tells_to_run_exists():
    pages = [(name, text) for name, text in texts() if name.endswith((".md", "Makefile"))]
    modules = {
        found for _, text in pages for found in re.findall(r"python -m ((?:api|bench|tests|examples)[\w.]*)", text)
    }
    commands = {found for _, text in pages for found in re.findall(r"`stockledger ([a-z]+)", text)}

    assert [m for m in modules if not _is_runnable(ROOT / m.replace(".", "/"))] == []
    assert commands <= {command.name for command in COMMANDS}


def _is_runnable(path: Path) -> bool:
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()
