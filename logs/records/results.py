"""What finished runs found out: result.json of each, as figures for views and as a table."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from terry.cluster.core.model import EndReason, JobRecord, JobState, Marks
from terry.cluster.files.paths import Run
from terry.logs.format import Column, count, duration, figure, narrowed, short, table
from terry.logs.records.values import as_count, as_float, decode, read_measured, unpack

#: Figures in the order in which they stand; whatever else a result holds comes after them (not in the table).
_FIGURES = ("loss", "valid_loss", "test_loss", "perplexity", "steps", "epoch", "seconds", "tokens_per_s")
#: Those of the table for people. The best validation and its perplexity are of one moment, whose weights are used.
_IN_TABLE = ("best_loss", "loss", "valid_loss", "test_loss", "perplexity", "steps", "epoch", "seconds", "tokens_per_s")
#: Of the last moment: left out of the table where the best one is told.
_LAST = frozenset({"loss", "valid_loss"})
#: What our own trainings say besides, which is for files.
_FOR_FILES = frozenset({"best_step", "rollbacks", "parameters", *_LAST})
#: Columns that a narrow terminal goes without, the first goes first; the id begins with the sweep.
_SPARE = ("SWEEP", "RESTARTS", "DEVICE", "TOKENS_PER_S", "EPOCH", "STEPS", "SECONDS")
#: Keys of result.json that say nothing of the run's outcome.
_ABOUT = {"job", "attempt", "finished_at", "step"}
#: Columns that say which run it is and how it went: a figure of a run's own that is called so gets a prefix.
_IDENTITY = {"id", "sweep", "state", "end_reason", "seconds", "device", "attempts", "restarts"}

_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """Figures of a job that does not run now: from its result, else from what it measured last."""

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    valid_loss: float | None = None
    tokens_per_s: float | None = None


def read_result(run: Run) -> dict[str, Any]:
    """The run's result.json; empty where there is none (yet)."""
    try:
        with open(run.result, "rb") as stream:  # noqa: PTH123  (read ten thousand times in a row)
            found = decode(stream.read())
    except (FileNotFoundError, IsADirectoryError, PermissionError):  # of another of the group: `doctor` names it
        return {}
    return {} if found is None else {key: unpack(value) for key, value in found.items()}


def read_outcome(run: Run, record: JobRecord) -> JobOutcome:
    """Figures of a job that does not run: from its result, else from what its newest attempt measured last."""
    found = read_result(run) if record.state is JobState.COMPLETED else {}
    found = found or _last_measured(run, record)
    step = as_count(found.get("step"))
    total = step if record.state is JobState.COMPLETED else None
    return JobOutcome(
        step=step,
        total_steps=as_count(found.get("total_steps")) or total,
        epoch=as_float(found.get("epoch")),
        loss=as_float(found.get("loss", found.get("train_loss"))),
        valid_loss=as_float(found.get("valid_loss")),
        tokens_per_s=as_float(found.get("tokens_per_s")),
    )


def _last_measured(run: Run, record: JobRecord) -> dict[str, Any]:
    """The last complete lines of the newest attempt's metrics, later ones over earlier ones. Reads a few KiB."""
    try:
        with open(run.attempt(record.attempt).metrics, "rb") as stream:  # noqa: PTH123  (speed)
            length = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, length - _TAIL_BYTES))
            lines = stream.read().split(b"\n")[1 if length > _TAIL_BYTES else 0 : -1]
    except (FileNotFoundError, IsADirectoryError, PermissionError):  # of another of the group: `doctor` names it
        return {}
    merged: dict[str, Any] = {}
    for line in lines:
        found = decode(line) or {}  # else torn by a crash of the node
        merged |= {key: read_measured(value) for key, value in found.items() if value is not None}
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One run that has ended."""

    id: str
    sweep: str
    state: JobState
    labels: dict[str, str]  #: the settings in which the runs of its sweep differ
    figures: dict[str, Any]  #: what it found out: numbers and text, by name
    device: str | None
    attempts: int
    restarts: int
    end_reason: EndReason | None = None  #: of the newest attempt that ended
    kind: str = "train"  #: of job
    marks: Marks = field(default_factory=Marks)  #: what people have said of it

    def flat(self) -> dict[str, Any]:
        """One mapping, as CSV, JSON and Parquet have it. A setting called like a column gets the prefix `setting.`.

        A figure of a run's own result that is called like one of our columns gets the prefix `result.`.
        """
        reason = None if self.end_reason is None else str(self.end_reason)
        first = {"id": self.id, "sweep": self.sweep, "state": str(self.state), "end_reason": reason}
        last = {"device": self.device, "attempts": self.attempts, "restarts": self.restarts}
        figures = {(f"result.{key}" if key in first or key in last else key): v for key, v in self.figures.items()}
        taken = {*first, *figures, *last}
        settings = {(f"setting.{key}" if key in taken else key): typed(text) for key, text in self.labels.items()}
        return first | settings | figures | last | self._said({*first, *settings, *figures, *last})

    def _said(self, taken: set[str]) -> dict[str, Any]:
        """Note, tags and star, where there are any."""
        marks = self.marks
        said = {"note": marks.note or None, "tags": " ".join(marks.tags) or None, "starred": marks.starred or None}
        return {(f"job.{key}" if key in taken else key): value for key, value in said.items() if value}


def result_row(record: JobRecord, result: dict[str, Any]) -> ResultRow:
    """The row of a run that has ended."""
    about = _ABOUT | {"device"} if record.job.entrypoint.startswith("terry.jobs.") else _ABOUT  # ours say it again
    plain = {_escaped(k): _escaped(v) for k, v in result.items() if k not in about and _is_plain(v)}
    found = {(f"result.{key}" if key in _IDENTITY else key): value for key, value in plain.items()}
    if "train_loss" in found:  # the metrics call it `loss`
        found.setdefault("loss", found.pop("train_loss"))
    found.setdefault("steps", as_count(result.get("step")))
    found.setdefault("seconds", _seconds(record))
    if "perplexity" not in found and about != _ABOUT:  # of other code's losses nobody knows whether they are nats
        found["perplexity"] = _perplexity(found)
    ordered = [*_FIGURES, *(key for key in found if key not in _FIGURES)]
    return ResultRow(
        id=record.job.id,
        sweep=record.job.sweep,
        state=record.state,
        kind=record.job.kind,
        labels=record.job.labels,
        figures={key: found[key] for key in ordered if key in found},
        device=record.attempts[-1].device if record.attempts else None,
        attempts=record.attempt,
        restarts=record.restarts,
        end_reason=next((a.end.reason for a in reversed(record.attempts) if a.end), None),
        marks=record.marks,
    )


def typed(text: str) -> str | float | bool | None:
    """A setting's value as it was before it was written into a label: a number again, true, false or nothing."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if _is_plain(value) and not isinstance(value, str) else text


def _escaped(value: Any) -> Any:
    """Text that every table and file can hold."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return False  # no table holds it; it stands in result.json
    return value is None or isinstance(value, int | float | str | bool)


def _seconds(record: JobRecord) -> float:
    """How long all attempts ran."""
    spans = [(a.ended_at - (a.started_at or a.placed_at)).total_seconds() for a in record.attempts if a.ended_at]
    return round(sum(spans), 3)


def _perplexity(figures: dict[str, Any]) -> float | None:
    """exp of the validation loss in nats a token, else of the training loss."""
    loss = _first_number(figures, "valid_loss", "loss")
    return math.exp(loss) if loss is not None and loss < 700 else None


def _first_number(figures: dict[str, Any], *names: str) -> float | None:
    return next((number for name in names if (number := as_float(figures.get(name))) is not None), None)


def columns_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The columns of a table of flat rows: each where the first row that has it puts it, the ends at the end."""
    last = ("device", "attempts", "restarts")
    present = dict.fromkeys(key for row in rows for key in row)
    return [*(key for key in present if key not in last), *(key for key in last if key in present)]


def result_lines(rows: Sequence[ResultRow], *, width: int | None = None) -> list[str]:
    """The table for people: settings and the usual figures."""
    if not rows:
        return []
    settings = dict.fromkeys(key for row in rows for key in row.labels)
    figures = _shown(rows)
    several = len({row.sweep for row in rows}) > 1
    not_all_alike = any(_ended(row) != JobState.COMPLETED for row in rows)
    titles = ["id", *(["sweep"] if several else []), *(["state"] if not_all_alike else []), *settings]
    columns = [Column(title=title.upper()) for title in titles]
    columns += [Column(title=name.upper(), right=True) for name in figures]
    columns += [Column(title="DEVICE"), Column(title="RESTARTS", right=True)]
    said = any(words_of(row.marks) for row in rows)
    columns += [Column(title="NOTE")] if said else []
    cells = []
    for row in rows:
        first = [row.id, *([row.sweep] if several else []), *([_ended(row)] if not_all_alike else [])]
        middle = [
            *(row.labels.get(key, "-") for key in settings),
            *(figure_cell(n, row.figures.get(n)) for n in figures),
        ]
        note = [words_of(row.marks)] if said else []
        cells.append([*first, *middle, row.device or "-", str(row.restarts), *note])
    columns, cells = narrowed(columns, cells, width, _SPARE, last=len("RESTARTS"))
    return table(columns, cells, width=width)


def _shown(rows: Sequence[ResultRow]) -> list[str]:
    """The figures of the table: the usual ones, then numbers of people's own."""
    found = dict.fromkeys(name for row in rows for name, value in row.figures.items() if value is not None)
    told = all("best_loss" in row.figures or row.figures.get("valid_loss") is None for row in rows)
    left_out = _LAST if told and "best_loss" in found else frozenset()
    usual = [name for name in _IN_TABLE if name in found and name not in left_out]
    own = [name for name in found if name not in {*_IN_TABLE, *_FOR_FILES} and _is_number(rows, name)]
    return usual + own


def _is_number(rows: Sequence[ResultRow], name: str) -> bool:
    return all(isinstance(row.figures.get(name), int | float | None) for row in rows)


def words_of(marks: Marks) -> str:
    """What people have said of a job, in short: a star, tags, the note."""
    return " ".join(["*"] * marks.starred + [f"#{tag}" for tag in marks.tags] + [marks.note] * bool(marks.note))


def _ended(row: ResultRow) -> str:
    """The state, or that the run was completed before its end."""
    early = row.state is JobState.COMPLETED and row.end_reason is EndReason.STOPPED_EARLY
    return "stopped early" if early else str(row.state)


def figure_cell(name: str, value: object) -> str:
    """A figure of a result as people read it."""
    if name == "seconds":
        return duration(as_float(value))
    if isinstance(value, float):
        return short(value) if name in {"tokens_per_s", "epoch"} else figure(value)
    return "-" if value is None else count(value) if isinstance(value, int) else str(value)


def best_first(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Rows by the lowest validation loss, whose weights are used; without one by training loss; without any last."""
    return sorted(rows, key=_quality)


def _quality(row: ResultRow) -> tuple[bool, float]:
    loss = _first_number(row.figures, "best_loss", "valid_loss", "loss")
    return (True, 0.0) if loss is None or not math.isfinite(loss) else (False, loss)
