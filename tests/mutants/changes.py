"""Small changes of a function's source, one at a time: what a tired programmer might have written instead."""

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}


class Mutant(NamedTuple):
    """`code` is the whole module's tree with one change, which `what` tells."""

    path: Path
    line: int
    function: str
    what: str
    code: ast.Module

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.what}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of every function of a module, in the order of its lines."""
    tree = ast.parse(path.read_text())
    for name, function in _functions(tree):
        for node in ast.walk(function):
            for changed, what in _changes(node, function):
                yield Mutant(path, getattr(node, "lineno", function.lineno), name, what, _with(tree, node, changed))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{each.name}", each) for each in node.body if isinstance(each, ast.FunctionDef))


def _changes(node: ast.AST, function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARED:
            other = _COMPARED[type(op)]
            yield _like(node, ops=[other()]), f"{ast.unparse(node)} with {other.__name__}"
        case ast.BinOp(op=op) if type(op) in _COUNTED:
            yield _like(node, op=_COUNTED[type(op)]()), f"{ast.unparse(node)} with {_COUNTED[type(op)].__name__}"
        case ast.BoolOp(op=op):
            other_bool = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield _like(node, op=other_bool), f"{ast.unparse(node)} with {type(other_bool).__name__}"
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand, f"{ast.unparse(node)} without not"
        case ast.If():
            yield _like(node, test=ast.UnaryOp(ast.Not(), node.test)), f"if not ({ast.unparse(node.test)})"
        case ast.IfExp():
            yield _like(node, body=node.orelse, orelse=node.body), f"{ast.unparse(node)} the other way round"
        case ast.Constant(value=bool(value)):
            yield _like(node, value=not value), f"{not value} for {value}"
        case ast.Constant(value=int(value)):
            yield _like(node, value=value + 1), f"{value + 1} for {value}"
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield ast.copy_location(ast.Pass(), node), f"without {ast.unparse(node)}"
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            if not (isinstance(value, ast.List) and not value.elts) and len(function.body) > 1:
                yield _like(node, value=ast.Constant(None)), f"return None for {ast.unparse(value)[:60]}"


def _like(node: ast.AST, **members: object) -> ast.AST:
    twin = copy.copy(node)
    for name, value in members.items():
        setattr(twin, name, value)
    return twin


def _with(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    """The tree with one node replaced."""
    changed = _copied(tree, old, new)
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


def _copied(node: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    if node is old:
        return new
    twin = copy.copy(node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            setattr(twin, name, _copied(value, old, new))
        elif isinstance(value, list):
            setattr(twin, name, [_copied(each, old, new) if isinstance(each, ast.AST) else each for each in value])
    return twin
