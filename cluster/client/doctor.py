"""`doctor`: is the workspace sound? Looks at files alone and changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from terry.cluster.client import rights
from terry.cluster.client.finding import Finding
from terry.cluster.config import terry_yaml as config
from terry.cluster.core.model import JobState
from terry.cluster.core.state import State
from terry.cluster.core.state_document import BadSnapshot, UnknownSnapshot, from_snapshot
from terry.cluster.errors import JournalDamaged, UserError, WorkspaceNewer
from terry.cluster.files import lease, run_folder, store
from terry.cluster.files.lease import Liveness
from terry.cluster.files.paths import WorkspacePaths, checkpoint_key
from terry.cluster.lifecycle.liveness import LOOK_S, liveness
from terry.cluster.lifecycle.on_head import keeper_problem
from terry.cluster.lifecycle.overview import WAITS, node_views, older_head
from terry.logs.format import ago, plural, size

#: Less free space than this is worth a word (bytes).
_LITTLE = 1 << 30

#: A submission that is younger (seconds) may be taken yet.
_YOUNG_S = 30.0

#: What to do about a damaged journal.
_FIX_JOURNAL = (
    ". To fix it: put the file back from a backup; or move queue/ aside and submit the sweeps again with their files: "
    "what is in runs/ and datasets/ stays, and runs go on from their checkpoints"
)

#: Longer files of metrics are not read line by line (bytes).
_LARGE = 1 << 26

#: Newest checkpoints are looked at for so many runs at most: doctor shall answer in seconds.
_RUNS = 200


def examine(workspace: WorkspacePaths, now: datetime) -> list[Finding]:
    """All findings, sound or not."""
    if not workspace.exists:
        return [*_without_a_queue(workspace)]
    findings = _looked(workspace, _kernels_here, rights.look, _space, _settings, _snapshots)
    try:
        state = store.read_state(workspace)
    except WorkspaceNewer as error:
        return [*findings, Finding(what="journal", good=False, text=str(error))]
    except UserError as error:
        what = str(error).removesuffix(JournalDamaged.HINT)
        return [*findings, Finding(what="journal", good=False, text=f"{what}{_FIX_JOURNAL}")]
    findings.append(Finding(what="journal", good=True, text=f"{plural(state.seq, 'event')}, all sound"))
    findings += _looked(workspace, partial(_controller, now=now), partial(_inbox, now=now))
    of_jobs = (_submissions, _runs, _results, _checkpoints, _measurements)
    findings += _looked(workspace, *(partial(look, state=state) for look in of_jobs), _datasets)
    return findings + _looked(workspace, _nodes, partial(_leftovers, state=state), _processes, _ports)


def _looked(workspace: WorkspacePaths, *looks: Callable[[WorkspacePaths], Iterator[Finding]]) -> list[Finding]:
    """What each of them has found. What may not be read ends one of them, and not the others."""
    findings: list[Finding] = []
    for look in looks:
        try:
            findings.extend(look(workspace))
        except PermissionError as error:
            text = f"{error.filename} cannot be read by you: what stands behind it was not looked at"
            findings.append(Finding(what="rights", good=False, text=text))
    return findings


def _kernels_here(_workspace: WorkspacePaths) -> Iterator[Finding]:
    """What computes on this computer's CPU: compiled kernels, or torch's, which are slower here."""
    from terry.models.kernels.library import describe

    yield Finding(what="kernels", good=True, text=describe())


def _without_a_queue(workspace: WorkspacePaths) -> Iterator[Finding]:
    text = (
        f"{workspace.queue} is not there, but {workspace.runs} is. To fix it: submit the sweeps again with their "
        "files: what is in runs/ and datasets/ stays, and runs go on from their checkpoints"
    )
    yield Finding(what="queue", good=False, text=text)


def _settings(workspace: WorkspacePaths) -> Iterator[Finding]:
    try:
        config.read(workspace)
    except UserError as error:
        yield Finding(what="settings", good=False, text=f"{error}; until it is right, what was read before it counts")


def _snapshots(workspace: WorkspacePaths) -> Iterator[Finding]:
    """A damaged one costs nothing where the one before it, or the whole journal, is there: the journal tells."""
    for _, path in workspace.snapshots():
        try:
            from_snapshot(path.read_bytes())
        except (FileNotFoundError, UnknownSnapshot):  # replaced meanwhile; of a later version: the journal tells
            continue
        except BadSnapshot as error:
            text = f"{path} is damaged ({error}) and is not used; the controller replaces it as it goes on"
            yield Finding(what="snapshots", good=False, text=text)


def _space(workspace: WorkspacePaths) -> Iterator[Finding]:
    free = shutil.disk_usage(workspace.root).free
    yield Finding(what="disk", good=free > _LITTLE, text=f"{size(free)} free")


def _controller(workspace: WorkspacePaths, now: datetime) -> Iterator[Finding]:
    held = lease.read(workspace)
    found = liveness(workspace, LOOK_S)
    problem = "" if found is Liveness.ALIVE else keeper_problem(workspace)
    if problem:
        yield Finding(what="controller", good=False, text=f"it cannot be started: {problem} ({workspace.keeper_log})")
    elif held is None:
        yield Finding(what="controller", good=True, text="none has run yet; `terry-cluster up` starts one")
    elif found is Liveness.ALIVE:
        yield Finding(what="controller", good=True, text=f"epoch {held.epoch} on {held.host}, pid {held.pid}")
        if told := older_head(workspace):
            yield Finding(what="versions", good=False, text=told)
    elif found is Liveness.UNKNOWN:
        text = f"epoch {held.epoch} on {held.host} gave no sign of life in {LOOK_S:g} s; ask again"
        yield Finding(what="controller", good=False, text=text)
    else:
        how = "stopped" if held.stopped else "died"
        text = f"epoch {held.epoch} on {held.host} {how} {ago(held.heartbeat, now)}; `terry-cluster up` starts the next"
        yield Finding(what="controller", good=held.stopped, text=text)


def _inbox(workspace: WorkspacePaths, now: datetime) -> Iterator[Finding]:
    waiting = list((workspace.inbox / "new").glob("*.json"))
    bad = list((workspace.inbox / "done").glob("*.bad"))
    stuck = bool(waiting) and liveness(workspace) is Liveness.ALIVE
    old = [path for path in waiting if now.timestamp() - path.stat().st_mtime > 30]
    yield Finding(what="inbox", good=not (stuck and old), text=f"{plural(len(waiting), 'request')} waiting")
    for path in bad:
        text = f"a request could not be acted on: {path}; ask again, then remove it"
        yield Finding(what="inbox", good=False, text=text)


def _submissions(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    whole = left = 0
    for sweep in workspace.sweep_names():
        whole += len(workspace.submissions(sweep))
        left += sum(1 for path in workspace.sweep(sweep).glob(".submission.*.tmp"))
        for number, folder in workspace.submissions(sweep):
            if number > state.submissions.get(sweep, 0) and not _is_young(folder):
                text = f"submission {number} of {sweep} was never taken: `terry-cluster submit` the file again"
                yield Finding(what="submissions", good=False, text=text)
            missing = [
                name for name in ("jobs.jsonl", "submission.json", "sweep.yaml") if not (folder / name).is_file()
            ]
            if not missing and (wrong := _wrong_with_json(folder / "submission.json")):
                text = f"submission {number} of {sweep}: {wrong}: submit the sweep's file again"
                yield Finding(what="submissions", good=False, text=text)
            if missing:
                text = f"submission {number} of {sweep} lacks {', '.join(missing)}: submit the sweep's file again"
                yield Finding(what="submissions", good=False, text=text)
    rest = f", {plural(left, 'folder')} that an interrupted submit left (harmless)" if left else ""
    yield Finding(
        what="submissions", good=True, text=f"{plural(whole, 'submission')} of {len(state.counts)} sweeps{rest}"
    )


def _is_young(folder: Path) -> bool:
    """Whether it was made in the last seconds: the controller is about to take it."""
    return time.time() - folder.stat().st_mtime < _YOUNG_S


def _runs(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    there = workspace.runs.iterdir() if workspace.runs.is_dir() else ()
    folders = {path.name for path in there if path.is_dir() and path.name[0] != "."}
    unknown = sorted(folders - state.jobs.keys())
    if unknown:
        text = (
            f"{plural(len(unknown), 'folder')} in {workspace.runs} of no job known to the queue: {unknown[0]} ...; "
            "submit its sweep again, or move it away"
        )
        yield Finding(what="runs", good=False, text=text)
    for job_id in sorted(folders & state.jobs.keys()):
        job = state.jobs[job_id].job
        if other := run_folder.is_anothers(workspace.run(job_id), job.identity, job.former):
            text = (
                f"{workspace.run(job_id).root} is the folder of another run ({other[:8]}) than the job {job_id} of the "
                "queue: the job's next attempt sets it aside; to read it with its own queue, restore that from a backup"
            )
            yield Finding(what="runs", good=False, text=text)
    completed = [
        job_id
        for job_id, record in state.jobs.items()
        if record.state is JobState.COMPLETED and record.marks.removed_at is None
    ]
    yield from _gone(completed, folders)
    without = [i for i in completed if i in folders and not workspace.run(i).result.is_file()]
    if without:
        text = (
            f"{plural(len(without), 'completed job')} without a result.json: {without[0]} ...; its checkpoints are "
            f"what is left; `terry-cluster resubmit --from-scratch {without[0]}` makes it again"
        )
        yield Finding(what="runs", good=False, text=text)
    yield Finding(
        what="runs", good=True, text=f"{plural(len(folders), 'folder')}, {plural(len(completed), 'job')} completed"
    )


def _gone(completed: list[str], folders: set[str]) -> Iterator[Finding]:
    """Completed jobs whose folder somebody has removed by hand."""
    gone = [job_id for job_id in completed if job_id not in folders]
    if gone:
        text = (
            f"{plural(len(gone), 'completed job')} without a folder: {gone[0]} ...; it was removed, and not by "
            f"`terry-cluster rm`: `terry-cluster resubmit --from-scratch {gone[0]}` makes it again, "
            f"`terry-cluster rm {gone[0]}` strikes it from the lists"
        )
        yield Finding(what="runs", good=False, text=text)


def _results(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    for job_id, record in state.jobs.items():
        path = workspace.run(job_id).result
        if record.state is JobState.COMPLETED and path.is_file() and (wrong := _wrong_with_json(path)):
            yield Finding(what="runs", good=False, text=f"{wrong}: put it back from a backup; its checkpoints are good")


def _measurements(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    """Lines of metrics that say nothing: views pass them over."""
    from terry.logs.records.metrics import bad_lines

    for job_id in list(state.jobs)[:_RUNS]:
        for _, folder in workspace.run(job_id).attempts():
            path = folder.metrics
            if not path.is_file() or path.stat().st_size > _LARGE:
                continue
            if numbers := bad_lines(path):
                more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
                text = f"{path}, line {numbers[0]}{more}: no measurement; it is passed over, and the rest is shown"
                yield Finding(what="measurements", good=False, text=text)


def _wrong_with_json(path: Path) -> str:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        return f"{path} cannot be read ({error})"
    return ""


def _datasets(workspace: WorkspacePaths) -> Iterator[Finding]:
    """Files of each prepared data set against its manifest: that they are there, by size."""
    from terry.data_prep.errors import DataError
    from terry.data_prep.manifest import dataset_folders, read_manifest

    folders = dataset_folders(workspace.datasets)
    for folder in folders:
        try:
            read_manifest(folder)
        except DataError as error:
            yield Finding(what="datasets", good=False, text=str(error))
    yield Finding(what="datasets", good=True, text=plural(len(folders), "prepared data set"))


def _checkpoints(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    """Sizes and sha256 of the newest checkpoints' files against their manifests."""
    looked = 0
    for job_id in state.jobs:
        if looked == _RUNS:
            break
        found = [p for p in workspace.run(job_id).checkpoints.glob("step-*") if checkpoint_key(p.name)]
        newest = max(found, key=lambda path: checkpoint_key(path.name) or (0, 0, 0), default=None)
        if newest is not None:
            looked += 1
            wrong = _wrong_with(newest)
            if wrong:
                yield Finding(what="checkpoints", good=False, text=f"{newest}: {wrong}; the one before it will be used")
    yield Finding(what="checkpoints", good=True, text=f"the newest of {plural(looked, 'run')} looked at")


def _wrong_with(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, by its manifest; empty if nothing is."""
    try:
        manifest = json.loads((checkpoint / "MANIFEST.json").read_bytes())
        files = manifest["files"].items()
        for name, entry in files:
            there, promised = (checkpoint / name).stat().st_size, int(entry["bytes"])
            if there != promised:
                return f"{name} has {there} bytes where {promised} belong"
            if _sha256(checkpoint / name) != entry["sha256"]:
                return f"the sha256 of {name} is not the one that was written: the disk or somebody changed it"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest cannot be read"
    return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leftovers(workspace: WorkspacePaths, state: State) -> Iterator[Finding]:
    """What writers that were killed left, and nobody is about to remove."""
    found = [p for f in (workspace.queue, workspace.datasets) if f.is_dir() for p in f.glob(".*.tmp")]
    for job_id, record in state.jobs.items():
        if not record.state.holds_device:  # else it may just be written
            run = workspace.run(job_id)
            found += [*run.root.glob(".*.tmp"), *run.checkpoints.glob(".*.tmp"), *run.root.glob("attempts/*/.*.tmp")]
    if found:
        text = f"{plural(len(found), 'half-written file')} of killed writers, harmless: `rm -r` them, as {found[0]}"
        yield Finding(what="leftovers", good=True, text=text)


def _nodes(workspace: WorkspacePaths) -> Iterator[Finding]:
    """What keeps nodes away, in the words of Slurm and ssh; one that Slurm has still to start is no fault."""
    try:
        views = node_views(workspace)
    except UserError:  # said above
        return
    for view in views:
        if view.problem:
            fix = f"; to fix it: {view.fix}" if view.fix else ""
            yield Finding(what="nodes", good=view.condition in WAITS, text=f"{view.name}: {view.problem}{fix}")


def _processes(workspace: WorkspacePaths) -> Iterator[Finding]:
    """Processes of jobs on this node that nobody watches any more."""
    from terry.cluster.agent.marks import AGENT_VARIABLE
    from terry.cluster.host.processes import with_environment_prefix
    from terry.cluster.ray.head import is_well, read_head

    head = read_head(workspace)
    there = with_environment_prefix(AGENT_VARIABLE, f"{workspace.id}/")
    if head is None or not head.is_here:
        watched = False
    else:  # of others' Ray only the port is known
        watched = is_well(head) if head.foreign else any(p.alive for p in head.processes)
    if there and not watched:
        pids = " ".join(str(process.pid) for process in there)
        text = (
            f"{plural(len(there), 'process')} of jobs that no cluster watches: `terry-cluster down` ends them ({pids})"
        )
        yield Finding(what="processes", good=False, text=text)


def _ports(workspace: WorkspacePaths) -> Iterator[Finding]:
    """On which ports Ray can be reached: nothing but the token stands before them."""
    from terry.cluster.ray.daemons import daemons_here
    from terry.cluster.ray.head import read_head
    from terry.cluster.ray.listening import listeners

    head = read_head(workspace)
    found = listeners(daemons_here(workspace))
    exposed = sorted({listener.port for listener in found if listener.is_open})
    if head is not None and head.foreign:
        yield Finding(what="ports", good=True, text=f"Ray at {head.address} is of others: so are its ports")
    elif head is not None and not head.is_open:
        text = f"Ray listens on loopback only ({plural(len(found), 'port')})" if not exposed else _exposed(exposed)
        yield Finding(what="ports", good=not exposed, text=text)
    elif exposed:
        yield Finding(what="ports", good=True, text=f"{_exposed(exposed)}; nobody gets in without the token")
    yield from _other_ports(workspace)
    if workspace.token.exists():
        mode = stat.S_IMODE(workspace.token.stat().st_mode)
        advice = "" if mode == 0o600 else f"; others may join the cluster with it: `chmod 600 {workspace.token}`"
        yield Finding(what="token", good=mode == 0o600, text=f"Ray's token is {mode:04o}{advice}")


def _exposed(ports: list[int]) -> str:
    return f"other nodes can reach Ray here on {', '.join(map(str, ports))}"


def _other_ports(workspace: WorkspacePaths) -> Iterator[Finding]:
    """What the nodes of terry.yaml have open, by its words: from here their sockets cannot be seen."""
    from terry.cluster.config.node_values import node_name

    try:
        hosts = config.read_nodes(workspace).hosts
    except UserError:  # said above
        return
    for host, group in hosts.items():
        which = f"on ports {group.ports} only" if group.ports else "on ports of its own choice"
        advice = "" if group.ports else "; `ports:` in terry.yaml says which, for a firewall"
        yield Finding(what="ports", good=True, text=f"{node_name(host)}: Ray listens {which}{advice}")
