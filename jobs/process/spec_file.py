"""spec.yaml: what a run is made of, written once before its first step, so that all know what a result came from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import secrets
import shutil
from pathlib import Path
from typing import Any

import msgspec
import yaml

from terry.cluster.errors import UserError
from terry.cluster.files import durable, run_folder
from terry.cluster.files.paths import Run
from terry.cluster.host import versions
from terry.jobs.process.context import RunContext
from terry.jobs.process.order import Order
from terry.jobs.submitting.records import JobLine

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_once(context: RunContext, line: JobLine) -> None:
    """Write spec.yaml unless it is there. Of a run that goes on for longer the old one is kept. Raises OSError."""
    if context.run.spec.exists():
        before = run_folder.identity_of(context.run) if line.job.former else ""
        if before not in line.job.former:
            return
        kept = context.run.spec.with_name(f"spec-{before[:8]}.yaml")
        durable.write_bytes(kept, context.run.spec.read_bytes())
    content = {
        "job": context.job_id,
        "sweep": context.sweep,
        "kind": line.job.kind,
        "entrypoint": line.job.entrypoint,
        "submitted_at": line.job.submitted_at.isoformat(),
        "owner": line.job.owner,
        "labels": dict(line.job.labels),
        "resources": msgspec.to_builtins(line.job.resources),
        "config": context.settings,
        "inputs": {name: {"job": line.inputs[name], **context.inputs[name]} for name in line.inputs},
        "hashes": {"identity": line.job.identity, "terry": terry_hash(), **_source_hash(context)},
        "versions": dict(versions.installed()),
    }
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    durable.write_bytes(context.run.spec, text.encode())


def require_own(run: Run, line: JobLine) -> None:
    """Raise UserError in the folder of another run: its checkpoints are not ours to go on from."""
    if other := run_folder.is_anothers(run, line.job.identity, line.job.former):
        raise UserError(f"{run.root} is the folder of another run ({other[:8]}): move it away")


def own_source(order: Order, source: str) -> Path:
    """The run's own copy of the user's code, made from the submission's at the first attempt. Raises OSError."""
    target = order.run.source
    if not target.is_dir():
        root = order.place.root.resolve()
        submitted = (root / source).resolve()
        if not submitted.is_relative_to(root):
            raise ValueError(f"{source} is outside the workspace")
        temporary = target.with_name(f".source.{secrets.token_hex(4)}.tmp")
        shutil.copytree(submitted, temporary, ignore=_links)
        with contextlib.suppress(FileExistsError):  # an attempt that was thought dead came first: the same code
            durable.publish_folder(temporary, target)
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _links(folder: str, names: list[str]) -> list[str]:
    """A submission has none: what is one here was put there later."""
    return [name for name in names if Path(folder, name).is_symlink()]


@functools.cache
def terry_hash() -> str:
    """sha256 over Terry's own code that decides a result: models, data preparation, jobs."""
    return folder_hash(own_folders())


def own_folders() -> list[Path]:
    """Where the packages stand whose code decides a result; found by import, so that no move of a module loses them."""
    found = [importlib.util.find_spec(name) for name in ("terry.models", "terry.data_prep", "terry.jobs")]
    return [Path(spec.origin).parent for spec in found if spec is not None and spec.origin is not None]


def folder_hash(folders: list[Path]) -> str:
    """sha256 over the Python files of some folders: names relative to each folder's parent, and contents."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder.parent).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _source_hash(context: RunContext) -> dict[str, str]:
    if not context.run.source.is_dir():
        return {}
    return {"source": folder_hash([context.run.source])}
