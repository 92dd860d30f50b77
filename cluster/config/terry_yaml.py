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
from typing import Annotated, Any, ClassVar

from terry.cluster.config.node_values import Head, Patience
from terry.cluster.config.nodes import NodesConfig, group_of, nodes_of
from terry.cluster.config.policy import PolicyFile
from terry.cluster.config.typed import Reads, convert, keys_of, show
from terry.cluster.config.yaml_file import Document, Problem, Where
from terry.cluster.config.yaml_file import parse as parse_yaml
from terry.cluster.config.yaml_file import read as read_yaml
from terry.cluster.core.policy import Policy
from terry.cluster.errors import close
from terry.cluster.files.paths import WorkspacePaths


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


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The file as it is written."""

    nodes: dict[str, Annotated[Any, Reads(group_of)]] = field(default_factory=dict)
    head: Head = None
    policy: PolicyFile = field(default_factory=PolicyFile)
    notify: Notify | None = None

    ALSO_CALLED: ClassVar = {"machines": "nodes", "hosts": "nodes", "notifications": "notify", "scheduling": "policy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """All of terry.yaml."""

    notify: Notify | None = None
    policy: Policy = field(default_factory=Policy)
    nodes: NodesConfig = field(default_factory=NodesConfig)


def read(workspace: WorkspacePaths) -> WorkspaceConfig:
    """Read terry.yaml; the defaults where there is none. Raises UserError (file:line, the nearest key), OSError."""
    try:
        return read_file(workspace.config)
    except FileNotFoundError:
        return WorkspaceConfig()


def read_file(file: Path) -> WorkspaceConfig:
    """The configuration that a file is. Raises UserError (file:line, the nearest key), OSError."""
    return _config(read_yaml(file))


def read_nodes(workspace: WorkspacePaths) -> NodesConfig:
    """Where its nodes are, whatever is wrong with the rest of the file. Raises UserError, OSError."""
    try:
        document = read_yaml(workspace.config)
    except FileNotFoundError:
        return NodesConfig()
    given = document.value
    if isinstance(given, dict) and ("nodes" in given or not given):
        # What is mistyped may be `head`: then it is an error here, too.
        unknown = [key for key in given if key not in keys_of(File) and not close(key, ("nodes", "head"))]
        document.value = {key: item for key, item in given.items() if key not in {*unknown, "policy", "notify"}}
    return _config(document).nodes


def parse(text: str, file: Path) -> WorkspaceConfig:
    """The configuration that `text` is. Raises UserError."""
    return _config(parse_yaml(text, str(file)))


def _config(document: Document) -> WorkspaceConfig:
    try:
        found = convert(document.value, File)
        nodes = nodes_of(found.nodes, found.head)
    except Problem as problem:
        raise document.about(problem) from None
    return WorkspaceConfig(notify=found.notify, policy=found.policy.policy, nodes=nodes)
