"""A sweep's YAML of Weights & Biases (https://docs.wandb.ai/guides/sweeps/define-sweep-configuration/)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terry.cluster.errors import UserError
from terry.jobs.imports.brought import COUNT, Brought, parameter, safe_name, spelt

#: What its agent runs where the file does not say.
_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_PLACES = {
    "early_terminate": "poor runs go on to their end: `sweep.halving` needs an entry point that asks `ctx.prune`",
    "project": "wandb's own; `run.environment: {WANDB_PROJECT: ...}` if the program goes on logging there",
    "entity": "wandb's own; `run.environment: {WANDB_ENTITY: ...}`",
    "imageuri": "nothing runs in containers here",
    "job": "nothing runs in containers here",
}
_KNOWN = {"program", "method", "name", "parameters", "command", "run_cap", "description", "metric", *_PLACES}


def is_one(document: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return "method" in document and "parameters" in document and "run" not in document


def read(document: Mapping[str, Any], file: Path) -> Brought:
    """Raises UserError where nothing could be run."""
    method, program = str(document.get("method")), document.get("program")
    if not program and not document.get("command"):
        raise UserError("has neither `program:` nor `command:`, so there is nothing to run", file=file)
    if method not in {"grid", "random", "bayes"}:
        raise UserError(f"method: {method!r} is none of grid, random, bayes", file=file)
    name = safe_name(str(document.get("name") or Path(str(program or file)).stem), "sweep")
    found = Brought(tool="Weights & Biases", name=name)
    given = document.get("parameters")
    if not isinstance(given, Mapping):
        raise UserError("`parameters:` must be a mapping", file=file)
    names = [str(key) for key, value in given.items() if _take(found, str(key), value, method)]
    found.command = _command(found, document, names)
    if method == "bayes":
        found.left_out.append("method: bayes: points are drawn at random; `sweep.search` would choose them")
    _count(found, document.get("run_cap"))
    if isinstance(metric := document.get("metric"), Mapping):
        highest = " --highest" if metric.get("goal") == "maximize" else ""
        found.left_out.append(
            f"metric: asked for afterwards: `terry-cluster results --by {metric.get('name')}{highest}`"
        )
    found.left_out += [f"{key}: {_PLACES[key]}" for key in document if key in _PLACES]
    found.left_out += [f"{key}: not known" for key in document if key not in _KNOWN]
    return found


def _count(found: Brought, cap: Any) -> None:
    if isinstance(cap, int) and found.draws:
        found.count = cap
    elif cap is not None:
        found.left_out.append(f"run_cap: {cap}: a grid is run whole")
    elif found.draws:
        found.left_out.append(f"the sweep had no end: {COUNT} points are drawn; `sweep.random.count` says how many")


def _take(found: Brought, key: str, value: Any, method: str) -> bool:
    """One parameter; False where it cannot be carried over: then the program's own default counts."""
    name = parameter(key)
    if not isinstance(value, Mapping):
        found.left_out.append(f"parameters.{key}: must be a mapping such as {{value: 1}}")
        return False
    if "value" in value:
        found.parameters[name] = spelt(value["value"])
        return True
    if isinstance(value.get("values"), list) and value["values"]:
        values = [spelt(each) for each in value["values"]]
        if method == "grid":
            found.grid[name] = values
        else:
            found.draws[name] = {"choice": values}
        if "probabilities" in value:
            found.left_out.append(f"parameters.{key}.probabilities: all values are equally likely")
        return True
    drawn = _distribution(found, key, value)
    if drawn is None:
        return False
    found.draws[name] = drawn
    if method == "grid":
        found.left_out.append(f"parameters.{key}: a range in a grid: it is drawn at random")
    return True


def _distribution(found: Brought, key: str, value: Mapping[str, Any]) -> dict[str, Any] | None:
    if "parameters" in value:
        found.left_out.append(f"parameters.{key}: nested parameters; give each a name of its own")
        return None
    low, high = (_number(value.get(bound)) for bound in ("min", "max"))
    whole = all(isinstance(value.get(bound), int) for bound in ("min", "max"))
    kind = str(value.get("distribution") or ("int_uniform" if whole else "uniform"))
    plain = kind.removeprefix("q_")
    if low is None or high is None or plain not in {"uniform", "int_uniform", "log_uniform", "log_uniform_values"}:
        found.left_out.append(f"parameters.{key}: {kind} is not known here; the program's own default counts")
        return None
    if plain != kind:
        found.left_out.append(f"parameters.{key}.q: it is drawn without steps")
    if plain == "int_uniform":
        return {"integer": [int(low), int(high)]}
    if plain == "uniform":
        return {"uniform": [low, high]}
    return {"log_uniform": [math.exp(low), math.exp(high)] if plain == "log_uniform" else [low, high]}


def _number(value: Any) -> float | int | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    try:
        return float(value)  # `1e-4` is text to YAML 1.1
    except (TypeError, ValueError):
        return None


def _command(found: Brought, document: Mapping[str, Any], names: list[str]) -> list[str]:
    given = document.get("command") or _COMMAND
    words = given.split() if isinstance(given, str) else list(given)
    return [argument for word in words for argument in _argument(found, str(word), document, names)]


def _argument(found: Brought, word: str, document: Mapping[str, Any], names: list[str]) -> list[str]:
    if word in {"${env}", "/usr/bin/env"}:
        return []
    if word == "${interpreter}":
        return ["python"]
    if word in {"${args}", "${args_no_hyphens}"}:
        dashes = "" if "hyphens" in word else "--"
        return [f"{dashes}{name}=${{parameters.{parameter(name)}}}" for name in names]
    if word == "${args_no_boolean_flags}":
        return [each for name in names for each in _flag(found, name)]
    if word == "${args_json}":
        return ["${parameters}"]
    whole = word.replace("${program}", str(document.get("program") or ""))
    if unknown := re.search(r"\$\{[^}]*\}", whole):
        found.left_out.append(f"command: {unknown[0]} is not filled in here")
    return [whole]


def _flag(found: Brought, name: str) -> list[str]:
    """`--flag` alone where it is true, nothing where it is not: that can be said of what does not vary."""
    key = parameter(name)
    varied = [*found.grid.get(key, ()), *found.draws.get(key, {}).get("choice", ())]
    if set(varied) & {"True", "False"}:
        found.left_out.append(f"parameters.{name}: a switch that varies; give the program --{name}=True instead")
        return []
    fixed = found.parameters.get(key)
    return [f"--{name}"] if fixed == "True" else [] if fixed == "False" else [f"--{name}=${{parameters.{key}}}"]
