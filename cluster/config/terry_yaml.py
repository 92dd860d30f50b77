"""terry.yaml, typed: what a person says of the whole workspace. Read when needed, so that a change counts at once.

notify:
  command: mail -s "Terry: $TERRY_SWEEP" lab@example.org     # or a list of arguments, without a shell
  timeout: 30                                                # seconds; then it is ended
  on: [sweep, failure]                                       # a sweep's end; a job's final failure

`policy:` is described in terry.cluster.config.policy, `nodes:` and `head:` in terry.cluster.config.nodes.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from terry.cluster.config.nodes import NodesConfig, nodes_of
from terry.cluster.config.policy import policy_of
from terry.cluster.config.section import Section
from terry.cluster.core.policy import Policy
from terry.cluster.errors import UserError
from terry.cluster.files.paths import Workspace

#: Keys of the file.
KEYS = ("nodes", "head", "policy", "notify")
_NOTIFY_KEYS = ("command", "timeout", "on")


class _Loader(yaml.SafeLoader):
    """PyYAML's, which lets a ValueError through where something looks like a date or a number and is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001 - theirs
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


class Occasion(StrEnum):
    """When somebody is to be told."""

    SWEEP = "sweep"  #: the last job of a sweep has ended
    FAILURE = "failure"  #: a job has failed for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell, and how."""

    command: tuple[str, ...]  #: a program and its arguments; or a line of shell, which is given to `/bin/sh -c`
    timeout_s: float = field(default=30.0, metadata={"key": "timeout"})  #: seconds; then it is ended
    #: when somebody is told
    occasions: frozenset[Occasion] = field(default=frozenset(Occasion), metadata={"key": "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """All of terry.yaml."""

    notify: Notify | None = None
    policy: Policy = field(default_factory=Policy)
    nodes: NodesConfig = field(default_factory=NodesConfig)


def read(workspace: Workspace) -> WorkspaceConfig:
    """Read terry.yaml; the defaults where there is none. Raises UserError (file:line, the nearest key), OSError."""
    try:
        return read_file(workspace.config)
    except FileNotFoundError:
        return WorkspaceConfig()


def read_file(file: Path) -> WorkspaceConfig:
    """The configuration that a file is. Raises UserError (file:line, the nearest key), OSError."""
    return parse(_text(file), file)


def read_nodes(workspace: Workspace) -> NodesConfig:
    """Where its machines are, whatever is wrong with the rest of the file. Raises UserError, OSError."""
    try:
        section = _section(_text(workspace.config), workspace.config)
    except FileNotFoundError:
        section = None
    if section is None:
        return NodesConfig()
    if not section.has("nodes") or any(_is_meant_for_nodes(key) for key in section.values):
        section.allow(KEYS)  # else a mistyped `nodes` would be a file without machines
    return nodes_of(section)


def _is_meant_for_nodes(key: str) -> bool:
    return key not in KEYS and bool(difflib.get_close_matches(key, ("nodes", "head"), n=1))


def parse(text: str, file: Path) -> WorkspaceConfig:
    """The configuration that `text` is. Raises UserError."""
    section = _section(text, file)
    if section is None:
        return WorkspaceConfig()
    section.allow(KEYS)
    notify = _notify(section.part("notify")) if section.has("notify") else None
    policy = policy_of(section.part("policy")) if section.values.get("policy") is not None else Policy()
    return WorkspaceConfig(notify=notify, policy=policy, nodes=nodes_of(section))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"this is not UTF-8: {error.reason}", file=file, line=line) from error


def _section(text: str, file: Path) -> Section | None:
    """The whole file; None where nothing stands in it."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"this is not YAML: {problem}", file=file, line=mark.line + 1 if mark else None) from error
    return None if root is None else Section(root, values, file, "terry.yaml")


def _notify(section: Section) -> Notify:
    section.allow(_NOTIFY_KEYS)
    timeout = section.values.get("timeout", 30.0)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
        raise section.error("timeout", f"must be seconds, above 0 and at most 3600, not {timeout!r}")
    return Notify(command=_command(section), timeout_s=float(timeout), occasions=_occasions(section))


def _command(section: Section) -> tuple[str, ...]:
    command = section.values.get("command")
    if isinstance(command, str) and command.strip():
        return ("/bin/sh", "-c", command)
    if isinstance(command, list) and command and all(isinstance(word, str) and word for word in command):
        return tuple(command)
    raise section.error(
        "command", f"must be a line of shell, or a list of a program and its arguments, not {command!r}"
    )


def _occasions(section: Section) -> frozenset[Occasion]:
    given: Any = section.values.get("on", list(Occasion))
    try:
        return frozenset(Occasion(name) for name in (given if isinstance(given, list) else [given]))
    except (ValueError, TypeError):
        raise section.error("on", f"must be a list of {', '.join(Occasion)}, not {given!r}") from None
