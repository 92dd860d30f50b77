"""What is asked of Slurm: `sbatch` through submitit, `squeue`, `scancel`. Never `sacct`: many clusters have none.

A job belongs to a workspace by its name, `terry-<id of the workspace>-<node>`, and to us by its user. Nothing else is
kept about it: what Slurm says is the truth, also after a crash between asking for a job and writing that down.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.slurm.plan import HEAD_NODE, Phase, SlurmJob

_TIMEOUT_S = 60.0
_RUNNING = {"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}

#: A line of each batch script: so it can be told later with which settings a job was asked for.
_SETTINGS = "# terry settings: "

#: How long before its end a Slurm job is told, where its time limit is long enough.
WARN_S = 120


class SlurmError(Exception):
    """Slurm has refused, or does not answer; in its own words."""


class SlurmCommands(Protocol):
    """See the module."""

    def jobs(self) -> tuple[SlurmJob, ...]:
        """The workspace's Slurm jobs that wait or run. Raises SlurmError."""
        ...

    def submit(self, group: SlurmGroup, node: str) -> str:
        """Ask for one more; returns its id. Raises SlurmError."""
        ...

    def release(self, ids: Iterable[str]) -> None:
        """Ask running ones to go: what runs on them writes a checkpoint and moves. Raises SlurmError."""
        ...

    def cancel(self, ids: Iterable[str]) -> None:
        """End them at once. Raises SlurmError."""
        ...

    def last_words(self, job_id: str) -> str:
        """The last line of what a job has printed; empty where there is none."""
        ...

    def name_of(self, node: str) -> str:
        """What the node's Slurm job is called."""
        ...

    def settings_of(self, group: SlurmGroup) -> str:
        """What a job of the group is asked for with, in short: another word for each other request."""
        ...


class Slurm:
    """The Slurm cluster of which this node is a part."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._prefix = f"terry-{workspace.id}-"

    def jobs(self) -> tuple[SlurmJob, ...]:
        """See SlurmCommands."""
        printed = _run(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%r|%N|%j"])
        found = (job for line in printed.splitlines() if (job := _job(line, self._prefix)) is not None)
        return tuple(replace(job, settings=self._asked_with(job.id)) for job in found)

    def settings_of(self, group: SlurmGroup) -> str:
        """See SlurmCommands."""
        asked = [sorted(parameters(group, "").items(), key=str), group.python or ""]
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:12]

    def _asked_with(self, job_id: str) -> str:
        """The settings that stand in the script with which it was submitted; empty where it is gone."""
        try:
            text = (self._workspace.slurm / f"{job_id}_submission.sh").read_text(errors="replace")
        except OSError:
            return ""
        found = re.search(rf"^{_SETTINGS}([0-9a-f]+)$", text, re.MULTILINE)
        return found[1] if found else ""

    def name_of(self, node: str) -> str:
        """See SlurmCommands."""
        return f"{self._prefix}{node}"

    def submit(self, group: SlurmGroup, node: str) -> str:
        """See SlurmCommands."""
        words = ["-m", "terry.cluster.slurm.worker", str(self._workspace.root), group.name, node]
        return self._ask(group, node, [*words, str(warning_s(group))])

    def submit_head(self, group: SlurmGroup, after: str | None = None) -> str:
        """Ask for a job for the head, with the group's partition, account and time; it needs no GPU. Raises SlurmError.

        after: id of the job that has to end first.
        """
        kept = {k: v for k, v in group.options.items() if k in {"qos", "time", "reservation", "constraint", "wckey"}}
        options = {**kept, "cpus_per_task": "1", **({"dependency": f"afterany:{after}"} if after else {})}
        plain = replace(group, gres=None, options=options)
        return self._ask(plain, HEAD_NODE, ["-m", "terry.cluster.lifecycle.slurm_head", str(self._workspace.root)])

    def end_head(self, job_id: str) -> None:
        """Ask the head's job to end in an orderly way. Raises SlurmError."""
        _run(["scancel", "--batch", "--signal=TERM", job_id])

    def free(self, job_id: str) -> None:
        """Let a job start although the one that it was to follow has not ended. Raises SlurmError."""
        _run(["scontrol", "update", f"jobid={job_id}", "dependency="])

    def _ask(self, group: SlurmGroup, node: str, words: list[str]) -> str:
        from submitit.core.utils import FailedJobError
        from submitit.helpers import clean_env
        from submitit.slurm.slurm import SlurmExecutor

        self._workspace.slurm.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tidy()
        try:
            with clean_env():  # we may be in a Slurm job ourselves
                executor = SlurmExecutor(folder=self._workspace.slurm)
                asked = parameters(group, f"{self._prefix}{node}")
                asked["setup"] = [f"{_SETTINGS}{self.settings_of(group)}", *(asked["setup"] or [])]
                executor.update_parameters(**asked)
                # Not submitit's pickled function: the program reads all that it needs from the workspace.
                job = executor._submit_command(_command(group, words))
        except (FailedJobError, RuntimeError, ValueError, OSError) as error:
            raise SlurmError(_words(str(error))) from error
        return str(job.job_id)

    def release(self, ids: Iterable[str]) -> None:
        """See SlurmCommands."""
        for each in ids:
            _run(["scancel", "--batch", "--signal=USR1", each])

    def cancel(self, ids: Iterable[str]) -> None:
        """See SlurmCommands."""
        found = list(ids)
        if found:
            _run(["scancel", *found])

    def last_words(self, job_id: str) -> str:
        """See SlurmCommands."""
        for kind in ("err", "out"):
            try:
                text = (self._workspace.slurm / f"{job_id}_0_log.{kind}").read_text(errors="replace")
            except OSError:
                continue
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("terry-node-")]
            if lines:
                return lines[-1]
        return ""

    def _tidy(self, keep: int = 50) -> None:
        """Let go of the files of old jobs."""
        found = sorted(self._workspace.slurm.glob("*_submission.sh"), key=lambda path: path.stat().st_mtime)
        for path in found[:-keep]:
            for each in self._workspace.slurm.glob(f"{path.name.partition('_')[0]}_*"):
                each.unlink(missing_ok=True)
        for link in self._workspace.slurm.glob(".submission_file_*"):  # submitit's, from before the id was known
            if not link.exists() or link.is_symlink():
                link.unlink(missing_ok=True)


def _command(group: SlurmGroup, words: list[str]) -> str:
    python = group.python or sys.executable
    program = python if python.startswith("~/") else shlex.quote(python)
    return f"exec {program} {shlex.join(words)}"


def parameters(group: SlurmGroup, name: str) -> dict[str, Any]:
    """A group's settings as submitit wants them. What it does not know is handed to `sbatch` as it is."""
    from submitit.slurm.slurm import SlurmExecutor

    options = {key: value for key, value in group.options.items() if key not in {"signal_delay_s", "signal"}}
    known = SlurmExecutor._valid_parameters() - {"signal_delay_s"}
    mine = {key: options.pop(key) for key in list(options) if key in known}
    given = {"partition": group.partition, "gres": group.gres, "time": group.time, "account": group.account}
    # To the program alone, not to Ray's processes and jobs, whom an unknown signal would end. One node a job.
    # Started again by Slurm itself it could run twice, when only the node's slurmd has died.
    forced = {"signal": f"B:USR1@{warning_s(group)}", "no-requeue": True}
    found: dict[str, Any] = {"job_name": name, "nodes": 1, "use_srun": False}
    found |= {key: value for key, value in given.items() if value is not None} | mine
    for key in ("time", "wckey"):  # submitit would say 5 minutes, and name itself; the cluster knows better
        found.setdefault(key, None)
    return {
        **found,
        "setup": list(group.setup) or None,
        "additional_parameters": {**options, **forced},
    }


def warning_s(group: SlurmGroup) -> int:
    """How many seconds before the end of its time a job is told: a quarter of it at the most."""
    asked = group.options.get("signal_delay_s")
    if str(asked).isdecimal():
        return max(1, int(str(asked)))
    limit = limit_s(group.time)
    return WARN_S if limit is None else max(5, min(WARN_S, limit // 4))


def limit_s(text: str | None) -> int | None:
    """A time limit as Slurm writes it (`30`, `4:00`, `4:00:00`, `2-12`, `2-12:30`) in seconds; None where it is none.

    Zero and the words UNLIMITED and INFINITE are no limit.
    """
    if text is None or not text[:1].isdigit():
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    return ((int(days) if dash else 0) * 86_400 + hours * 3600 + minutes * 60 + seconds) or None


def _job(line: str, prefix: str) -> SlurmJob | None:
    fields = line.split("|", 4)
    if len(fields) != 5 or not fields[4].startswith(prefix):
        return None
    job_id, state, reason, host, name = fields
    phase = Phase.RUNNING if state in _RUNNING else Phase.PENDING if state in _WAITING else None
    if phase is None:  # completing, or over
        return None
    return SlurmJob(id=job_id, node=name.removeprefix(prefix), phase=phase, state=state, reason=reason, host=host)


def _run(command: list[str]) -> str:
    # Without the settings by which a person has squeue and scancel do other things.
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=plain)
    except FileNotFoundError:
        raise SlurmError(f"there is no {command[0]} on {os.uname().nodename}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} has not answered within {_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise SlurmError(_words(done.stderr) or f"{command[0]} ended with exit code {done.returncode}")
    return done.stdout


def _words(text: str) -> str:
    """Slurm's own complaint out of what was printed."""
    found = [re.sub(r"^\w+: error: ", "", line.strip()) for line in text.splitlines() if "error:" in line]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return found[0] if found else (lines[-1] if lines else "")
