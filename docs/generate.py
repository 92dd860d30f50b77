"""Fills in the parts of the documentation that are the program's own words, when it is built (a hook of MkDocs).

A line of a page such as

    <!-- settings: terry.jobs.sweeps.spec:DataConfig run.data -->

is replaced by a table of that dataclass's settings: key, kind of value, default, and the `#:` comment of the field.
`<!-- commands -->` becomes every verb of the command line, `<!-- api: terry.cluster.api:Workspace -->` a class with its
methods, `<!-- module: terry.cluster.config.terry_yaml -->` a module's docstring, its paragraphs of YAML as code,
`<!-- screen: tests/... -->` a screen that a test compares with what is drawn. Built anew each time, so that no page can
be older than the program.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
import msgspec

from terry.cluster.config.described import as_yaml, default_of, field_comments

_MARK = re.compile(r"^<!-- (settings|commands|api|module|screen)(?:: (.+?))? -->$", re.MULTILINE)
_ROOT = Path(__file__).parent.parent
_WIDE = 70
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "", Any: "anything"}


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for each page."""
    return _MARK.sub(lambda match: _generate(match[1], (match[2] or "").split()), markdown)


def _generate(what: str, words: list[str]) -> str:
    if what == "commands":
        return "\n".join(command_lines())
    if what == "screen":
        return "\n".join(["```text", *(_ROOT / words[0]).read_text().rstrip().splitlines(), "```"])
    if what == "module":
        return "\n".join(module_lines(importlib.import_module(words[0]).__doc__ or ""))
    named = _named(words[0])
    if what == "api":
        return "\n".join(api_lines(named))
    return "\n".join(settings_lines(named, words[1] if len(words) > 1 else ""))


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def module_lines(text: str) -> list[str]:
    """A module's docstring as Markdown: paragraphs of YAML, which begin with `key:`, as code."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        is_code = re.match(r"[a-z_]+:( |$)", paragraph.splitlines()[0])
        lines += ["```yaml", paragraph, "```", ""] if is_code else [paragraph, ""]
    return lines


# settings


def settings_lines(config: type, prefix: str = "") -> list[str]:
    """A table of a configuration's settings. A field's metadata `key` is what it is called in the file.

    prefix: where they stand in the file; sections below it are headed by their whole name. What a class inherits is
    shown where it comes from.
    """
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    comments, hints = field_comments(config), typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        rest = field.metadata.get("rest")
        key = f"{rest}*" if rest else field.metadata.get("key", field.name)
        own = field.name in inspect.get_annotations(config)
        if not key or not field.compare or not own:  # nothing that stands in a file, or stands there already
            continue
        name = f"{prefix}.{key}" if prefix else key
        kind, meaning = hints[field.name], comments.get(field.name, "")
        meanings = [meaning, *(f"`{value}`: {text}" if text else f"`{value}`" for value, text in _choices(kind))]
        cells = [f"`{key}`", kind_words(kind, name), _default(field), "<br>".join(filter(None, meanings))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def kind_words(kind: Any, name: str = "") -> str:
    """What may stand there, in words; settings of their own are a link to the section of that name."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(words for words in (kind_words(k, name) for k in inner) if words)
    if origin in {list, tuple, frozenset, collections.abc.Sequence}:
        return (
            "list"
            if inner[0] is Any or _is_enum(inner[0])
            else f"list of {kind_words(inner[0]).replace('number', 'numbers')}"
        )
    if origin is dict:
        return f"[settings](#{_slug(f'{name}.NAME')}) by name" if dataclasses.is_dataclass(inner[1]) else "mapping"
    if dataclasses.is_dataclass(kind):
        return f"[settings](#{_slug(name)})"
    if _is_enum(kind):
        return "one of"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _slug(heading: str) -> str:
    """The anchor that MkDocs gives to a heading."""
    return re.sub(r"[^\w-]", "", heading).lower()


def _choices(kind: Any) -> Iterator[tuple[str, str]]:
    """The values of an enumeration, with their comments."""
    for option in (kind, *typing.get_args(kind)):
        if _is_enum(option):
            comments = field_comments(option)
            yield from ((member.value, comments.get(name, "")) for name, member in option.__members__.items())


def _default(field: dataclasses.Field[Any]) -> str:
    value = default_of(field)
    if value is dataclasses.MISSING:
        return "needed"
    if dataclasses.is_dataclass(value):
        return ""
    text = as_yaml(msgspec.to_builtins(sorted(value) if isinstance(value, frozenset) else value))
    return f"`{text}`" if text else ""


# the command line


def command_lines() -> list[str]:
    """Every verb: how it is called, what it does, its options."""
    from terry.cluster.cli.main import PROGRAM, VERBS, main

    lines = ["## Before every verb", "", *_options(main, click.Context(main, info_name=PROGRAM)), ""]
    for verb in VERBS:
        context = click.Context(verb, info_name=f"{PROGRAM} {verb.name}")
        usage = context.get_usage().removeprefix("Usage: ").split()
        lines += [f"## {verb.name}", "", "```text", " ".join(usage), "```", ""]
        lines += [*_help(verb.help or ""), "", *_options(verb, context), ""]
    return lines


def _help(text: str) -> list[str]:
    """The help of a verb as Markdown; what follows `Example:` as code."""
    lines: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        word, colon, code = line.strip().partition(": ")
        if word in {"Example", "Examples"} and colon:
            lines += ["", "```sh", code, "```"]
        elif line.strip() != "\b":
            lines.append(_escaped(line.strip()))
    return lines


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [p.get_help_record(context) for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [
        f"| `{_cell(names)}` | {_escaped(_cell(words))} |"
        for names, words in filter(None, records)
        if "--help" not in names
    ]
    return ["| option | |", "|---|---|", *rows] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


# classes


def api_lines(owner: type) -> list[str]:
    """A class with its public methods and fields, from its docstrings and signatures."""
    lines = [*_docstring(owner.__doc__), ""]
    comments = field_comments(owner)
    if comments and not issubclass(owner, Enum):
        kinds = inspect.get_annotations(owner)
        rows = [[f"`{name}`", f"`{kinds[name]}`", text] for name, text in comments.items()]
        lines += ["| field | type | |", "|---|---|---|"]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows] + [""]
    for name, member in vars(owner).items():
        if not name.startswith("_"):
            lines += _member(owner.__name__, name, member)
    return lines


def _member(owner: str, name: str, member: object) -> list[str]:
    if isinstance(member, property):
        head, text = f"{owner}.{name}", member.__doc__
    elif isinstance(member, (types.FunctionType, classmethod)):
        function = member.__func__ if isinstance(member, classmethod) else member
        signature = str(inspect.signature(function)).replace("'", "")
        signature = re.sub(r"^\((self|cls)(, )?", "(", signature)
        if len(signature) > _WIDE:
            signature = _one_a_line(signature)
        head, text = f"{owner}.{name}{signature}", function.__doc__
    else:
        return []
    return [f"### `{name}`", "", "```python", head, "```", "", *_docstring(text), ""]


def _one_a_line(signature: str) -> str:
    """A signature with a parameter a line."""
    parts = re.split(r", (?=\*|\w+:)", signature.partition("(")[2].rpartition(") ->")[0])
    return "(\n" + "".join(f"    {part},\n" for part in parts) + ") ->" + signature.rpartition(") ->")[2]


def _docstring(text: str | None) -> list[str]:
    """A docstring as Markdown: each paragraph's lines that begin with `name:` on their own; code after `::`."""
    lines: list[str] = []
    for line in inspect.cleandoc(text or "").splitlines():
        starts = re.match(r"[a-z_]+(, [a-z_]+)*: |Raises ", line)
        lines += (
            ["", line] if starts and lines and lines[-1] else [line.removesuffix(":") if line.endswith("::") else line]
        )
    return lines
