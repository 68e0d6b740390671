"""The house rules, checked on the sources: who may know whom, where SQL lives, how long things may get.

Each checker says what is wrong in one module, and is itself shown a module in which it has to find something.
"""

import ast
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

ROOT = Path(__file__).parent.parent
PACKAGES = ("ledger", "projections", "api")
# Nothing looks up: each floor, and what it may not know.
ABOVE = {
    "ledger": {"projections", "api", "falcon", "waitress"},
    "projections": {"api", "falcon", "waitress"},
    "api": set(),
}
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "base", "misc"}
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 300
P90_FUNCTION_LINES = 16
# With the `__init__.py` that makes it a package.
MAX_FOLDER_FILES = 16
# What the rules are made of: state in, facts out. Time and ids come in as arguments.
PURE = {
    f"ledger.{name}"
    for name in (
        "audit.findings",
        "audit.hold_checks",
        "audit.replay",
        "audit.stream_checks",
        "catalogue.commands",
        "catalogue.errors",
        "catalogue.events",
        "catalogue.products",
        "commands",
        "errors",
        "events",
        "facts",
        "identifiers",
        "items.commands",
        "items.errors",
        "items.events",
        "items.items",
        "items.rules",
        "outcome",
        "reservations.carts",
        "reservations.commands",
        "reservations.errors",
        "reservations.item_holds",
        "reservations.overdue",
        "reservations.reservations",
        "state",
        "stock.commands",
        "stock.errors",
        "stock.events",
        "stock.levels",
        "stock.rules",
        "streams",
        "unit_of_work",
    )
}
# The businesses, and whose rules each may use besides its own; everybody may know everybody's facts and
# refusals. What belongs to no business (facts, commands, errors, state) is open to all.
ROOMS = {
    "catalogue": set(),
    "stock": {"catalogue"},
    "items": {"catalogue"},
    "reservations": {"catalogue", "stock", "items"},
}
# Machinery of the ledger, and what of the ledger it may know beside what belongs to no business. It is given the rooms.
MACHINERY = {
    "engine": {"store"},
    "store": set(),
    "audit": {"store"},
    "export": {"store", "audit"},
}
PURE_IMPORTS = {"collections", "datetime", "functools", "hashlib", "msgspec", "re", "typing", "uuid"}
IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "open", "print", "sleep"}
LIBRARYS_PRIVATE_NAMES = {
    name
    for used in (PostgresApplicationRecorder, PostgresDatastore)
    for owner in used.__mro__
    if owner.__module__.startswith("eventsourcing")
    for name in vars(owner)
    if name.startswith("_") and not name.startswith(("__", "_abc"))
}
_SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|DROP|TRUNCATE|LOCK|SET|COPY|GRANT|NOTIFY)\b")


class Module:
    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def floor(self) -> str:
        return self.name.partition(".")[0]

    def is_in(self, package: str) -> bool:
        return f"{self.name}.".startswith(f"{package}.")

    def imports(self) -> Iterator[str]:
        """The full names of the modules that it imports, anywhere in it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = ".".join(self.name.split(".")[: -node.level]) if node.level else ""
                source = [part for part in (start, node.module) if part]
                yield ".".join(source)
                yield from (".".join([*source, alias.name]) for alias in node.names)


def modules() -> list[Module]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found.append(Module(name, path.read_text()))
    return found


# The checkers


def upward_imports(module: Module) -> list[str]:
    roots = {name.partition(".")[0] for name in module.imports()}
    return [f"{module.name} imports {root}" for root in sorted(roots & ABOVE[module.floor])]


def sideways_imports(module: Module) -> list[str]:
    """A room uses the rules of those rooms alone that ROOMS names; machinery knows no room at all, but for the audit.

    The audit states the rules a second time, so it knows facts and states, and no rule.
    """
    floor, _, rest = module.name.partition(".")
    own = rest.partition(".")[0]
    if floor != "ledger" or own not in ROOMS | MACHINERY:
        return []
    found = []
    for name in module.imports():
        _, room, what = [*name.split("."), "", ""][:3]
        if not name.startswith("ledger.") or room == own:
            continue
        if room in ROOMS:
            allowed = room in ROOMS.get(own, ()) or what in ("events", "errors") or (own == "audit" and what in AUDITED)
        else:
            allowed = room not in MACHINERY or room in MACHINERY.get(own, {"store"})
        if not allowed and what:
            found.append(f"{module.name} imports {name}")
    return found


# The modules of rooms that say what a state is: what the audit folds is shown as the read models have it.
AUDITED = {"events", "products", "items", "reservations"}


def library_outside_the_store(module: Module) -> list[str]:
    if module.is_in("ledger.store"):
        return []
    return [f"{module.name} imports {name}" for name in module.imports() if f"{name}.".startswith("eventsourcing.")]


def librarys_private_parts(module: Module) -> list[str]:
    if module.name == "ledger.store.recorder":
        return []
    names = [node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    names += [node.name for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)]
    return [f"{module.name} uses {name}" for name in names if name in LIBRARYS_PRIVATE_NAMES]


def vague_names(module: Module) -> list[str]:
    return [f"{module.name} could hold anything" for part in module.name.split(".") if part in VAGUE]


def missing_docstring(module: Module) -> list[str]:
    trivial = module.name.endswith((".__init__", ".__main__")) and len(module.tree.body) <= 3
    return [] if trivial or ast.get_docstring(module.tree) else [f"{module.name} does not say what lives in it"]


def long_functions(module: Module) -> list[str]:
    functions = [n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{module.name}.{f.name}": (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > MAX_FUNCTION_LINES]


def long_files(module: Module) -> list[str]:
    length = len(module.source.splitlines())
    return [f"{module.name} has {length} lines"] if length > MAX_FILE_LINES else []


def sql_outside_its_place(module: Module) -> list[str]:
    """Statements live in the store and the read models; the API does not even run one."""
    if module.is_in("ledger.store") or module.is_in("projections"):
        return []
    texts = [n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    found = [f"{module.name} holds {text.strip()[:40]!r}" for text in texts if _SQL.match(text)]
    if module.floor == "api":
        calls = [n.func for n in ast.walk(module.tree) if isinstance(n, ast.Call)]
        run = [f.attr for f in calls if isinstance(f, ast.Attribute) and f.attr in ("execute", "executemany", "copy")]
        found += [f"{module.name} calls {name}" for name in run]
    return found


def impure_rules(module: Module) -> list[str]:
    if module.name not in PURE:
        return []
    names = set(module.imports())
    known = {name for name in names if name.partition(".")[0] in PURE_IMPORTS}
    packages = {"ledger", *(name.rpartition(".")[0] for name in PURE)}
    rules = {name for name in names if name in packages | PURE or name.rpartition(".")[0] in PURE}
    found = [f"{module.name} imports {name}" for name in sorted(names - known - rules)]
    for node in ast.walk(module.tree):
        called = node.func if isinstance(node, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        found += [f"{module.name} calls {name}"] if name in IMPURE_CALLS else []
    return found


CHECKERS: dict[Callable[[Module], list[str]], tuple[list[Module], list[Module]]] = {
    upward_imports: (
        [
            Module("ledger.stock.rules", "from projections import stock_levels"),
            Module("ledger.store.log", "import falcon"),
            Module("ledger.stock.rules", "def late():\n    from api.app import create_app"),
            Module("ledger.stock.rules", "from ... import api"),
            Module("projections.items.items", "import ledger, api.problems as p"),
        ],
        [
            Module("projections.items.items", "from ledger.items import Item"),
            Module("api.app", "import falcon\nfrom projections import items"),
            Module("ledger.items.items", "from ledger import products\nimport apiary"),
        ],
    ),
    sideways_imports: (
        [
            Module("ledger.stock.rules", "from ledger.reservations import carts"),
            Module("ledger.catalogue.products", "from ledger.stock.levels import STOCK"),
            Module("ledger.engine.batch", "from ledger.stock.levels import STOCK"),
            Module("ledger.store.log", "from ledger.items.items import Item"),
            Module("ledger.store.log", "from ledger.engine.batch import Batch"),
            Module("ledger.items.rules", "from ledger.engine.ledger import Ledger"),
            Module("ledger.audit.replay", "from ledger.reservations.carts import make"),
        ],
        [
            Module("ledger.reservations.carts", "from ledger.stock import levels\nfrom ledger.items.items import Item"),
            Module("ledger.stock.rules", "from ledger.items.events import ItemAdded\nfrom ledger.facts import Fact"),
            Module("ledger.engine.batch", "from ledger.room import Rooms\nfrom ledger.store.log import Log"),
            Module("ledger.audit.replay", "from ledger.stock.events import StockAdded"),
            Module("ledger.rooms", "from ledger.stock.room import STOCK"),
        ],
    ),
    library_outside_the_store: (
        [
            Module("ledger.engine.batch", "from eventsourcing.persistence import StoredEvent"),
            Module("projections.rebuilding.rebuild", "import eventsourcing"),
            Module("ledger.storekeeper", "import eventsourcing.postgres"),
        ],
        [
            Module("ledger.store.mapper", "import eventsourcing"),
            Module("ledger.engine.batch", "import ledger.store.log"),
        ],
    ),
    librarys_private_parts: (
        [
            Module("ledger.store.log", "recorder._lock_table(cursor)"),
            Module("ledger.engine.batch", "def _insert_stored_events(self): ..."),
        ],
        [
            Module("ledger.store.recorder", "self._lock_table(cursor)"),
            Module("ledger.store.log", "self._recorder.append(conn)"),
        ],
    ),
    vague_names: (
        [Module("api.utils", ""), Module("ledger.common.money", ""), Module("projections.base", "")],
        [Module("api.database", ""), Module("ledger.commands", "")],
    ),
    missing_docstring: (
        [
            Module("ledger.stock.rules", "# only a comment\nX = 1"),
            Module("ledger.empty", ""),
            Module("api.__main__", "import a\nimport b\nimport c\na(b, c)"),
        ],
        [
            Module("ledger.stock.rules", '"""Stock."""'),
            Module("api.__init__", ""),
            Module("api.__main__", "import a\nimport b\na(b)"),
        ],
    ),
    long_functions: (
        [
            Module("api.app", "def f():\n" + "    x = 1\n" * 70),
            Module("api.app", "class C:\n    async def f(self):\n" + "        x = 1\n" * 70),
        ],
        [Module("api.app", "def f():\n" + "    x = 1\n" * 69 + "x = 1\n" * 50)],
    ),
    long_files: ([Module("api.app", "x = 1\n" * 301)], [Module("api.app", "x = 1\n" * 300)]),
    sql_outside_its_place: (
        [
            Module("api.app", '_READ = """\nSELECT 1\n"""'),
            Module("ledger.engine.batch", 'conn.execute("DELETE FROM items")'),
            Module("ledger.stock.rules", 'q = f"UPDATE {table} SET x = 1"'),
            Module("api.resources.health", "conn.execute(query)"),
        ],
        [
            Module("ledger.engine.batch", 'conn.execute("ROLLBACK")'),
            Module("projections.items.items", '_READ = "SELECT 1"'),
            Module("ledger.store.log", '_READ = "SELECT 1"'),
            Module("api.app", '"""Selected routes."""\nx = "CREATED"'),
        ],
    ),
    impure_rules: (
        [
            Module("ledger.stock.rules", "import time"),
            Module("ledger.stock.rules", "from ledger.store.log import read"),
            Module("ledger.stock.rules", "from ledger.engine import batch"),
            Module("ledger.stock.rules", "import psycopg"),
            Module("ledger.reservations.carts", "at = datetime.now(UTC)"),
            Module("ledger.reservations.carts", "from uuid import uuid4\nid = uuid4()"),
        ],
        [
            Module(
                "ledger.stock.rules", "from ledger.items import items\nfrom ledger.facts import Event\nat = work.now"
            ),
            Module("ledger.engine.batch", "import time\ntime.sleep(1)"),
        ],
    ),
}


def imported_by(module: Module, known: set[str]) -> set[str]:
    """The modules among `known` that a module imports, also within functions and for types alone."""
    return {name for name in module.imports() if name in known and name != module.name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or by way of others (Tarjan's strongly connected components)."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_modules_import_each_other_in_a_circle():
    everything = modules()
    known = {module.name for module in everything}

    assert circles({module.name: imported_by(module, known) for module in everything}) == []


def test_a_circle_is_found_however_long_it_is():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_folder_holds_more_than_one_looks_over():
    folders = Counter(str(path.parent) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

    assert {folder: count for folder, count in folders.items() if count > MAX_FOLDER_FILES} == {}


def test_nine_of_ten_functions_are_seen_at_a_glance():
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert statistics.quantiles(functions, n=10)[-1] <= P90_FUNCTION_LINES


def test_every_module_is_looked_at():
    names = {module.name for module in modules()}

    assert names > PURE | {"ledger.store.recorder", "projections.inline", "api.app", "api.__main__"}


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_the_house_rules_are_kept(checker: Callable[[Module], list[str]]):
    assert [wrong for module in modules() for wrong in checker(module)] == []


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_each_rule_finds_what_breaks_it_and_nothing_else(checker: Callable[[Module], list[str]]):
    bad, good = CHECKERS[checker]

    assert [module.source for module in bad if not checker(module)] == []
    assert [wrong for module in good for wrong in checker(module)] == []
