"""Data sets named on the command line: files and `key=value` settings instead of an entry of a sweep file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terry.cluster.config.typed import convert, put
from terry.cluster.config.yaml_file import Problem, parse_value
from terry.cluster.errors import UserError
from terry.cluster.files.paths import NAME
from terry.data_prep.config import DatasetConfig, validate
from terry.jobs.sweeps import inputs


def from_files(files: Sequence[str], settings: Sequence[str], base: Path) -> DatasetConfig:
    """The configuration of a data set made of these files (relative to `base`).

    settings: `column=body`, `unit=paragraph`, `split.valid=0.1`: the keys of an entry of `datasets:`. Raises UserError.
    """
    values: dict[str, Any] = {"source": list(files)}
    for text in settings:
        key, _, value = text.partition("=")
        put(values, tuple(key.strip().split(".")), parse_value(value))
    try:
        config = convert(values, DatasetConfig)
        validate(config)
        inputs.check(config, base, ())
    except UserError:
        raise
    except Problem as problem:
        raise UserError(str(problem)) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    return config


def name_of(files: Sequence[str]) -> str:
    """A data set's name after its first file. Raises UserError where none can be made of it."""
    name = Path(files[0]).name.split(".")[0][:40]
    if not NAME.fullmatch(name):
        raise UserError(f"{files[0]} gives no name for a data set; choose one with --name")
    return name
