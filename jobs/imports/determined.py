"""An experiment's YAML of Determined: `hyperparameters`, `searcher`, `entrypoint`.

See https://docs.determined.ai/latest/reference/training/experiment-config-reference.html.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terry.cluster.errors import UserError
from terry.jobs.imports.brought import Brought, safe_name

_PLACES = {
    "bind_mounts": "nothing runs in containers here",
    "checkpoint_policy": "checkpoints are the program's own, or `run.checkpoint` of an entry point",
    "checkpoint_storage": "checkpoints stay in the run's folder",
    "data": "give its values as parameters",
    "min_checkpoint_period": "`run.checkpoint.every` of an entry point",
    "min_validation_period": "the program's own affair",
    "perform_initial_validation": "the program's own affair",
    "profiling": "not measured here",
    "project": "name the sweep after it",
    "records_per_epoch": "the program's own affair",
    "scheduling_unit": "the program's own affair",
    "workspace": "a workspace is a folder here: `terry-cluster -w FOLDER`",
}
_KNOWN = {"name", "entrypoint", "hyperparameters", "searcher", "resources", "environment", "max_restarts"}
_KNOWN |= {"description", "labels", *_PLACES}
_ADAPTIVE = "poor trials go on to their end: `sweep.halving` needs an entry point that asks `ctx.prune`"


def is_one(document: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return "searcher" in document and ("entrypoint" in document or "hyperparameters" in document)


def read(document: Mapping[str, Any], file: Path) -> Brought:
    """Raises UserError where nothing could be run."""
    entry = document.get("entrypoint")
    words = shlex.split(entry) if isinstance(entry, str) else [str(word) for word in entry or ()]
    if not words or (len(words) == 1 and ":" in words[0]):
        raise UserError(
            "entrypoint must be a command such as `python3 train.py`: a Trial class runs inside of Determined alone",
            file=file,
        )
    found = Brought(tool="Determined", name=safe_name(str(document.get("name") or file.stem), "experiment"))
    found.command = words
    searcher = document.get("searcher")
    if not isinstance(searcher, Mapping):
        raise UserError("`searcher:` must be a mapping, such as {name: grid}", file=file)
    kind = str(searcher.get("name"))
    for key, value in _flat(document.get("hyperparameters") or {}):
        _take(found, key, value, kind)
    if found.parameters or found.grid or found.draws:
        found.left_out.append(
            "hyperparameters of the cluster info: the program finds them as JSON in TERRY_PARAMETERS, and "
            "`${parameters.NAME}` puts one on its command line"
        )
    _search(found, searcher, kind)
    _resources(found, document)
    found.left_out += [f"{key}: {_PLACES[key]}" for key in document if key in _PLACES]
    found.left_out += [f"{key}: not known" for key in document if key not in _KNOWN]
    return found


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, Mapping) and "type" not in value
        found += _flat(value, f"{before}{key}.") if nested else [(f"{before}{key}", value)]
    return found


def _take(found: Brought, key: str, value: Any, kind: str) -> None:
    if not isinstance(value, Mapping):
        _put(found.parameters, key, value)
        return
    sort = value.get("type")
    if sort == "const":
        _put(found.parameters, key, value.get("val"))
    elif sort == "categorical" and isinstance(value.get("vals"), list) and value["vals"]:
        if kind == "grid":
            found.grid[key] = list(value["vals"])
        else:
            found.draws[key] = {"choice": list(value["vals"])}
    else:
        _range(found, key, value, kind)


def _put(parameters: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    for folder in folders:
        parameters = parameters.setdefault(folder, {})
    parameters[last] = value


def _range(found: Brought, key: str, value: Mapping[str, Any], kind: str) -> None:
    sort = value.get("type")
    try:
        low, high = float(value["minval"]), float(value["maxval"])
        base = float(value.get("base", 10))
    except (KeyError, TypeError, ValueError):
        low = high = base = 0.0
        sort = None
    if sort not in {"int", "double", "log"} or not low < high:
        found.left_out.append(f"hyperparameters.{key}: {dict(value)} is not known here")
    elif kind == "grid":
        _steps(found, key, str(sort), low, high, base, value.get("count"))
    elif sort == "int":
        found.draws[key] = {"integer": [int(low), int(high)]}
    elif sort == "double":
        found.draws[key] = {"uniform": [low, high]}
    else:
        found.draws[key] = {"log_uniform": [base**low, base**high]}


def _steps(found: Brought, key: str, sort: str, low: float, high: float, base: float, count: Any) -> None:
    """A range in a grid: so many values, the ends among them."""
    if sort == "int" and not isinstance(count, int):
        count = int(high - low) + 1
    if not isinstance(count, int) or count < 1:
        found.left_out.append(f"hyperparameters.{key}: a range in a grid needs `count:`")
        return
    values = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
    if sort == "int":
        found.grid[key] = list(dict.fromkeys(round(each) for each in values))
    else:
        found.grid[key] = [float(f"{base**each if sort == 'log' else each:.6g}") for each in values]


def _search(found: Brought, searcher: Mapping[str, Any], kind: str) -> None:
    trials = searcher.get("max_trials")
    if found.draws and kind != "single":
        found.count = trials if isinstance(trials, int) else None
    elif found.draws:
        found.count = 1
    if kind not in {"single", "random", "grid"}:
        found.left_out.append(f"searcher.name: {kind}: {_ADAPTIVE}")
    for key in searcher:
        if key not in {"name", "max_trials"}:
            found.left_out.append(f"searcher.{key}: the program's own affair, or a question to `results --by`")


def _resources(found: Brought, document: Mapping[str, Any]) -> None:
    resources = document.get("resources") or {}
    for key, value in resources.items() if isinstance(resources, Mapping) else ():
        if key == "slots_per_trial" and value in {0, 1}:
            found.run["resources"] = {"gpus": 1} if value else {"cpus": 1}
        elif key == "slots_per_trial":
            found.left_out.append(f"resources.slots_per_trial: {value}: a run has one device here")
        elif key == "priority":
            found.left_out.append(f"resources.priority: {value}: lower goes first there, higher here (`run.priority`)")
        else:
            found.left_out.append(f"resources.{key}: nodes are chosen by `run.resources.node` and `device`")
    restarts = document.get("max_restarts")
    if isinstance(restarts, int):
        found.run["retry"] = {"crash": restarts, "exception": restarts}
    environment = document.get("environment") or {}
    for key, value in environment.items() if isinstance(environment, Mapping) else ():
        if key == "environment_variables" and isinstance(value, list):
            found.run["environment"] = dict(str(each).partition("=")[::2] for each in value)
        else:
            found.left_out.append(f"environment.{key}: nothing runs in containers here; `setup:` in terry.yaml")
