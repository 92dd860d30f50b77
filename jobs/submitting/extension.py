"""Trainings that have ended, asked to go on for longer: another line for the same job, and what that does to its bits.

A run goes on from its newest checkpoint, under the identity that it would have had if so much had been asked for at
first: so a sweep file that now says so finds it there. Its bits are the same, too, wherever nothing before the old end
depended on where the end was; `warnings` says where it did.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from terry.cluster.config.typed import build, flatten, put
from terry.cluster.config.yaml_file import Problem
from terry.cluster.core.model import JobRecord
from terry.cluster.errors import UserError
from terry.cluster.files import inbox
from terry.cluster.files.paths import WorkspacePaths, checkpoint_key
from terry.data_prep.config import DatasetConfig
from terry.jobs.submitting.folder import FORMAT_VERSION, claim, write_records
from terry.jobs.submitting.records import JobLine, KnownJobs, SubmissionInfo, read_line
from terry.jobs.sweeps.overrides import Override
from terry.jobs.sweeps.spec import TRAIN, RunConfig
from terry.jobs.sweeps.sweep import digest, pruned, run_identity
from terry.logs.records.results import read_result
from terry.logs.records.values import unpack
from terry.models.config import Optimizer, Schedule

#: What may be longer.
LENGTHS = ("training.epochs", "training.max_steps")

_DEFAULTS = msgspec.to_builtins(RunConfig())


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """A run that would go on."""

    line: JobLine
    before: dict[str, Any]  #: how long it was: `training.epochs` and so on
    warning: str  #: why its bits will not be those of a run that was as long from the beginning; empty: they will


def lengths(settings: Sequence[str]) -> list[Override]:
    """The settings that say how long. Raises UserError for others."""
    found = [Override.parse(text) for text in settings]
    for override in found:
        if not override.in_run or ".".join(override.path) not in LENGTHS:
            raise UserError(
                f"{override.text}: a run is made longer by {' or '.join(LENGTHS)}; another setting makes another run"
            )
    return found


def extend(workspace: WorkspacePaths, record: JobRecord, settings: Sequence[Override], now: datetime) -> Extended:
    """The job as it would go on. Writes nothing. Raises UserError with why it cannot, OSError."""
    line = read_line(workspace, record)
    config, job_id = unpack(line.config), record.job.id
    if record.job.kind != "train" or record.job.entrypoint != TRAIN:
        raise UserError(f"{job_id} is no training of Terry's own: how long it goes on its code decides")
    if config.get("halving") is not None:
        raise UserError(f"{job_id} belongs to a sweep with `halving`, whose rule decided how long it ran")
    new = _longer(config, settings, job_id)
    result = read_result(workspace.run(job_id))
    if record.state == "completed" and result.get("reason") == "early_stopped":
        raise UserError(f"{job_id} was ended by training.patience: more epochs would not be trained either")
    before = {key: flatten(config).get(key) for key in LENGTHS}
    if flatten(new) == flatten(config):
        raise UserError(f"{job_id} is as long already")
    _check_longer(workspace, record, config, new)
    former = (*record.job.former, record.job.identity)
    job = msgspec.structs.replace(
        line.job,
        identity=_identity(workspace, record, line, config, new),
        former=former,
        submitted_at=now,
        labels=_labels(record.job.labels, new),
        resources=record.job.resources,
        retry=record.job.retry,
        time_limit_s=record.job.time_limit_s,
        hang_after_s=record.job.hang_after_s,
        threads=record.job.threads,
        replaces=record.job.replaces,
        held=False,
    )
    longer = msgspec.structs.replace(line, job=job, config={**line.config, "training": new["training"]})
    return Extended(line=longer, before=before, warning=_warning(config, result.get("step"), finished=bool(result)))


def publish(workspace: WorkspacePaths, extended: Sequence[Extended], owner: str, now: datetime) -> list[str]:
    """Put it on disk and tell the controller: one submission for each sweep. Returns ids. Raises OSError."""
    by_sweep: dict[str, list[JobLine]] = {}
    for each in extended:
        by_sweep.setdefault(each.line.job.sweep, []).append(each.line)
    for sweep, lines in by_sweep.items():
        info = SubmissionInfo(
            version=FORMAT_VERSION,
            sweep=sweep,
            submitted_at=now,
            owner=owner,
            file="",
            folder=str(workspace.sweep(sweep)),
            overrides=(),
            request=secrets.token_hex(8),
            jobs=len(lines),
            ensembles={},
        )
        _claim(workspace, sweep, lines, info)
        inbox.send(workspace, inbox.Submit(sweep=sweep))
    return [each.line.job.id for each in extended]


def _claim(workspace: WorkspacePaths, sweep: str, lines: list[JobLine], info: SubmissionInfo) -> None:
    text = b"# asked for on the command line: terry-cluster extend\n"
    while True:
        taken = KnownJobs(workspace, sweep).submissions
        try:
            claim(workspace, sweep, taken, lambda folder, _: write_records(folder, text, lines, info))
        except FileExistsError:
            continue
        return


def _longer(config: dict[str, Any], settings: Sequence[Override], job_id: str) -> dict[str, Any]:
    raw = {**config, "training": dict(config["training"])}
    for override in settings:
        put(raw, override.path, override.value)
    try:
        build({"training": raw["training"]}, RunConfig)
    except Problem as problem:
        raise UserError(f"{job_id}: {problem}") from None
    return raw


def _check_longer(workspace: WorkspacePaths, record: JobRecord, config: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise UserError where it would be shorter, or nothing is there to go on from."""
    job_id = record.job.id
    for key in ("epochs", "max_steps"):
        was, will = config["training"].get(key), new["training"].get(key)
        if will is not None and (was is not None and will < was):
            raise UserError(f"{job_id} has training.{key} {was}; {will} would be shorter")
    names = [path.name for path in workspace.run(job_id).checkpoints.glob("step-*")]
    there = [found for name in names if (found := checkpoint_key(name)) and found[1] >= record.first_attempt]
    if not there:
        raise UserError(f"{job_id} has no checkpoint to go on from: `terry-cluster resubmit --from-scratch {job_id}`")
    newest, limit = max(there)[0], new["training"].get("max_steps")
    result = read_result(workspace.run(job_id))
    if limit is not None and limit <= newest:
        raise UserError(f"{job_id} is at step {newest:,} already: training.max_steps must be more than that")
    if record.state == "completed" and isinstance(done := result.get("step"), int) and newest < done:
        raise UserError(
            f"{job_id} ended at step {done:,}, and its newest checkpoint is of step {newest:,}: the last was removed"
        )


def _identity(
    workspace: WorkspacePaths, record: JobRecord, line: JobLine, config: dict[str, Any], new: dict[str, Any]
) -> str:
    """What it would have been if so much had been asked for at first."""
    dataset = _dataset_settings(workspace, line)
    if run_identity(config, _DEFAULTS, dataset, None) == record.job.identity:
        return run_identity(new, _DEFAULTS, dataset, None)
    # An earlier version made it in another way: then it is told by where it began.
    lengths_now = {key: new["training"].get(key) for key in ("epochs", "max_steps")}
    return digest({"began": (*record.job.former, record.job.identity)[0], "training": lengths_now})


def _dataset_settings(workspace: WorkspacePaths, line: JobLine) -> dict[str, Any] | None:
    """As `Expander.dataset_settings` has them, from the line of the job that prepares the data."""
    name = line.config["data"]["dataset"]
    for _, folder in reversed(workspace.submissions(line.job.sweep)) if name else ():
        for each in msgspec.json.Decoder(JobLine).decode_lines((folder / "jobs.jsonl").read_bytes()):
            if each.job.id == line.inputs.get(name):
                return _settings_of(name, each.config)
    return None


def _settings_of(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    defaults = msgspec.to_builtins(DatasetConfig())
    settings = pruned(config["dataset"], defaults)
    other = settings.get("vocabulary_from")
    others = config.get("others") or {}
    if other != name and other in others:
        settings["vocabulary_of"] = pruned(others[other], defaults)
    return settings


def _labels(labels: Mapping[str, str], new: Mapping[str, Any]) -> dict[str, str]:
    """How long it is may be what told it from the others."""
    now = flatten(dict(new))
    changed = {name: key for key in LENGTHS for name in (key, key.partition(".")[2]) if name in labels}
    return {**labels, **{name: msgspec.json.encode(now[key]).decode() for name, key in changed.items()}}


def _warning(config: Mapping[str, Any], step: object, *, finished: bool) -> str:
    """What before the old end depended on where the end was; empty where nothing did."""
    optimizer, training = config["optimizer"], config["training"]
    if optimizer["schedule"] == Schedule.cosine:
        return (
            "its schedule is cosine, which falls towards the end: up to here it fell for the old end, and the rate "
            "would rise again for the new one; a run that was as long from the beginning learns otherwise"
        )
    every = training.get("valid_every")
    mid_epoch = training.get("max_steps") is not None
    validated = isinstance(step, int) and (mid_epoch if every is None else step % every != 0)
    feels = [
        name
        for name, does in {
            "optimizer.anneal": optimizer["anneal"] is not None or optimizer["schedule"] == Schedule.anneal,
            "asgd's trigger": optimizer["name"] == Optimizer.asgd,
            "training.patience": training.get("patience") is not None,
        }.items()
        if does
    ]
    if finished and validated and feels:
        return f"its old end was validated out of turn, and {' and '.join(feels)} goes by validations"
    return ""


def offer(asked: Sequence[tuple[str, Mapping[str, Any]]], known: KnownJobs) -> str:
    """A sentence where new runs of a file are known ones made longer; empty where none is.

    asked: `settings without their length` (see `without_length`) and configuration of each new run.
    """
    earlier = {without_length(config): (job_id, config) for job_id, config in known.earlier_runs()} if asked else {}
    found: dict[str, list[str]] = {}
    for key, config in asked:
        if key not in earlier:
            continue
        job_id, before = earlier[key]
        record = known.records.get(job_id)
        if record is None or not record.state.is_final or record.marks.removed_at is not None:
            continue
        was, will = flatten(dict(before)), flatten(dict(config))
        changed = [name for name in LENGTHS if was.get(name) != will.get(name)]
        longer = all(will.get(n) is not None and (was.get(n) or 0) <= will[n] for n in changed)
        if changed and longer:
            found.setdefault(" ".join(f"{n}={will[n]}" for n in changed), []).append(job_id)
    offers = [f"`terry-cluster extend {' '.join(ids[:8])} {settings}`" for settings, ids in found.items()]
    if not offers:
        return ""
    many = sum(map(len, found.values()))
    who = "one of the runs is" if many == 1 else f"{many:,} of the runs are"
    return f"{who} there already but shorter, and can go on instead of beginning anew: {', '.join(offers)}"


def without_length(config: Mapping[str, Any]) -> str:
    """What tells runs of the same settings that may be of another length."""
    training = {key: value for key, value in config["training"].items() if key not in {"epochs", "max_steps"}}
    return run_identity({**config, "training": training}, _DEFAULTS, None, None)
