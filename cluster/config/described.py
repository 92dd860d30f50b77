"""Every key of a file that is declared as types: what may stand there, its default, its field's `#:` comment."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import yaml

from terry.cluster.config.typed import choices_at, fields_of, in_words, keys_of, options, section_of

_MISSING = dataclasses.MISSING


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A key, for people."""

    key: str  #: dotted, `NAME` where a name of one's own stands
    kind: str  #: what may stand there
    default: Any  #: as plain values; None: nothing
    needed: bool  #: there is no default
    meaning: str
    choices: dict[str, str]  #: words that may stand there, and what they mean

    @property
    def shown(self) -> str:
        """The default as YAML in one line."""
        return "(needed)" if self.needed else as_yaml(self.default)


def described(kind: Any, prefix: str = "") -> Iterator[Described]:
    """All keys below a dataclass, in the order of their fields, each section before what stands in it."""
    section = section_of(kind)
    comments, fields = field_comments(section), keys_of(section)
    for key, inner in fields_of(section).items():
        field, name = fields[key], f"{prefix}{key}"
        by_name = next((typing.get_args(o)[1] for o in options(inner) if typing.get_origin(o) is dict), None)
        below = inner if by_name is None else by_name
        default = default_of(field)
        yield Described(
            key=name,
            kind="settings" if section_of(inner) else _kind(inner, field),
            default=None if default is _MISSING or dataclasses.is_dataclass(default) else msgspec.to_builtins(default),
            needed=default is _MISSING,
            meaning=comments.get(field.name, ""),
            choices=_choices(inner),
        )
        if section_of(below) is not None:
            yield from described(below, f"{name}." if by_name is None else f"{name}.NAME.")


def default_of(field: dataclasses.Field[Any]) -> Any:
    """What a field is where nothing is given; dataclasses.MISSING where it must be."""
    return field.default if field.default_factory is _MISSING else field.default_factory()


def as_yaml(value: Any) -> str:
    """Plain values as YAML in one line; empty for nothing."""
    if value in (None, "", {}, []):
        return ""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").strip()


def _kind(inner: Any, field: dataclasses.Field[Any]) -> str:
    bare = [typing.get_args(o)[0] if typing.get_origin(o) is Annotated else o for o in options(inner)]
    origins = [typing.get_origin(o) for o in bare]
    words, _ = field.metadata.get("must", ("", None))
    kind = "a list" if list in origins else "a mapping" if dict in origins else in_words(inner)
    return f"{kind} that must {words}" if words else kind


def _choices(inner: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for owner in (o for option in options(inner) for o in typing.get_args(option) or (option,)):
        if isinstance(owner, type) and (values := choices_at(owner)) and bool is not owner:
            comments = field_comments(owner)
            found |= dict(zip(values, (comments.get(name, "") for name in owner.__members__), strict=True))  # type: ignore[attr-defined]
    return found


def field_comments(owner: type) -> dict[str, str]:
    """The `#:` comment of each field of a class: above it, or at the end of its line."""
    lines = inspect.getsource(owner).splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    tree = ast.parse("\n".join(line[indent:] for line in lines))
    found: dict[str, str] = {}
    for node in typing.cast("ast.ClassDef", tree.body[0]).body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name):
            found[target.id] = _comment(lines, node)
    return found


def _comment(lines: list[str], node: ast.stmt) -> str:
    assert node.end_lineno is not None
    after = lines[node.end_lineno - 1].encode()[node.end_col_offset or 0 :].decode().strip()
    if after.startswith("#:"):
        return after.removeprefix("#:").strip()
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        above.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(above)
