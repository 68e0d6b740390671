"""docker-compose.yml and the Dockerfile, held against what is documented: nothing here starts a container."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.cli import COMMANDS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "stockledger")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_there_are_just_these_services_and_the_database_is_the_documented_one():
    assert set(SERVICES) == {"db", *OURS}
    assert SERVICES["db"]["image"] == "postgres:18"
    assert SERVICES["db"]["volumes"][1] == "pgdata:/var/lib/postgresql", "from 18 on data is kept a level below"
    assert set(COMPOSE["volumes"]) == {"pgdata"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_gives_up_what_it_does_not_need(name: str):
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", OURS)
def test_ours_write_nowhere_and_gain_nothing(name: str):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert "cap_add" not in service
    assert "volumes" not in service
    assert service["init"] is True


def test_the_database_gains_what_its_entry_point_needs_as_root_and_no_more():
    assert SERVICES["db"]["cap_add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    assert "ports" not in SERVICES["db"]


def test_only_the_service_is_published_and_on_the_loopback_alone():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"stockledger": ["127.0.0.1:8000:8000"]}


def test_each_waits_for_the_one_before_it():
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert SERVICES["stockledger"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["healthcheck"] == {"disable": True}
    assert SERVICES["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert "/health/ready" in SERVICES["stockledger"]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_down_and_each_that_is_missing_is_asked_for(name: str):
    for variable, value in SERVICES[name].get("environment", {}).items():
        if "PASSWORD" in variable or "postgresql://" in str(value):
            assert re.search(r"\$\{\w+:\?set \w+ in \.env", str(value)), variable


@pytest.mark.parametrize("name", OURS)
def test_ours_run_commands_that_there_are_from_one_image(name: str):
    command = SERVICES[name].get("command", ["stockledger", "serve"])

    assert command[0] == "stockledger"
    assert command[1] in {each.name for each in COMMANDS}
    assert SERVICES[name]["image"] == "stockledger"
    assert SERVICES[name]["build"] == {"context": ".", "args": {"EXTRAS": ""}}


def test_files_that_are_mounted_or_copied_exist():
    mounted = [volume.split(":")[0] for volume in SERVICES["db"]["volumes"] if volume.startswith("./")]
    copied = [
        source for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]
    ]

    assert mounted == ["./ops/compose-roles.sh"]
    assert copied
    assert [path for path in [*mounted, *copied] if not (ROOT / path).exists()] == []
    packages = {line.strip("* ") for line in _included() if line}
    assert packages <= set(copied), "every package that is built is in the image"


def _included() -> list[str]:
    setup = (ROOT / "setup.cfg").read_text()
    return re.findall(r"^    (\w+\*)$", setup.partition("[options.packages.find]")[2].partition("\n[")[0], re.MULTILINE)


def test_the_image_runs_as_a_user_of_its_own():
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^CMD \["stockledger", "serve"\]$', DOCKERFILE, re.MULTILINE)
