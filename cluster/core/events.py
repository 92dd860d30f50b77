"""Events: all that can happen to the queue; Commands: all that it can ask of the world. With their JSON codec.

An event is written to the journal before anything is done about it. Types are told apart by the tag `type`; fields may
be added with a default, so that an old journal can always be read.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

import msgspec

from terry.cluster.core.model import Allocation, AttemptEnd, Device, Job, Resources, RetryPolicy, StopGoal

#: Version of the journal's and the snapshot's format. All that were ever released are read for ever
#: (tests/data/workspaces). 2: lines of a commit of several say which commit it is.
FORMAT_VERSION = 2
#: The oldest that is read.
OLDEST_FORMAT = 1


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """What every event carries."""

    time: datetime  #: aware, UTC: when the controller learnt of it


class ControllerStarted(_Event, frozen=True, kw_only=True, tag=True):
    """A controller took the workspace: the first event of each epoch."""

    epoch: int
    host: str
    pid: int


class PolicyApplied(_Event, frozen=True, kw_only=True, tag=True):
    """The workspace's policy says something else of how use is counted and jobs are ordered."""

    half_life_s: float  #: of what was used
    longest_first: bool = True


class Submitted(_Event, frozen=True, kw_only=True, tag=True):
    """A job was submitted: to WAITING, PENDING or HELD."""

    job: Job
    earlier_attempts: int = 0  #: see JobRecord


class SubmissionTaken(_Event, frozen=True, kw_only=True, tag=True):
    """All jobs of one submission folder stand in the journal before this event."""

    sweep: str
    number: int
    request: str


class RequestHandled(_Event, frozen=True, kw_only=True, tag=True):
    """A message of the inbox was acted on: what follows from it stands in the journal before this event."""

    request: str
    note: str = ""  #: what was done, for people: `cancelled 3 jobs; 2 had ended already`


class DependenciesMet(_Event, frozen=True, kw_only=True, tag=True):
    """The last dependency of a WAITING job is COMPLETED."""

    job_id: str


class DependencyFailed(_Event, frozen=True, kw_only=True, tag=True):
    """A dependency of a WAITING job FAILED or was CANCELLED."""

    job_id: str
    dependency: str


class Held(_Event, frozen=True, kw_only=True, tag=True):
    """A PENDING or WAITING job is held back."""

    job_id: str
    reason: str


class Released(_Event, frozen=True, kw_only=True, tag=True):
    """A HELD job may go on."""

    job_id: str


class Placed(_Event, frozen=True, kw_only=True, tag=True):
    """A share of a device is granted: attempt + 1."""

    job_id: str
    attempt: int
    allocation: Allocation


class AttemptStarted(_Event, frozen=True, kw_only=True, tag=True):
    """The attempt's process runs."""

    job_id: str
    attempt: int
    pid: int


class LaunchFailed(_Event, frozen=True, kw_only=True, tag=True):
    """The attempt's process could not be started, or its device is not usable."""

    job_id: str
    attempt: int
    message: str
    blocked: bool = False  #: by somebody else who uses the device: it costs the job nothing


class AttemptEnded(_Event, frozen=True, kw_only=True, tag=True):
    """The attempt's process is gone: confirmed."""

    job_id: str
    attempt: int
    end: AttemptEnd


class CancelRequested(_Event, frozen=True, kw_only=True, tag=True):
    """A person asked for the job's end."""

    job_id: str


class PauseRequested(_Event, frozen=True, kw_only=True, tag=True):
    """A person asked a running job to write a checkpoint and free its device."""

    job_id: str


class PreemptRequested(_Event, frozen=True, kw_only=True, tag=True):
    """The scheduler, a drain or a shutdown asks a running job to make room; it goes on later."""

    job_id: str
    reason: str = ""


class Resubmitted(_Event, frozen=True, kw_only=True, tag=True):
    """A person asked for a new series of attempts of a job that has ended; of a COMPLETED one only from scratch."""

    job_id: str
    from_scratch: bool = False


class Extended(_Event, frozen=True, kw_only=True, tag=True):
    """A person asked that a job that has ended goes on under another configuration, from its last checkpoint."""

    job_id: str
    job: Job  #: of the same id; what it was stands in its `former`


class PriorityChanged(_Event, frozen=True, kw_only=True, tag=True):
    """A person gave the job another priority."""

    job_id: str
    priority: int


class TermsChanged(_Event, frozen=True, kw_only=True, tag=True):
    """A person gave the job other terms: what does not decide what comes out of it. All of them, as they are now."""

    job_id: str
    resources: Resources
    retry: RetryPolicy
    time_limit_s: float | None
    hang_after_s: float | None
    threads: int | None


class Marked(_Event, frozen=True, kw_only=True, tag=True):
    """A person said something of the job. Note, tags, star and archive as they are now."""

    job_id: str
    note: str
    tags: tuple[str, ...]
    starred: bool
    archived: bool


class RemovalAsked(_Event, frozen=True, kw_only=True, tag=True):
    """A person asked that files of a job that has ended are removed."""

    job_id: str
    checkpoints: tuple[str, ...] = ()  #: names of folders; none: all files of the job, which leaves the views


class FilesRemoved(_Event, frozen=True, kw_only=True, tag=True):
    """What was to be removed is gone."""

    job_id: str


class DeviceSeen(_Event, frozen=True, kw_only=True, tag=True):
    """A device offers itself: new, back, or with a new agent or node life."""

    device: Device
    blocked: str = ""  #: why it takes no jobs just now


class DeviceBlocked(_Event, frozen=True, kw_only=True, tag=True):
    """A device takes no new jobs for now, as its agent says; with an empty reason: it takes them again."""

    device_id: str
    reason: str


class DeviceGone(_Event, frozen=True, kw_only=True, tag=True):
    """A device no longer takes jobs (agent away, node away). Says nothing of the jobs on it."""

    device_id: str
    reason: str
    given_back: bool = False  #: to others who share it: it is taken again when jobs wait


class NodeLost(_Event, frozen=True, kw_only=True, tag=True):
    """Ray says that the node is dead: its attempts are fenced, and requeued without cost."""

    node: str
    node_id: str


class DeviceDrained(_Event, frozen=True, kw_only=True, tag=True):
    """A device takes no new jobs: a person, or too many crashes."""

    device_id: str
    reason: str


class DeviceUndrained(_Event, frozen=True, kw_only=True, tag=True):
    """A drained device takes jobs again."""

    device_id: str


Event: TypeAlias = (
    ControllerStarted
    | PolicyApplied
    | Submitted
    | SubmissionTaken
    | RequestHandled
    | DependenciesMet
    | DependencyFailed
    | Held
    | Released
    | Placed
    | AttemptStarted
    | LaunchFailed
    | AttemptEnded
    | CancelRequested
    | PauseRequested
    | PreemptRequested
    | Resubmitted
    | Extended
    | PriorityChanged
    | TermsChanged
    | Marked
    | RemovalAsked
    | FilesRemoved
    | DeviceSeen
    | DeviceBlocked
    | DeviceGone
    | NodeLost
    | DeviceDrained
    | DeviceUndrained
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start the attempt's process on its device. Idempotent: the attempt number makes it so."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Ask the attempt's process to stop: checkpoint and leave; hard after its grace period."""

    job_id: str
    attempt: int
    goal: StopGoal


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """An event that follows from the one applied: to be journalled and applied in the same turn."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """A job reached COMPLETED, FAILED or CANCELLED: the moment for notifications."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFiles:
    """Remove what the record's `leaving` names, then say FilesRemoved. Idempotent."""

    job_id: str


Command: TypeAlias = Launch | Stop | Follow | JobFinished | RemoveFiles


class Entry(NamedTuple):
    """One line of the journal."""

    seq: int  #: 1, 2, ... without a gap
    epoch: int  #: of the controller that wrote it
    event: Event


class Line(NamedTuple):
    """An entry, and the commit to which it belongs: events `first` to `last` reached the disk together."""

    entry: Entry
    first: int
    last: int


class BadLine(ValueError):
    """A line that is no entry of a journal, or was changed since it was written: its checksum is wrong."""


class UnknownLine(ValueError):
    """A line that is whole, by its checksum, and was written by a later version of the program."""


class _Version(msgspec.Struct):
    v: int


class _Envelope(msgspec.Struct):
    seq: int
    epoch: int
    commit: tuple[int, int] | None = None


_encoder = msgspec.json.Encoder()
_events = msgspec.json.Decoder(Event)
_versions = msgspec.json.Decoder(_Version)
_envelopes = msgspec.json.Decoder(_Envelope)
_USUAL_HEAD = re.compile(rb'\{"v":[12],"seq":(\d+),"epoch":(\d+),(?:"commit":\[(\d+),(\d+)\],)?"type"')
_TAIL = len(b',"crc":"01234567"}')


def encode_line(seq: int, epoch: int, event: Event, commit: tuple[int, int] | None = None) -> bytes:
    """The journal's line of an event: a JSON object whose last member is the CRC-32 of all bytes before that member.

    commit: first and last event of the commit to which it belongs, where there are several.
    """
    # ControllerStarted has the epoch as a field of its own.
    whose = b"" if isinstance(event, ControllerStarted) else b'"epoch":%d,' % epoch
    mark = b"" if commit is None or commit[0] == commit[1] else b'"commit":[%d,%d],' % commit
    line = b'{"v":%d,"seq":%d,' % (FORMAT_VERSION, seq) + whose + mark + _encoder.encode(event)[1:-1]
    return line + b',"crc":"%08x"}\n' % zlib.crc32(line)


def decode_line(line: bytes) -> Entry:
    """Read a line without its newline. Raises BadLine, or UnknownLine for one of a later version."""
    return read_line(line).entry


def read_line(line: bytes) -> Line:
    """The same, with the commit to which it belongs."""
    body = line[:-_TAIL]
    if line[-_TAIL:] != b',"crc":"%08x"}' % zlib.crc32(body):
        raise BadLine("its checksum is wrong")
    try:
        seq, epoch, commit = _head(line)
        return Line(Entry(seq, epoch, _events.decode(line)), *commit)
    except msgspec.DecodeError as error:
        raise UnknownLine(f"its checksum is right, and this version does not know it: {error}") from error


def _head(line: bytes) -> tuple[int, int, tuple[int, int]]:
    """Number, epoch and commit of a line. Most begin in one way, and need not be decoded twice for these figures."""
    found = _USUAL_HEAD.match(line)
    if found is not None:
        seq = int(found[1])
        return seq, int(found[2]), (int(found[3]), int(found[4])) if found[3] else (seq, seq)
    version = _versions.decode(line).v
    if not OLDEST_FORMAT <= version <= FORMAT_VERSION:
        raise UnknownLine(f"it has format {version}, and this program reads formats up to {FORMAT_VERSION}")
    envelope = _envelopes.decode(line)
    return envelope.seq, envelope.epoch, envelope.commit or (envelope.seq, envelope.seq)
