"""`explain`: the story of a job in words. Pure: what the attempts left behind comes as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from terry.cluster.core.model import SUCCESSES, Attempt, AttemptEnd, EndReason, JobRecord, JobState
from terry.logs.format import count, duration, plural, printable, size
from terry.logs.view.timeline import end_in_words

#: Lines of a stack or of standard error that are shown; the files have all of them.
_LINES = 12

_ADVICE = {
    EndReason.CRASHED: "A crash in native code: a driver, a library or the hardware. If it comes back on another "
    "device, look at the stack; if only on one, drain that device.",
    EndReason.EXCEPTION: "An error in the program or in a setting: read the last line of the traceback. "
    "Once it is put right, {submit}: what you mended makes a new run, which replaces this one where the settings are "
    "the same; `terry-cluster archive {job}` puts it out of sight where they are not. "
    "`terry-cluster resubmit {job}` tries the same once more.",
    EndReason.DEVICE_OUT_OF_MEMORY: "Make data.batch_size, data.bptt or model.hidden_size smaller, or submit "
    "it under another name with more of its device (resources.gpus: 1, resources.exclusive: true).",
    EndReason.HOST_OUT_OF_MEMORY: "The node had no memory left: run fewer jobs on it at once (ask for more "
    "resources.cpus each), or make the model or the data set smaller.",
    EndReason.KILLED: "Somebody or something sent SIGKILL: a person, a job scheduler's limit, a container's end.",
    EndReason.NOT_FINITE: "Make optimizer.lr smaller or clip gradients more tightly; `on_nan: rollback` goes back to "
    "the last good checkpoint with half the learning rate.",
    EndReason.HUNG: "No step was done for too long: the stack shows where it stood. If steps of this run may take so "
    "long, submit it under another name with a longer hang_after.",
    EndReason.TIME_LIMIT: "`terry-cluster resubmit {job}` goes on from its checkpoint, with as much time again.",
    EndReason.DISK_FULL: "Make room on the workspace's file system, then `terry-cluster resume {job}`.",
    EndReason.DISK_LOST: "The workspace's file system reported errors, or is not mounted on that node: look at the "
    "mount and the kernel's messages there. Terry tries again by itself; what it holds at last goes on after "
    "`terry-cluster resume {job}`.",
    EndReason.LAUNCH_ERROR: "Look at the device: is it free, does its driver answer? `terry-cluster nodes` shows all.",
    EndReason.BAD_INPUT: "Trying again is no use: put the setting or the data right, then {submit}; "
    "`terry-cluster archive {job}` puts this one out of sight.",
}


_LEFT = (
    "Something in the program ended the process: look at what it printed last (`terry-cluster logs {job} --stderr`), "
    "and for calls of os._exit or exit. Once it is put right, {submit}: other code makes a "
    "new run, which replaces this one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEvidence:
    """What one attempt left in its folder."""

    folder: str
    end: AttemptEnd | None = None  #: exit.json: also there when the controller has not heard of the end yet
    stack: str = ""  #: crash.txt
    traceback: str = ""  #: of error.json
    stderr: str = ""  #: last lines of stderr.log
    warnings: tuple[str, ...] = ()  #: what the guards said, for example that training went back after NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that `explain` tells of a job."""

    record: JobRecord
    now: datetime
    run_dir: str
    evidence: dict[int, AttemptEvidence]  #: by attempt number
    waits: str = ""  #: why it does not run now
    controller: str = ""  #: a sentence, where no controller lives
    heir: str = ""  #: id of the job that stands for it now
    submit: str = ""  #: the command by which its sweep is submitted again


def advice(job_id: str, end: AttemptEnd | None, submit: str = "") -> str:
    """What a person can do about it; empty where nothing is called for. submit: how its sweep is submitted again."""
    if end is None:
        return ""
    text = _LEFT if left_by_itself(end) else _ADVICE.get(end.reason, "")
    return text.format(job=job_id, submit=f"`{submit}`" if submit else "submit the sweep again")


def left_by_itself(end: AttemptEnd) -> bool:
    """Whether the process left in the middle, without a signal or an exception."""
    return end.reason is EndReason.EXCEPTION and end.message.startswith("it left with exit code")


def story_lines(story: Story) -> list[str]:
    """The story, oldest first; a line each, fit for a terminal."""
    return [printable(line, most=None) for line in _lines(story)]


def _lines(story: Story) -> list[str]:
    record, job = story.record, story.record.job
    lines = [f"{job.id} ({job.kind} of sweep {job.sweep}): {record.state}" + _reason(record)]
    lines += [f"  settings   {', '.join(f'{k}={printable(v)}' for k, v in job.labels.items())}"] if job.labels else []
    lines += [f"  submitted  {_clock(job.submitted_at)}" + (f" by {job.owner}" if job.owner else "")]
    lines += [f"  entry      {job.entrypoint}", f"  folder     {story.run_dir}", *_kept_lines(story)]
    for attempt in record.attempts:
        lines += ["", *_attempt_lines(attempt, story.evidence.get(attempt.number))]
    return lines + _now_lines(story)


def _kept_lines(story: Story) -> list[str]:
    """What became of it among others, and what people have said of it."""
    record, marks = story.record, story.record.marks
    lines = [f"  replaces   {record.job.replaces}"] if record.job.replaces else []
    if _is_replaced(story):
        lines.append(
            f"  replaced   by {story.heir}, which has the same settings (`terry-cluster explain {story.heir}`)"
        )
    lines += [f"  tags       {' '.join(marks.tags)}"] if marks.tags else []
    lines += [f"  note       {printable(marks.note)}"] if marks.note else []
    lines += ["  archived"] if marks.archived else []
    if marks.removed_at is not None:
        again = f"`terry-cluster resubmit --from-scratch {record.job.id}` makes it again"
        lines.append(f"  removed    {_clock(marks.removed_at)}: its files are gone; {again}")
    return lines


def _is_replaced(story: Story) -> bool:
    return story.heir not in ("", story.record.job.id)


def _reason(record: JobRecord) -> str:
    return f" - {printable(record.reason.removeprefix(f'{record.state}: '))}" if record.reason else ""


def _clock(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _attempt_lines(attempt: Attempt, evidence: AttemptEvidence | None) -> list[str]:
    series = f", series {attempt.series}" if attempt.series > 1 else ""
    pid = f", pid {attempt.pid}" if attempt.pid else ""
    lines = [f"attempt {attempt.number}{series} on {attempt.device}{pid}, {_clock(attempt.placed_at)}"]
    lines += [f"  warning: {printable(text)}" for text in evidence.warnings] if evidence else []
    end = attempt.end or (evidence.end if evidence else None)
    if end is None:
        return [*lines, "  runs" if attempt.started_at else "  is being started"]
    lines.append("  " + _end_words(attempt, end))
    if end.reason in {*SUCCESSES, EndReason.PAUSED, EndReason.PREEMPTED, EndReason.CANCELLED}:
        return lines + _decision(attempt)
    if end.max_rss_bytes:
        gpu = f", of the GPU {size(end.device_memory_bytes)}" if end.device_memory_bytes else ""
        lines.append(f"  memory at most {size(end.max_rss_bytes)}{gpu}, CPU time {duration(end.cpu_s)}")
    lines += _evidence_lines(evidence) if evidence else []
    return lines + _decision(attempt)


def _decision(attempt: Attempt) -> list[str]:
    return [f"  then: {printable(attempt.decision)}"] if attempt.decision else []


def _end_words(attempt: Attempt, end: AttemptEnd) -> str:
    text = _what_happened(end)
    if end.signal is not None and end.message.find("SIG") < 0:
        text += f" ({_signal_name(end.signal)})"
    if end.step is not None:
        text += f", at step {count(end.step)}"
    if end.checkpoint_step is not None:
        text += f", last checkpoint at step {count(end.checkpoint_step)}"
    if attempt.ended_at is not None:
        begin = attempt.started_at or attempt.placed_at
        text += f", after {duration((attempt.ended_at - begin).total_seconds())}"
    return text


def _what_happened(end: AttemptEnd) -> str:
    if left_by_itself(end):
        return printable(end.message)
    return end_in_words(end.reason) + (f": {printable(end.message)}" if end.message else "")


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _evidence_lines(evidence: AttemptEvidence) -> list[str]:
    lines: list[str] = []
    if evidence.stack:
        lines += ["  stack (crash.txt):", *_quote(crashed_thread(evidence.stack), first=True)]
    if evidence.traceback:
        lines += ["  traceback:", *_quote(evidence.traceback, first=False)]
    elif evidence.stderr:
        lines += ["  last lines of stderr.log:", *_quote(evidence.stderr, first=False)]
    return [*lines, f"  all of it: {evidence.folder}"]


def crashed_thread(stack: str) -> str:
    """Of faulthandler's report: the fault's name and the thread in which it happened; all where none is marked."""
    blocks = stack.strip().split("\n\n")
    current = [block for block in blocks if "Current thread" in block]
    head = [blocks[0]] if blocks and "thread 0x" not in blocks[0].splitlines()[-1] and "Thread" not in blocks[0] else []
    return "\n".join([*head, *(current[:1] or blocks[len(head) :])])


def _quote(text: str, *, first: bool) -> list[str]:
    """The first or last lines, indented."""
    lines = [printable(line) for line in text.rstrip().splitlines()]
    left_out = len(lines) - _LINES
    if left_out > 0:
        rest = f"... {plural(left_out, 'more line')}"
        lines = [*lines[:_LINES], rest] if first else [rest, *lines[-_LINES:]]
    return [f"    {line}".rstrip() for line in lines]


def _now_lines(story: Story) -> list[str]:
    record = story.record
    lines = [f"it waits: {printable(story.waits)}"] if story.waits else []
    lines += [story.controller] if story.controller and not record.state.is_final else []
    lines = ["", *lines] if lines else []
    ended = next((a.end for a in reversed(record.attempts) if a.end), None)
    if _is_replaced(story) or record.marks.removed_at is not None:
        return lines
    if record.state in {JobState.FAILED, JobState.HELD} or (ended and record.restarts and not record.state.is_final):
        text = advice(record.job.id, ended, story.submit)
        lines += ["", f"advice: {text}"] if text else []
    return lines
