"""The settings that a figure is worth nothing without: machine, disk, PostgreSQL, Python and libraries."""

import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psycopg

PAGE = b"\0" * 8192
SYNC_SECONDS = 1.0
LIBRARIES = ("eventsourcing", "falcon", "waitress", "psycopg", "msgspec")
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
    "commit_delay",
    "autovacuum",
    "jit",
)


def facts(url: str) -> dict[str, str]:
    """Name and value of each fact, in the order to show them."""
    with psycopg.connect(url, autocommit=True) as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("server_version", *SETTINGS)}
    values = {name: str(row[0]) if row else "?" for name, row in shown.items()}
    return {
        "Processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores for everything, the load included",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "PostgreSQL": values.pop("server_version") + ", one server for all measurements, over its Unix socket",
        "PostgreSQL settings": ", ".join(f"{name}={value}" for name, value in values.items()),
        "Python": platform.python_version(),
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def processor() -> str:
    """The model name that Linux knows, elsewhere the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def sync_ms(folder: Path) -> float:
    """Milliseconds, the median, that rewriting a page and making it durable takes, which is what a commit waits for."""
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(PAGE)
        deadline = time.perf_counter() + SYNC_SECONDS
        while (start := time.perf_counter()) < deadline:
            os.pwrite(file.fileno(), PAGE, 0)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return median(taken) * 1000
