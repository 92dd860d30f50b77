"""What the shell offers after TAB. Silent where something cannot be read: it is only a help. Nothing is ever made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from terry.cluster.files.paths import WorkspacePaths

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader

#: More than this nobody reads.
_MOST = 200

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class Bash(BashComplete):
    """Completion for bash that sees words as a person does.

    bash takes `:` and `=` for ends of words; so click would see `state:f` as three, and bash would put `state:` before
    what is offered once more. Here the line itself is read, and what stands on it already is taken off the offers.
    """

    source_template = """\
%(complete_func)s() {
    local line="${COMP_LINE:0:COMP_POINT}" response completion type value last before
    last="${line##*[[:space:]]}"
    before=""
    case "$last" in *[:=]*) [[ "$COMP_WORDBREAKS" == *[:=]* ]] && before="${last%%"${last##*[:=]}"}" ;; esac
    response=$(env COMP_WORDS="$line" COMP_CWORD=0 %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS= read -r completion; do
        type="${completion%%%%,*}" value="${completion#*,}"
        case "$type" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}")
                   [[ "$value" == *= ]] && compopt -o nospace ;;
        esac
    done <<< "$response"
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    @staticmethod
    def _check_version() -> None:
        """Any bash of this century will do."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and this one."""
        line = os.environ.get("COMP_WORDS", "")
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete


def register() -> None:
    """Let click use our bash completion."""
    add_completion_class(Bash)


def jobs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Sweeps, ensembles and jobs, and the states as `state:failed`."""
    del parameter
    from terry.cluster.core.model import JobState

    found: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        reader = _reader(context)
        known = reader.jobs()
        found = [*(r.job.sweep for r in known.values()), *reader.ensembles(), *known]
    states = (f"state:{state}" for state in JobState)
    return _items([*found, *(states if incomplete.startswith("s") else ())], incomplete)


def devices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Devices that were seen."""
    del parameter
    found: Iterable[str] = ()
    with contextlib.suppress(OSError, ValueError):
        reader = _reader(context)
        reader.jobs()
        found = list(reader.state.devices)
    return _items(found, incomplete)


def labels(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Settings in which runs differ."""
    del parameter
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        found = [key for record in _reader(context).jobs().values() for key in record.job.labels]
    return _items(found, incomplete)


def files_and_datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """After a sweep file its data sets; else files, and the settings of a data set."""
    from terry.data_prep.config import DatasetConfig

    before = list(context.params.get(parameter.name or "") or ())
    if before and str(before[0]).endswith((".yaml", ".yml")):
        return _items(_dataset_names(Path(before[0])), incomplete)
    return [*(_items(_settings(DatasetConfig), incomplete) if before else ()), CompletionItem(incomplete, type="file")]


def jobs_and_settings(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of `change`: jobs, and what can be changed of them."""
    from terry.cluster.client.keeping import CHANGEABLE

    found = [
        item for item in settings(context, parameter, incomplete) if item.value.split(".")[0].rstrip("=") in CHANGEABLE
    ]
    return [*jobs(context, parameter, incomplete), *found]


def settings(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Settings of a run as KEY=, and after `=` the values where there is a choice."""
    del context, parameter
    from terry.jobs.sweeps.spec import RunConfig

    return _items(_settings(RunConfig), incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    fitting = [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
    return [CompletionItem(name) for name in fitting[:_MOST]]


def _reader(context: click.Context) -> Reader:
    from terry.cluster.client.reader import Reader

    given = context.find_root().params.get("workspace") or _given_later()
    return Reader(WorkspacePaths.find(given, os.environ, Path.cwd()))


def _given_later() -> str | None:
    """The workspace where it is named after the verb, as the shell has the line."""
    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-w", "--workspace"}:
            return following or None
        if word.startswith("--workspace="):
            return word.partition("=")[2] or None
    return None


def _dataset_names(file: Path) -> list[str]:
    from terry.cluster.config.yaml_file import read
    from terry.cluster.errors import UserError

    try:
        content = read(file).value
    except (OSError, UserError):
        return []
    found = content.get("datasets") if isinstance(content, dict) else None
    return [str(name) for name in found] if isinstance(found, dict) else []


def _settings(kind: type) -> Iterator[str]:
    """`model.cell=gru` for each choice of a setting; `optimizer.lr=` where there is none."""
    from terry.cluster.config.typed import choices_at, fields_of

    def below(kind: Any, path: tuple[str, ...]) -> Iterator[str]:
        for name, inner in fields_of(kind).items():
            here = (*path, name)
            if fields_of(inner):
                yield from below(inner, here)
            else:
                key = ".".join(here)
                yield from [f"{key}={value}" for value in choices_at(inner)] or [f"{key}="]

    return below(kind, ())
