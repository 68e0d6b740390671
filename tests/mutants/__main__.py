"""`make mutants`: changes the pure rules one small piece at a time, and runs the rules' tests against each change.

A change that no test notices is a rule that no test holds; it is listed, and the exit status is 1. Those that do not
change what the rules do are in EQUAL, each with the reason.
"""

import ast
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from _pytest.runner import runtestprotocol
from tqdm import tqdm

from tests.mutants.changes import Mutant, mutants
from tests.mutants.equal import EQUAL

ROOT = Path(__file__).parents[2]
RULES = (
    "ledger/catalogue/products.py",
    "ledger/items/items.py",
    "ledger/items/rules.py",
    "ledger/reservations/carts.py",
    "ledger/reservations/item_holds.py",
    "ledger/reservations/overdue.py",
    "ledger/reservations/reservations.py",
    "ledger/stock/levels.py",
    "ledger/stock/rules.py",
    "ledger/commands.py",
    "ledger/identifiers.py",
)
TESTS = (
    "tests/ledger/test_identifiers.py",
    "tests/ledger/catalogue",
    "tests/ledger/stock",
    "tests/ledger/items",
    "tests/ledger/reservations/test_cart_rules.py",
    "tests/ledger/reservations/test_reservation_state.py",
)
# A change may make a loop endless.
LIMIT_SECONDS = 20.0


class Session:
    """A plugin: once the tests are collected, they are run against each mutant in a process of its own."""

    def __init__(self, found: list[Mutant]) -> None:
        self._found = found
        self.survivors: list[Mutant] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        assert session.items, "there are tests"
        for path in RULES:  # the same code in another place is noticed by none
            change(Mutant(Path(path), 1, "", "nothing", ast.parse(Path(path).read_text())))
        if self._fails(session.items):
            raise pytest.UsageError("the tests fail before anything is changed")
        running: dict[int, tuple[Mutant, float]] = {}
        with tqdm(total=len(self._found), desc="mutants", unit="mutant") as bar:
            waiting = iter(self._found)
            for mutant in waiting:
                running[self._begin(session.items, mutant)] = mutant, time.monotonic()
                if len(running) >= (os.cpu_count() or 1):
                    self._reap(running, bar)
            while running:
                self._reap(running, bar)
        return True

    def _begin(self, items: list[pytest.Item], mutant: Mutant) -> int:
        pid = os.fork()
        if pid == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            signal.alarm(int(LIMIT_SECONDS))
            try:
                change(mutant)
                os._exit(1 if self._fails(items) else 0)
            except BaseException:
                os._exit(1)
        return pid

    def _reap(self, running: dict[int, tuple[Mutant, float]], bar: "tqdm[None]") -> None:
        pid, status = os.wait()
        mutant, _ = running.pop(pid)
        if os.waitstatus_to_exitcode(status) == 0:
            self.survivors.append(mutant)
        bar.update()

    def _fails(self, items: list[pytest.Item]) -> bool:
        """Whether any test fails; the first that does ends it."""
        return any(report.failed for item in items for report in runtestprotocol(item, log=False, nextitem=None))


def change(mutant: Mutant) -> None:
    """Give every function of the module the code that the mutant has for it, wherever it was imported to."""
    name = ".".join(mutant.path.with_suffix("").parts)
    module = sys.modules[name]
    changed = ModuleType(name)
    changed.__dict__.update(module.__dict__)
    exec(compile(mutant.code, str(mutant.path), "exec"), changed.__dict__)  # our own source
    for where, function in functions(changed):
        original = resolve(module, where)
        if isinstance(original, FunctionType):
            original.__code__ = function.__code__


def functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield name, value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for inner, method in vars(value).items():
                found = method.fget if isinstance(method, property) else method
                if isinstance(found, FunctionType):
                    yield f"{name}.{inner}", found


def resolve(module: ModuleType, where: str) -> object:
    value: object = module
    for part in where.split("."):
        value = vars(value)[part]
    return value.fget if isinstance(value, property) else value


def main() -> int:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    found = [mutant for path in RULES for mutant in mutants(Path(path))]
    session = Session(found)
    gc.freeze()
    status = pytest.main(["-p", "no:cacheprovider", *TESTS], plugins=[session])
    if status != pytest.ExitCode.OK:
        return int(status)
    left = [mutant for mutant in session.survivors if (mutant.function, mutant.what) not in EQUAL]
    for mutant in left:
        print(f"survived  {mutant}")
    equal = len(session.survivors) - len(left)
    print(f"{len(found)} mutants, {len(found) - len(session.survivors)} found, {equal} equal, {len(left)} survived")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
