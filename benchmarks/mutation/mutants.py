"""Small mistakes that somebody might make in a module, one at a time, as changes of its syntax tree."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LOGGERS = ("log", "logger", "_log")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `function` is the outermost one around it, as `Class.method`; None in a module's own statements."""

    path: Path
    function: str | None
    line: int
    node: int  #: number of the changed node in `ast.walk`
    variant: int
    name: str  #: where and what, in words that stay the same when lines move

    @property
    def id(self) -> str:
        """A short name."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:10]

    def tree(self) -> ast.Module:
        """The whole module with this change."""
        tree = ast.parse(self.path.read_text())
        node = list(ast.walk(tree))[self.node]
        changed = _Change(node, _variants(node)[self.variant]).visit(tree)
        return ast.fix_missing_locations(changed)


class _Change(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """All changes of a module, in the order of its lines."""
    tree = ast.parse(path.read_text())
    numbers = {id(node): number for number, node in enumerate(ast.walk(tree))}
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for node, function in _places(tree):
        for variant, new in enumerate(_variants(node)):
            words = f"{path.relative_to(root)}: {function or 'module'}: {_words(node)} -> {_words(new)}"
            seen[words] += 1
            name = words if seen[words] == 1 else f"{words} ({seen[words]})"
            found.append(Mutant(path, function, node.lineno, numbers[id(node)], variant, name))  # type: ignore[attr-defined]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.node, mutant.variant))


def _words(node: ast.AST) -> str:
    if isinstance(node, ast.Pass):
        return "nothing"
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"
    if isinstance(node, ast.Match):
        return f"match {ast.unparse(node.subject)} of " + ", ".join(ast.unparse(case.pattern) for case in node.cases)
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 200 else f"{text[:180]}... {hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _places(node: ast.AST, function: str | None = None, owner: str = "") -> Iterator[tuple[ast.AST, str | None]]:
    """Nodes that may be changed, with the function they stand in. No annotations, docstrings, decorators or words."""
    for child in _parts(node):
        if isinstance(child, ast.ClassDef):
            for statement in child.body:
                yield from _places_of(statement, function, f"{owner}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            named = function or f"{owner}{child.name}"
            for default in (*child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield from _places_of(default, function, owner)
            for statement in child.body:
                yield from _places_of(statement, named, owner)
        else:
            yield from _places_of(child, function, owner)


def _places_of(node: ast.AST, function: str | None, owner: str) -> Iterator[tuple[ast.AST, str | None]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield from _places(ast.Module([node], []), function, owner)
        return
    if isinstance(node, ast.stmt | ast.expr) and not (function is None and _is_type(node)):
        yield node, function
    if isinstance(node, ast.Raise | ast.JoinedStr) or _is_word_only(node) or (function is None and _is_type(node)):
        return
    yield from _places(node, function, owner)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Children that count."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))


def _is_word_only(node: ast.AST) -> bool:
    """Docstrings, imports, logging, what is only for type checkers."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr):
        call = node.value
        return isinstance(call, ast.Constant) or _logs(call)
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _is_type(node: ast.AST) -> bool:
    """An alias such as `dict[str, int]`, outside functions."""
    return isinstance(node, ast.Subscript) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr))


def _logs(node: ast.AST) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    owner = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id in _LOGGERS


def _variants(node: ast.AST) -> list[ast.AST]:
    """What a node is changed into."""
    match node:
        case ast.Compare(ops=[op]):
            return [_with(node, ops=[kind()]) for kind in _COMPARED[type(op)]]
        case ast.BoolOp(op=op):
            return [_with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [copy.deepcopy(operand)]
        case ast.BinOp(op=op) if type(op) in _CALCULATED and not _is_text(node):
            return [_with(node, op=_CALCULATED[type(op)]())]
        case ast.IfExp():
            return [_with(node, body=node.orelse, orelse=node.body)]
        case ast.Constant(value=value):
            return [ast.Constant(other) for other in _other(value)]
        case ast.Call():
            return _calls(node)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return list(_unfiltered(node))
        case ast.Set() | ast.List() | ast.Tuple() if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return [_with(node, elts=_without(node.elts, k)) for k in range(len(node.elts)) if len(node.elts) > 2]
        case ast.Dict():
            return [
                _with(node, keys=_without(node.keys, k), values=_without(node.values, k)) for k in range(len(node.keys))
            ]
        case _:
            return _statements(node)


def _statements(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.If(test=ast.Compare(ops=[_]) | ast.UnaryOp(op=ast.Not())):
            return []  # the comparison is turned round by itself
        case ast.If(test=test):
            return [] if _is_word_only(node) else [_with(node, test=ast.UnaryOp(ast.Not(), test))]
        case ast.AugAssign(op=op) if type(op) in _CALCULATED:
            return [_with(node, op=_CALCULATED[type(op)]()), ast.Pass()]
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return [ast.Pass()]
        case ast.Expr(value=ast.Call()) if not _logs(node.value):
            return [ast.Pass()]
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            return [ast.Pass()]
        case ast.Match(cases=cases):
            return [_with(node, cases=_without(cases, k)) for k in range(len(cases)) if len(cases) > 1]
        case _:
            return []


def _calls(node: ast.Call) -> list[ast.AST]:
    """One keyword less; the least for the greatest."""
    found: list[ast.AST] = [
        _with(node, keywords=_without(node.keywords, k)) for k, word in enumerate(node.keywords) if word.arg is not None
    ]
    if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        found.append(_with(node, func=ast.Name(_CALLED[node.func.id], ast.Load())))
    return found


def _unfiltered(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[ast.AST]:
    for number, generator in enumerate(node.generators):
        for k in range(len(generator.ifs)):
            fewer = _with(generator, ifs=_without(generator.ifs, k))
            yield _with(node, generators=[*node.generators[:number], fewer, *node.generators[number + 1 :]])


def _other(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [2.0 * value if value else 1.0]
    return []


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(part, ast.JoinedStr | ast.Constant) and not _is_number(part) for part in sides)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _without(parts: list, k: int) -> list:  # type: ignore[type-arg]
    return [*parts[:k], *parts[k + 1 :]]


def _with(node: ast.AST, **changes: object) -> ast.AST:
    made = copy.copy(node)
    for name, value in changes.items():
        setattr(made, name, value)
    return made
