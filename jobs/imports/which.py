"""What a file is, by its contents, and the sweep file that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from terry.cluster.errors import UserError
from terry.jobs.imports import determined, hydra_line, slurm_script, wandb_sweep
from terry.jobs.imports.brought import Brought

_MOST_BYTES = 1_000_000
_KINDS = (
    "a sweep of Weights & Biases (YAML with `method` and `parameters`), an experiment of Determined (YAML with "
    "`searcher` and `entrypoint`), a batch script of Slurm (`#SBATCH` lines), or a command with Hydra's `--multirun`"
)


def read(file: Path, text: str | None = None) -> Brought:
    """Raises UserError for a file that is none of those, or lacks what is needed; OSError."""
    text = _text(file) if text is None else text
    if slurm_script.is_one(text):
        return slurm_script.read(text, file)
    if (line := hydra_line.line_in(text)) is not None:
        return hydra_line.read(line, file)
    document = _document(text, file)
    if isinstance(document, dict):
        if wandb_sweep.is_one(document):
            return wandb_sweep.read(document, file)
        if determined.is_one(document):
            return determined.read(document, file)
    raise UserError(f"is none of the files that can be imported: {_KINDS}", file=file)


def _text(file: Path) -> str:
    if file.is_dir():
        raise UserError(f"is a folder; `import` takes {_KINDS}", file=file)
    if file.stat().st_size > _MOST_BYTES:
        raise UserError(f"is larger than {_MOST_BYTES:,} bytes: {_KINDS}", file=file)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"is no text: `import` takes {_KINDS}", file=file) from None


def _document(text: str, file: Path) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        if file.suffix.lower() not in {".yaml", ".yml"}:
            return None
        raise UserError(f"cannot be read as YAML: {getattr(error, 'problem', error)}", file=file, line=line) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as YAML: {error}", file=file) from None
