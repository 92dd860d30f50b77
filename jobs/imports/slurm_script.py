"""A batch script of Slurm, with an array (https://slurm.schedmd.com/job_array.html): the script runs unchanged.

Its `#SBATCH` lines are comments to the shell; what they ask for becomes settings of the runs.
"""

from __future__ import annotations

import re
from pathlib import Path

from terry.cluster.errors import UserError
from terry.jobs.imports.brought import Brought, safe_name

_OPTION = re.compile(
    r"^#SBATCH[ \t]+(?:--([a-z-]+)|-([A-Za-z]))(?:[ \t]*[= \t][ \t]*(\S.*?))??[ \t]*(?:[ \t]#.*)?$", re.MULTILINE
)
_SHORT = {
    "a": "array",
    "J": "job-name",
    "t": "time",
    "c": "cpus-per-task",
    "G": "gpus",
    "p": "partition",
    "o": "output",
}
_SHORT |= {"e": "error", "n": "ntasks", "N": "nodes", "A": "account", "q": "qos", "D": "chdir", "d": "dependency"}
_NODES = "where nodes come from stands in terry.yaml (docs/how-to/slurm.md)"
_PLACES = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "reservation", "nodelist", "exclude"), _NODES),
    **dict.fromkeys(("output", "error"), "`terry-cluster logs`; each attempt's output is in its run's folder"),
    **dict.fromkeys(("mail-type", "mail-user"), "`on_finish:` in terry.yaml runs a command of yours"),
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), "memory is shared by the runs on a device"),
    "dependency": "`terry-cluster wait` in a script of yours",
    "requeue": "a run that crashes goes on by itself",
}
_MOST = 100_000
_SRUN = re.compile(r"^\s*(?:exec\s+)?srun\b", re.MULTILINE)


def is_one(text: str) -> bool:
    """Whether it looks like one."""
    return re.search(r"^#SBATCH\s", text, re.MULTILINE) is not None


def read(text: str, file: Path) -> Brought:
    """Raises UserError for an array that is none."""
    options = {long or _SHORT.get(short, short): value for long, short, value in _OPTION.findall(text)}
    found = Brought(tool="Slurm", name=safe_name(options.pop("job-name", file.stem), "script"))
    shell = re.match(r"#![ \t]*(\S+)(?:[ \t]+(\S+))?", text)
    program = [word for word in (shell.groups() if shell else ("/bin/bash", None)) if word]
    script = str(Path(options["chdir"], file.name)) if "chdir" in options else file.name
    found.command = [*program, script]
    if "chdir" in options:
        found.left_out.append(f"chdir: {options.pop('chdir')}: submit from there; programs run where the sweep file is")
    if "array" in options:
        _array(found, options.pop("array"), file)
    _resources(found, options)
    if _SRUN.search(text):
        found.left_out.append("srun in the script: it asks Slurm for a step; run the program without it")
    found.left_out += [f"{name}: {_PLACES.get(name, 'not carried over')}" for name in options]
    return found


def _array(found: Brought, text: str, file: Path) -> None:
    listed, _, most = text.partition("%")
    tasks: list[int] = []
    for part in listed.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", part)
        first, last, step = (int(each or 0) for each in match.groups()) if match else (0, -1, 0)
        last = last if match and match[2] else first
        if match is None or last < first or (last - first) // (step or 1) > _MOST:
            raise UserError(f"--array={text}: must be numbers such as 0-9, 1,3,5 or 0-90:10%4", file=file)
        tasks += range(first, last + 1, step or 1)
    tasks = sorted(set(tasks))
    found.grid["task"] = tasks
    names = {"COUNT": len(tasks), "MIN": tasks[0], "MAX": tasks[-1]}
    given = [f"SLURM_ARRAY_TASK_{name}={value}" for name, value in names.items()]
    found.command = ["env", "SLURM_ARRAY_TASK_ID=${parameters.task}", *given, *found.command]
    if most:
        found.left_out.append(f"%{most} of the array: as many run as there is room for")


def _resources(found: Brought, options: dict[str, str]) -> None:
    gpus = _gpus(options)
    cores = options.pop("cpus-per-task", "")
    cpus = int(cores) if cores.isdigit() else 1
    found.run["resources"] = {"gpus": 1} if gpus else {"cpus": cpus}
    if gpus > 1:
        found.left_out.append(f"{gpus} GPUs a task: a run has one device here")
    if gpus and cores.isdigit():
        found.run["threads"] = cpus
    limit = options.pop("time", "")
    seconds = _seconds(limit)
    if seconds:
        found.run["time_limit"] = seconds
    elif limit:
        found.left_out.append(f"time: {limit}: no time limit")
    for name in ("nodes", "ntasks", "ntasks-per-node"):
        if name in options and options.pop(name) != "1":
            found.left_out.append(f"{name}: a run is one process on one node")


def _gpus(options: dict[str, str]) -> int:
    for name in ("gpus", "gpus-per-node", "gpus-per-task", "gres"):
        asked = re.search(r"(?:^|:)(\d+)$", options.get(name, ""))
        if name in options and (name != "gres" or "gpu" in options[name]):
            del options[name]
            return int(asked[1]) if asked else 1
    return 0


def _seconds(text: str) -> int:
    """Of M, M:S, H:M:S, D-H, D-H:M, D-H:M:S, as `sbatch` takes them; 0 where it is none of them."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in (*parts, days or "0")) or len(parts) > 3:
        return 0
    numbers = [int(part) for part in parts]
    if dash or len(numbers) == 3:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
