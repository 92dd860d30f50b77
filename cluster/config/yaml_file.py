"""A YAML file as values that know their lines: the one reader of terry.yaml and of sweep files.

YAML 1.1's structure as libyaml reads it; what single words mean is said in terry.cluster.config.words. Keys are text as
it is written, and stand once; a tag other than `!!str` is refused.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

import yaml

from terry.cluster.config.words import LEAST, MOST, NOTHING, Plain, meaning
from terry.cluster.errors import UserError

#: Where a value stands in a document: keys of mappings and indices of lists, from the top.
Where = tuple[str | int, ...]

_VALUES_MOST = 2_000_000  #: aliases can make a small file enormous
_DEEPEST = 100
_TEXT = "tag:yaml.org,2002:str"
_STRUCTURE = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class Problem(ValueError):
    """One thing that is wrong with a configuration, and the key that it is about."""

    def __init__(self, message: str, path: Where) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{dotted(path)}: {message}" if path else message)


def dotted(path: Where) -> str:
    """`("nodes", "lab", 0)` as people write it: `nodes.lab[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


@dataclass(slots=True)
class Document:
    """A YAML file as values, and the line of each. Words without quotes are Plain."""

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

    def about(self, problem: Problem, section: Where = ()) -> UserError:
        """The same of a problem whose path is relative to a section: `FILE:LINE: its.key: what is wrong`."""
        where = (*section, *problem.path)
        return self.error(f"{dotted(where)}: {problem.message}" if where else problem.message, where)

    @contextlib.contextmanager
    def problems(self, section: Where = ()) -> Iterator[None]:
        """A context in which a Problem becomes that UserError."""
        try:
            yield
        except Problem as problem:
            raise self.about(problem, section) from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes alone, and takes every word without a tag for text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - theirs


def read(path: Path) -> Document:
    """Read a YAML file. Raises UserError where it is not YAML, OSError."""
    return parse(path.read_bytes(), str(path))


def parse(content: str | bytes, file: str) -> Document:
    """Parse one YAML document. Raises UserError."""
    document = Document(file, None)
    text = _decoded(content, file) if isinstance(content, bytes) else content
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            document.value = _Reading(document).value(root, (), root.start_mark.line + 1)
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise _syntax_error(error, text, file) from None
    finally:
        if loader is not None:
            loader.dispose()
    return document


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"not UTF-8: {error.reason}", file=file, line=line) from None


def parse_value(text: str) -> Any:
    """The value of a command line's `key=value`: YAML of its own. Raises UserError."""
    return parse(text, "command line").value


class _Reading:
    """Values of nodes, with a line for each."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def value(self, node: yaml.Node, where: Where, line: int) -> Any:
        """What a node is. line: of the key, for a value that begins below it."""
        document = self._document
        document.lines[where] = line
        if len(document.lines) > _VALUES_MOST or len(where) > _DEEPEST:
            raise document.error("too large, or an alias contains itself", where[:1])
        if isinstance(node, yaml.ScalarNode):
            return self._word(node)
        if node.tag not in _STRUCTURE:
            raise self._refused(node)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self.value(item, (*where, i), item.start_mark.line + 1) for i, item in items]
        assert isinstance(node, yaml.MappingNode)
        return self._mapping(node, where)

    def _word(self, node: yaml.ScalarNode) -> Any:
        if node.tag != _TEXT:
            raise self._refused(node)
        if node.style:
            return node.value
        return None if node.value in NOTHING else Plain(node.value)

    def _refused(self, node: yaml.Node) -> UserError:
        what = f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} has no meaning here; write the value alone"
        return UserError(what, file=self._document.file, line=node.start_mark.line + 1)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, value in node.value:  # what `<<` brings comes first, and gives way to what is written out
            if _is_merge(key):
                for other in _merged(value):
                    found = self._brought(other, where) | found
        for key, value in node.value:
            if _is_merge(key):
                continue
            line = key.start_mark.line + 1
            name = self._key(key, line)
            if name in seen:
                text = f"{str(name)!r} stands twice (first in line {seen[name]}); keep one of them"
                raise UserError(text, file=self._document.file, line=line)
            seen[name] = line
            found[name] = self.value(value, (*where, name), line)
        return found

    def _key(self, key: yaml.Node, line: int) -> str:
        if not isinstance(key, yaml.ScalarNode) or (not key.style and key.value in {"", "~"}):
            raise UserError("a key must be text", file=self._document.file, line=line)
        return str(key.value) if key.style else Plain(key.value)

    def _brought(self, node: yaml.Node, where: Where) -> dict[str, Any]:
        found = self.value(node, where, self._document.lines[where])
        if not isinstance(found, dict):
            line = node.start_mark.line + 1
            raise UserError("`<<` must name a mapping, or a list of them", file=self._document.file, line=line)
        return found


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and not key.style and key.value == "<<"


def _merged(value: yaml.Node) -> list[yaml.Node]:
    return list(value.value) if isinstance(value, yaml.SequenceNode) else [value]


def _syntax_error(error: Exception, text: str, file: str) -> UserError:
    """What is wrong with the structure, in plain words where it is what happens to people."""
    if isinstance(error, RecursionError):
        return UserError("not valid YAML: nested too deeply", file=file)
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return UserError(f"not valid YAML: {problem}", file=file)
    lines = text.split("\n")
    line, column = mark.line, mark.column
    written = lines[line] if line < len(lines) else ""
    return UserError(f"not valid YAML: {_in_words(problem, error, written, line, column)}", file=file, line=line + 1)


def _in_words(problem: str, error: Exception, written: str, line: int, column: int) -> str:
    opened = getattr(error, "context_mark", None)
    context = str(getattr(error, "context", "") or "")
    sign = written[column : column + 1]
    if "\t" in written[: len(written) - len(written.lstrip())] or sign == "\t":
        return "a tab in the indentation; YAML takes blanks only"
    if "flow" in context and opened is not None:
        kind = "mapping" if "mapping" in context else "list"
        begins = f" that begins in line {opened.line + 1}" if opened.line != line else ""
        return f"the {kind}{begins} is not closed, or a comma is missing"
    if "quoted scalar" in context and "end of stream" in problem and opened is not None:
        return f"the quotation mark in line {opened.line + 1} is not closed"
    if "mapping values are not allowed" in problem:
        if re.search(r":\s.*:\s", written.strip() + " "):
            return "a second `: ` in one line; put text that holds one in quotes"
        return "this line is indented unlike its neighbours, or a blank is missing after a colon above"
    if "cannot start any token" in problem or "scanning an alias" in context or "scanning an anchor" in context:
        return f"text that begins with {sign if sign.strip() else written[column:].strip()[:1]} must stand in quotes"
    if re.search(r"\w:[\[{]", written):
        return "a blank is missing after a colon"
    if sign and sign in "]}":
        return f"one {sign} too many"
    if "'-' indicator" in problem:
        return "a list and `key: value` in one place, or this line is indented unlike its neighbours"
    if "block" in context or "<document start>" in problem:
        return "this line is indented unlike its neighbours"
    return problem


def plain(value: Any) -> Any:
    """Values of a document without types of their own: what each means where anything may stand."""
    if isinstance(value, Plain):
        return meaning(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def leaves(value: Any, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """The single values of mappings and lists, each with its place."""
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(item, (*where, key))
    else:
        yield where, value


# values of Python instead of a file


def of_values(value: Mapping[str, Any], base: Path, name: str = "the sweep") -> tuple[Document, bytes]:
    """A document made of Python's values instead of a file, and the YAML that it would be. Raises UserError.

    base: folder in which relative paths start. name: what errors call it.
    """
    found = _python(value, (), name)
    text: str = yaml.dump(found, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return Document(name, found, base=base), text.encode()


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that would be something else without."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if value not in NOTHING and isinstance(meaning(value), str) else "'"
    if not {"\x85", "\u2028", "\u2029"}.isdisjoint(
        value
    ):  # PyYAML 6.0.3 writes them as they are: read, they are blanks
        style = '"'
    return dumper.represent_scalar(_TEXT, value, style=style)


_Dumper.add_representer(str, _text)


def _python(value: Any, where: Where, name: str) -> Any:
    """The value as YAML knows it: NumPy's numbers, tuples, ranges, enums and paths are understood, nothing else is."""
    if len(where) > _DEEPEST:
        raise UserError("too deep, or something contains itself", file=name)
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, Real):
        return _python_number(value, where, name)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _python(item, (*where, key), name) for key, item in _text_keys(value, where, name)}
    if isinstance(value, (list, tuple, range)):
        return [_python(item, (*where, i), name) for i, item in enumerate(value)]
    what = f"{dotted(where)}: {type(value).__name__} is not for a sweep; text, numbers, lists and dicts are"
    raise UserError(what, file=name)


def _python_number(value: Real, where: Where, name: str) -> int | float:
    found = int(value) if isinstance(value, Integral) else float(value)
    if not math.isfinite(found) or (isinstance(found, int) and not LEAST <= found <= MOST):
        what = "not finite" if isinstance(found, float) else "more than 64 bits hold"
        raise UserError(f"{dotted(where)}: {repr(found)[:50]} cannot be kept: it is {what}", file=name)
    return found


def _text_keys(value: Mapping[Any, Any], where: Where, name: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if not isinstance(key, str):
            raise UserError(f"{dotted(where)}: a key must be text, not {key!r}", file=name)
        yield str(key), item
