"""`run.command`: any program as a job. Its argument list, and what is filled in for each run. Pure but for one hash.

Nothing goes through a shell: text is split into arguments as a shell would split it, and that is all.
`${parameters.lr}`, `${run_dir}`, `${attempt}`, `${job_id}`, `${sweep}` and `${device}` are filled in when an attempt
starts; kept until then as `%{...}`, so that they are no interpolations of the file.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMAND = "terry.jobs.command:main"

_NAMES = ("run_dir", "attempt", "job_id", "sweep", "device")
_GIVEN = re.compile(r"\$\{\s*(parameters(?:\.[^{}]+)?|" + "|".join(_NAMES) + r")\s*\}")
_KEPT = re.compile(r"%\{(parameters(?:\.[^{}]+)?|" + "|".join(_NAMES) + r")\}")

#: Files named in a command up to this size are code: another content makes another run (bytes).
_CODE_BYTES = 1_000_000


def read_command(value: Any, path: object = ()) -> list[str]:
    """A list of arguments, of a list or of text. Raises ValueError."""
    del path
    if isinstance(value, str):
        try:
            arguments = shlex.split(str(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments ({str(error).lower()}): write a list") from None
    elif isinstance(value, (list, tuple)):
        arguments = [_argument(item) for item in value]
    else:
        raise ValueError("must be a list of arguments, such as [python, train.py], or text that is split into them")
    if not arguments or not arguments[0]:
        raise ValueError("must name a program and its arguments, such as [python, train.py, --lr, 0.1]")
    return [_GIVEN.sub(r"%{\1}", argument) for argument in arguments]


def _argument(value: Any) -> str:
    if value is None or isinstance(value, (Mapping, list, tuple)):
        raise ValueError("must be a list of words and numbers: one for each argument")
    text = as_text(value)
    if "\0" in text:
        raise ValueError("cannot have a NUL character in an argument")
    return text


def as_text(value: Any) -> str:
    """A value as a program gets it: text as it is, true and false, nothing as nothing, all else as JSON."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else json.dumps(value)


def check_command(arguments: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter that is filled in and is not there."""
    for argument in arguments:
        for name in _KEPT.findall(argument):
            if name.startswith("parameters."):
                _parameter(name, parameters)


def _parameter(name: str, parameters: Mapping[str, Any]) -> Any:
    found: Any = parameters
    for part in name.split(".")[1:]:
        if not isinstance(found, Mapping) or part not in found:
            known = ", ".join(map(str, parameters)) or "none"
            raise ValueError(f"has ${{{name}}}, and there is no such parameter (there are: {known})")
        found = found[part]
    return found


def filled(arguments: Sequence[str], parameters: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """The argument list of an attempt. values: what the names stand for; those that are not known yet stay."""

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name == "parameters":
            return as_text(dict(parameters))
        if name.startswith("parameters."):
            return as_text(_parameter(name, parameters))
        return values.get(name, f"${{{name}}}")

    return [_KEPT.sub(fill, argument) for argument in arguments]


def code_hash(arguments: Sequence[str], folder: Path) -> str:
    """sha256 of the small files that a command names: scripts, settings. Empty where it names none."""
    digest, some = hashlib.sha256(), False
    for argument in arguments:
        path = folder / argument
        try:
            if "%{" in argument or not path.is_file() or path.stat().st_size > _CODE_BYTES:
                continue
            content = path.read_bytes()
        except (OSError, ValueError):
            continue
        digest.update(f"{argument}\0{len(content)}\0".encode())
        digest.update(content)
        some = True
    return digest.hexdigest() if some else ""


def read_metrics(value: Any, path: object = ()) -> dict[str, str]:
    """Patterns by the names of what they measure: each with one group, the number. Raises ValueError."""
    del path
    if not isinstance(value, Mapping):
        raise ValueError('must be patterns by name, such as {step: "step ([0-9]+)", loss: "loss ([0-9.]+)"}')
    for name, pattern in value.items():
        try:
            groups = re.compile(str(pattern)).groups
        except re.error as error:
            raise ValueError(f"{name}: {pattern} is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"{name}: {pattern} must have one group, as in loss[:=] *([0-9.]+), not {groups}")
    return {str(name): str(pattern) for name, pattern in value.items()}


def read_environment(value: Any, path: object = ()) -> dict[str, str]:
    """Variables as text. Raises ValueError."""
    del path
    if not isinstance(value, Mapping):
        raise ValueError("must be variables by name, such as {OMP_NUM_THREADS: 1}")
    for name, item in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
            raise ValueError(f"{name!r} is no name of a variable")
        if str(name).startswith("TERRY_") or name == "CUDA_VISIBLE_DEVICES":
            raise ValueError(f"{name} is set for each run, and cannot be set here")
        if isinstance(item, (Mapping, list, tuple)) or item is None:
            raise ValueError(f"{name} must be text or a number")
    return {str(name): as_text(item) for name, item in value.items()}
