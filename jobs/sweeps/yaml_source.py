"""YAML with line numbers: every value knows the line it stands on, so that an error can name it.

YAML 1.1 as PyYAML reads it, with two differences that bite people who train networks: `1e-4` is a number (PyYAML takes
it for text), and a key that stands twice in one mapping is an error (PyYAML lets the last one win).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

import yaml

from terry.cluster.errors import UserError

#: Where a value stands in a document: keys of mappings and indices of lists, from the top.
Where = tuple[str | int, ...]

_FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+")
_NODE_LIMIT = 2_000_000  #: aliases can make a small file enormous


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that knows `1e-4` and refuses what the project has no use for."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _unchanged(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


# A date would not survive JSON, and nothing here is one: it stays the text that was written.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _unchanged)


@dataclass(slots=True)
class Document:
    """A YAML file as plain values, and the line of each."""

    file: str
    value: Any
    lines: dict[Where, int] = field(default_factory=dict)
    base: Path | None = None  #: where relative paths start, where no file says so

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return Path(self.file).parent if self.base is None else self.base

    def line(self, where: Where) -> int | None:
        """Line of a value, or of the nearest one around it."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.lines:
                return self.lines[where[:end]]
        return None

    def error(self, message: str, where: Where) -> UserError:
        """A UserError that points at a value."""
        return UserError(message, file=self.file, line=self.line(where))


def read(path: Path) -> Document:
    """Read a YAML file; UserError where it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError("there is no such file", file=path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not a YAML file: byte {error.start} is not UTF-8", file=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", file=path) from None
    return parse(text, str(path))


def parse(text: str, file: str) -> Document:
    """Parse one YAML document."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        document = Document(file, None)
        if node is not None:
            _note_lines(document, node)
            document.value = loader.construct_document(node)
        return document
    except yaml.YAMLError as error:
        raise _syntax_error(error, file) from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"not valid YAML: {error}", file=file) from None
    finally:
        if loader is not None:
            loader.dispose()


def of_values(value: Mapping[str, Any], base: Path, name: str = "the sweep") -> tuple[Document, bytes]:
    """A document made of Python's values instead of a file, and the YAML that it would be. Raises UserError.

    base: folder in which relative paths start. name: what errors call it.
    """
    plain = _plain(value, (), name)
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return Document(name, plain, base=base), text.encode()


def _plain(value: Any, where: Where, name: str) -> Any:
    """The value as YAML knows it: NumPy's numbers, tuples, ranges, enums and paths are understood, nothing else is."""
    if len(where) > 100:
        raise UserError("too deep, or something contains itself", file=name)
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {_text_key(key, where, name): _plain(item, (*where, str(key)), name) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item, (*where, i), name) for i, item in enumerate(value)]
    place = ".".join(str(part) for part in where)
    raise UserError(
        f"{place}: {type(value).__name__} is not for a sweep; text, numbers, lists and dicts are", file=name
    )


def _text_key(key: object, where: Where, name: str) -> str:
    if not isinstance(key, str):
        place = ".".join(str(part) for part in where)
        raise UserError(f"{place}: a key must be text, not {key!r}", file=name)
    return str(key)


def parse_value(text: str) -> Any:
    """The value of a command line's `key=value`: YAML of its own."""
    return parse(text, "command line").value


def _syntax_error(error: yaml.YAMLError, file: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return UserError(f"not valid YAML: {problem}", file=file, line=None if mark is None else mark.line + 1)


def _note_lines(document: Document, root: yaml.Node) -> None:
    """Walk the nodes: a line for each value; keys are text and stand once."""
    todo: list[tuple[Where, yaml.Node]] = [((), root)]
    while todo:
        where, node = todo.pop()
        document.lines[where] = node.start_mark.line + 1
        if len(document.lines) > _NODE_LIMIT or len(where) > 100:
            raise document.error("too large, or an alias contains itself", where[:1])
        if isinstance(node, yaml.SequenceNode):
            todo.extend(((*where, i), child) for i, child in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            todo.extend(_children(document, where, node))


def _children(document: Document, where: Where, node: yaml.MappingNode) -> list[tuple[Where, yaml.Node]]:
    found: list[tuple[Where, yaml.Node]] = []
    seen: dict[Hashable, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode):
            raise UserError("a key must be text", file=document.file, line=line)
        if key.value in seen:
            raise UserError(
                f"{key.value!r} stands twice (first in line {seen[key.value]}); keep one of them",
                file=document.file,
                line=line,
            )
        seen[key.value] = line
        found.append(((*where, key.value), value))
        # A value that is itself a mapping begins a line below its key: point at the key.
        value.start_mark = key.start_mark
    return found
