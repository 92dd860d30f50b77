"""terry.yaml, typed: what a person says of the whole workspace. Read when needed, so that a change counts at once.

notify:
  command: mail -s "Terry: $TERRY_SWEEP" lab@example.org     # or a list of arguments, without a shell
  timeout: 30                                                # seconds; then it is ended
  on: [sweep, failure]                                       # a sweep's end; a job's final failure

`policy:` is described in terry.cluster.config.policy, `nodes:` and `head:` in terry.cluster.config.nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from terry.cluster.config.typed import Patience, Reads, convert, keys_of, show
from terry.cluster.config.yaml_file import Document, Where
from terry.cluster.config.yaml_file import parse as parse_yaml
from terry.cluster.config.yaml_file import read as read_yaml
from terry.cluster.core.policy import Policy
from terry.cluster.errors import close
from terry.cluster.files.paths import WorkspacePaths

if TYPE_CHECKING:
    from terry.cluster.config.nodes import Group, NodesConfig


class Occasion(StrEnum):
    """When somebody is to be told."""

    SWEEP = "sweep"  #: the last job of a sweep has ended
    FAILURE = "failure"  #: a job has failed for good


def _command(value: Any, _: Where) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", str(value))
    if isinstance(value, list) and value and all(isinstance(word, str) and word for word in value):
        return tuple(str(word) for word in value)
    raise ValueError(f"must be a line of shell, or a list of a program and its arguments, not {show(value)}")


def _occasions(value: Any, _: Where) -> list[str]:
    found = [str(name) for name in (value if isinstance(value, list) else [value])]
    if not set(found) <= {*Occasion}:
        raise ValueError(f"must be a list of {', '.join(Occasion)}, not {show(value)}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell, and how."""

    #: a program and its arguments; or a line of shell, which is given to `/bin/sh -c`
    command: Annotated[tuple[str, ...], Reads(_command)]
    #: seconds; then it is ended
    timeout_s: Patience = field(default=30.0, metadata={"key": "timeout"})
    #: when somebody is told
    occasions: Annotated[frozenset[Occasion], Reads(_occasions)] = field(
        default=frozenset(Occasion), metadata={"key": "on"}
    )


# Imported with the section that they read: `watch` needs the policy alone.


def _group(value: Any, path: Where) -> Group:
    from terry.cluster.config.nodes import group_of

    return group_of(value, path)


def _head(value: Any, _: Where) -> str | None:
    from terry.cluster.config.node_values import head_of

    return head_of(value)


def _policy(value: Any, path: Where) -> Policy:
    from terry.cluster.config.policy import PolicyFile

    return convert(value, PolicyFile, path).policy


def _no_nodes() -> NodesConfig:
    from terry.cluster.config.nodes import NodesConfig

    return NodesConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The file as it is written."""

    nodes: dict[str, Annotated[Any, Reads(_group)]] = field(default_factory=dict)
    head: Annotated[Any, Reads(_head)] = None
    policy: Annotated[Any, Reads(_policy)] = field(default_factory=Policy)
    notify: Notify | None = None

    ALSO_CALLED: ClassVar = {"machines": "nodes", "hosts": "nodes", "notifications": "notify", "scheduling": "policy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """All of terry.yaml."""

    notify: Notify | None = None
    policy: Policy = field(default_factory=Policy)
    nodes: NodesConfig = field(default_factory=_no_nodes)


def read(workspace: WorkspacePaths) -> WorkspaceConfig:
    """Read terry.yaml; the defaults where there is none. Raises UserError (file:line, the nearest key), OSError."""
    return _config(_document(workspace))


def read_file(file: Path) -> WorkspaceConfig:
    """The configuration that a file is. Raises UserError (file:line, the nearest key), OSError."""
    return _config(read_yaml(file))


def read_nodes(workspace: WorkspacePaths) -> NodesConfig:
    """Where its nodes are, whatever is wrong with the rest of the file. Raises UserError, OSError."""
    return _config(_part(_document(workspace), "nodes", "head")).nodes


def read_policy(workspace: WorkspacePaths) -> Policy:
    """The policy, whatever is wrong with the rest of the file. Raises UserError, OSError."""
    document = _part(_document(workspace), "policy")
    with document.problems():
        found: Policy = convert(document.value, File).policy
    return found


def parse(text: str, file: Path) -> WorkspaceConfig:
    """The configuration that `text` is. Raises UserError."""
    return _config(parse_yaml(text, str(file)))


def _document(workspace: WorkspacePaths) -> Document:
    try:
        return read_yaml(workspace.config)
    except FileNotFoundError:
        return Document(str(workspace.config), None)


def _part(document: Document, *wanted: str) -> Document:
    """The file without its other sections. What may be one of these, mistyped, stays, and is a mistake."""
    given = document.value
    if isinstance(given, dict):
        others = [key for key in given if key not in wanted and (key in keys_of(File) or wanted[0] in given)]
        kept = [key for key in others if key not in keys_of(File) and close(key, wanted)]
        document.value = {key: item for key, item in given.items() if key not in others or key in kept}
    return document


def _config(document: Document) -> WorkspaceConfig:
    with document.problems():
        found = convert(document.value, File)
        if not found.nodes and found.head is None:
            return WorkspaceConfig(notify=found.notify, policy=found.policy)
        from terry.cluster.config.nodes import nodes_of

        return WorkspaceConfig(notify=found.notify, policy=found.policy, nodes=nodes_of(found.nodes, found.head))
