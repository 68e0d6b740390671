"""What Linux tells about processes in /proc: their children, their memory, the processor time that they took."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB: all of it, and with shared pages divided among those who share them."""

    rss: float
    pss: float


@dataclass(frozen=True)
class Cpu:
    """Seconds of processor time, in the process's own code and in the kernel on its behalf."""

    user: float = 0.0
    system: float = 0.0

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)

    def per(self, count: float) -> dict[str, float]:
        """Microseconds of each for one of `count`."""
        return {"user": self.user * 1e6 / count, "system": self.system * 1e6 / count}


def children(pid: int) -> list[int]:
    """The living children of a process."""
    return [int(child) for child in (PROC / f"{pid}/task/{pid}/children").read_text().split()]


def threads(pid: int) -> list[int]:
    """The threads of a process, of which the main one has its number; none when it has ended."""
    try:
        return [int(thread) for thread in os.listdir(PROC / f"{pid}/task")]
    except OSError:
        return []


def parent(pid: int) -> int:
    return int(stat_fields((PROC / f"{pid}/stat").read_text())[1])


def title(pid: int) -> str:
    """The command line, which PostgreSQL's processes set to what they are; empty when it has ended."""
    try:
        return (PROC / f"{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def split(service: int, least: int) -> tuple[list[int], list[int]]:
    """The children of a service that serve requests, each with at least `least` threads, and the others."""
    found = children(service)
    workers = [pid for pid in found if len(threads(pid)) >= least]
    return workers, [pid for pid in found if pid not in workers]


def memory(pid: int) -> Memory:
    """Memory of one process; zero when it has ended."""
    try:
        return parse_memory((PROC / f"{pid}/smaps_rollup").read_text())
    except OSError:
        return Memory(0.0, 0.0)


def parse_memory(rollup: str) -> Memory:
    kilobytes = {line.split(":")[0]: line.split() for line in rollup.splitlines()[1:]}
    return Memory(rss=int(kilobytes["Rss"][1]) / 1024, pss=int(kilobytes["Pss"][1]) / 1024)


def cpu(pid: int, thread: int | None = None) -> Cpu:
    """Processor time of a process and of its children that have ended, or of one of its threads; zero once it ended."""
    place = PROC / (f"{pid}/stat" if thread is None else f"{pid}/task/{thread}/stat")
    try:
        fields = stat_fields(place.read_text())
    except OSError:
        return Cpu()
    ended = (int(fields[13]), int(fields[14])) if thread is None else (0, 0)
    return Cpu((int(fields[11]) + ended[0]) / TICKS, (int(fields[12]) + ended[1]) / TICKS)


def machine() -> tuple[Cpu, float]:
    """Processor time of the whole machine since it started, and the seconds that its cores were idle."""
    user, nice, system, idle, wait, irq, softirq = map(int, (PROC / "stat").read_text().split()[1:8])
    return Cpu((user + nice) / TICKS, (system + irq + softirq) / TICKS), (idle + wait) / TICKS


def stat_fields(stat: str) -> list[str]:
    """The fields after the program's name, which may hold spaces: state, parent, ...; user time is the twelfth."""
    return stat.rpartition(")")[2].split()
