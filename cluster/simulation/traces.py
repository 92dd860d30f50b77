"""What a simulation is fed with: nodes as people write them, and traces of jobs (CSV), public cluster traces included.

A trace has a header. Columns are known by these names, or by those of the published traces of Helios (SenseTime; Hu et
al., SC '21) and of Alibaba's GPU cluster (Weng et al., USENIX ATC '23):

    submitted   seconds, or a date and time       submit_time, creation_time
    seconds     how long the job ran              duration; or end_time - start_time, deletion_time - scheduled_time
    user, sweep                                   vc (Helios' virtual cluster) is the sweep
    gpus, cpus  what it asks for                  gpu_num, num_gpu (with gpu_milli), cpu_num, cpu_milli
    priority, memory_gb, device                   gpu_spec
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from terry.cluster.core.model import Device, DeviceKind, Job, Resources, RetryPolicy, SpecRef
from terry.cluster.errors import UserError
from terry.cluster.simulation.engine import START, Arrival

_NODES = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)=)?(?P<nodes>\d+)x(?P<devices>\d+)(?::(?P<model>[^@]+))?(?:@(?P<speed>\d+(?:\.\d+)?))?"
)
_MOST_DEVICES = 100_000
#: Beyond these (seconds) is no time of a trace, but milliseconds or a mistake; and no job runs for thirty years.
_LATEST_S, _LONGEST_S = 1e11, 1e9

_ALIASES: dict[str, tuple[str, ...]] = {
    "submitted": ("submitted", "submit_time", "creation_time"),
    "seconds": ("seconds", "duration"),
    "begin": ("start_time", "scheduled_time"),
    "end": ("end_time", "deletion_time"),
    "user": ("user",),
    "sweep": ("sweep", "vc"),
    "gpus": ("gpus", "gpu_num", "num_gpu"),
    "gpu_milli": ("gpu_milli",),
    "cpus": ("cpus", "cpu_num"),
    "cpu_milli": ("cpu_milli",),
    "priority": ("priority",),
    "memory_gb": ("memory_gb",),
    "device": ("device", "gpu_spec"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Devices of a made-up cluster, and how fast each model is."""

    devices: tuple[Device, ...]
    speeds: dict[str, float]


def nodes_of(texts: Iterable[str]) -> Nodes:
    """`128x8`: 128 nodes with 8 GPUs. `a100=16x4:A100@2`: names, model, and twice the speed. `4x0`: 16 cores, no GPU.

    Raises UserError.
    """
    devices: list[Device] = []
    speeds: dict[str, float] = {}
    for number, text in enumerate(texts, 1):
        match = _NODES.fullmatch(text.strip())
        if match is None:
            raise UserError(f"{text!r} names no nodes; write NODESxGPUS, such as 128x8, or NAME=NODESxGPUS:MODEL@SPEED")
        name, model = match["name"] or (f"node{number}-" if number > 1 else "node"), match["model"] or ""
        count, each = int(match["nodes"]), int(match["devices"])
        total = count * (each + 1)
        if not 1 <= total <= _MOST_DEVICES:
            raise UserError(f"{text!r}: that is {total:,} devices; 1 to {_MOST_DEVICES:,} can be simulated")
        if match["speed"]:
            if not float(match["speed"]):
                raise UserError(f"{text!r}: a speed must be above 0")
            speeds[model] = float(match["speed"])
        devices += [device for i in range(count) for device in _node(f"{name}{i + 1:03d}", each, model)]
    seen = [device.id for device in devices]
    if len(set(seen)) != len(seen):
        raise UserError("two kinds of nodes have the same names; give each its own: a=16x4 b=8x8")
    return Nodes(devices=tuple(devices), speeds=speeds)


def _node(name: str, gpus: int, model: str, cores: float = 16.0) -> list[Device]:
    incarnation = f"{name}@1"
    cpu = Device(id=f"{name}:cpu", node=name, node_id=incarnation, kind=DeviceKind.CPU, capacity=cores)
    return [
        cpu,
        *(
            Device(id=f"{name}:{i}", node=name, node_id=incarnation, kind=DeviceKind.GPU, capacity=1.0, model=model)
            for i in range(gpus)
        ),
    ]


def made_up_job(job_id: str, sweep: str, resources: Resources, **details: object) -> Job:
    """A job that exists in a simulation only."""
    return Job(
        id=job_id,
        sweep=sweep,
        kind="train",
        identity=job_id,
        entrypoint="simulated:job",
        resources=resources,
        spec=SpecRef(path="simulated", offset=0, length=1),
        submitted_at=START,
        retry=RetryPolicy(crash=1000),
        **details,  # type: ignore[arg-type]
    )


def read_trace(path: Path) -> list[Arrival]:
    """The jobs of a trace, in order of submission, from second 0. Raises UserError (file:line), OSError.

    A job of several GPUs becomes as many jobs of one GPU: here a job has one device. Jobs that never ran are left out.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            line: int | None = None
            columns = _columns(reader.fieldnames or (), path)
            rows = []
            for row in reader:
                line = reader.line_num
                rows.append((line, row))
    except FileNotFoundError:
        raise UserError("there is no such trace", file=path) from None
    except csv.Error as error:
        raise UserError(f"this is not CSV: {error}", file=path, line=(line or 1) + 1) from error
    except UnicodeError as error:
        raise UserError(f"this is not CSV: {error}", file=path) from error
    arrivals = [arrival for line, row in rows for arrival in _Row(path, line, row, columns).arrivals()]
    if not arrivals:
        raise UserError("no job of it ran for any time", file=path)
    arrivals.sort(key=lambda arrival: arrival.at_s)
    first = arrivals[0].at_s
    return [_moved(arrival, arrival.at_s - first) for arrival in arrivals]


def _moved(arrival: Arrival, at_s: float) -> Arrival:
    return Arrival(at_s=at_s, job=arrival.job, seconds=arrival.seconds, memory_bytes=arrival.memory_bytes)


def _columns(names: Iterable[str], path: Path) -> dict[str, str]:
    there = list(names)
    found = {field: next((a for a in aliases if a in there), "") for field, aliases in _ALIASES.items()}
    columns = {field: name for field, name in found.items() if name}
    if "submitted" not in columns or not ("seconds" in columns or {"begin", "end"} <= set(columns)):
        raise UserError(
            f"a trace needs the columns `submitted` and `seconds`; this one has: {', '.join(there) or 'nothing'}",
            file=path,
            line=1,
        )
    return columns


class _Row:
    """One line of a trace."""

    def __init__(self, path: Path, line: int, row: Mapping[str, str | None], columns: Mapping[str, str]) -> None:
        self._path, self._line, self._row, self._columns = path, line, row, columns

    def arrivals(self) -> Iterator[Arrival]:
        """The jobs that it stands for."""
        if None in self._row or None in self._row.values():  # what the csv module makes of too many, and of too few
            raise UserError("has another number of values than the header has names", file=self._path, line=self._line)
        if "seconds" in self._columns:
            seconds = self._number("seconds", most=_LONGEST_S)
        elif not self._text("begin") or not self._text("end"):
            return  # it never ran
        else:
            seconds = self._time("end") - self._time("begin")
        if not seconds > 0:
            return
        if seconds > _LONGEST_S:
            raise self._error("end", f"cannot be {seconds:g} s after the begin")
        at = self._time("submitted")
        user, sweep = self._text("user") or "user", self._text("sweep") or "trace"
        memory = int(self._number("memory_gb") * 1e9) if self._text("memory_gb") else 0
        priority = self._priority() if self._text("priority") else 0
        for part, resources in enumerate(self._resources()):
            job = made_up_job(f"trace-{self._line}-{part}", sweep, resources, owner=user, priority=priority)
            yield Arrival(at_s=at, job=job, seconds=seconds, memory_bytes=memory)

    def _resources(self) -> list[Resources]:
        gpus = self._number("gpus", most=_MOST_DEVICES) if self._text("gpus") else 0.0
        if gpus <= 1.0 and self._text("gpu_milli") and gpus:
            gpus = self._number("gpu_milli") / 1000.0
        if gpus:
            device = self._device()
            many = max(1, math.ceil(gpus))
            return [Resources(gpus=min(1.0, gpus), device=device)] * many
        cpus = self._number("cpus") if self._text("cpus") else 0.0
        if not cpus and self._text("cpu_milli"):
            cpus = self._number("cpu_milli") / 1000.0
        return [Resources(cpus=cpus or 1.0)]

    def _priority(self) -> int:
        text = self._text("priority")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (abs(value) < 1e9 and value == int(value)):
            raise self._error("priority", f"must be a whole number, not {text!r}")
        return int(value)

    def _device(self) -> str | None:
        named = self._text("device")
        return None if not named or named == "nan" or "|" in named else named

    def _text(self, field: str) -> str:
        name = self._columns.get(field)
        return (self._row.get(name) or "").strip() if name else ""

    def _number(self, field: str, most: float = 1e12) -> float:
        text = self._text(field)
        try:
            value = float(text)
        except ValueError:
            raise self._error(field, f"must be a number, not {text!r}") from None
        if not 0 <= value <= most:
            raise self._error(field, f"cannot be {text}")
        return value

    def _time(self, field: str) -> float:
        text = self._text(field)
        try:
            value = float(text)
        except ValueError:
            value = self._moment(field, text)
        if not -_LATEST_S <= value <= _LATEST_S:
            raise self._error(field, f"cannot be {text}: it is in seconds")
        return value

    def _moment(self, field: str, text: str) -> float:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(field, f"must be seconds, or a date and time, not {text!r}") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def _error(self, field: str, what: str) -> UserError:
        return UserError(f"{self._columns[field]} {what}", file=self._path, line=self._line)
