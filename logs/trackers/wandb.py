"""Into a folder of offline runs of Weights & Biases, which `wandb sync` uploads: a project a sweep.

What W&B does offline that shapes this: a run cannot be resumed (so it is written once, when it has ended), a smaller
step is dropped in silence (so there is one curve with ascending steps), and each `init` makes a folder of its own,
named by the moment and the id. Which of these are whole is kept beside them, in `terry-export.json`; one that a killed
export has left is removed and written anew.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.logs.trackers.content import TrackedRun

_INDEX = "terry-export.json"
#: So many runs are lost to a killed export at most, and are written anew.
_TOGETHER = 25


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is whole."""

    fingerprint: str
    folder: str  #: below the export's folder


class Wandb:
    """`folder` gets a folder `wandb/`, as a training script would make it."""

    def __init__(self, folder: str) -> None:
        """Raises UserError where the library is missing or the folder cannot be written."""
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError:
            raise UserError("Weights & Biases is not installed here: pip install 'terry-cluster[wandb]'") from None
        if "://" in folder:
            raise UserError(f"--to wandb takes a folder, not {folder}; `wandb sync` uploads what is written there")
        self._wandb: Any = wandb
        self._folder = Path(folder).absolute()
        try:
            durable.make_folder(self._folder)
        except OSError as error:
            raise UserError(f"{self._folder} cannot be made: {error.strerror}") from None
        self._index = self._read()
        self._written: dict[str, Entry] = {}  # by the service, which may not have brought it to the files yet

    def there(self, run: TrackedRun) -> str | None:
        """See Tracker."""
        found = self._written.get(run.key) or self._index.get(run.key)
        return found.fingerprint if found is not None and (self._folder / found.folder).is_dir() else None

    def write(self, run: TrackedRun) -> None:
        """See Tracker."""
        for old in self._folder.glob(f"wandb/offline-run-*-{run.key}"):
            shutil.rmtree(old)
        made = self._wandb.init(
            mode="offline",
            dir=str(self._folder),
            project=re.sub(r"[/\\#?%:]", "-", run.sweep),
            name=run.name,
            id=run.key,
            group=run.sweep,
            job_type=run.state,
            config={**run.settings, "terry": dict(run.tags)},
            settings=self._wandb.Settings(
                console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True, save_code=False, silent=True
            ),
        )
        for row in run.curve:
            values = {key: value for key, value in row.items() if key != "step" and _plain(value)}
            # Held back (`commit=False`, the default with `step=`), the last row would overwrite the summary below.
            made.log({**values, "terry_step": row["step"]}, step=int(row["step"]), commit=True)
        folder = Path(made.dir).parent.relative_to(self._folder)
        # Figures as `results` has them, in place of W&B's own "the last that was logged".
        made.summary.update({key: value for key, value in run.figures.items() if value is not None})
        for key, text in run.not_finite().items():
            made.summary[f"not_finite/{key}"] = text
        made.summary["state"] = run.state
        made.finish(exit_code=0 if run.state == "completed" else 1)
        self._written[run.key] = Entry(fingerprint=run.fingerprint(), folder=str(folder))
        if len(self._written) >= _TOGETHER:
            self.close()

    def close(self) -> None:
        """Ends the library's service: only then is all of it in the files. Then these count as written."""
        self._wandb.teardown()
        if self._written:
            self._index |= self._written
            self._written = {}
            durable.write_json(self._folder / _INDEX, self._index)

    def _read(self) -> dict[str, Entry]:
        path = self._folder / _INDEX
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Entry])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise UserError(f"cannot be read: {error}; remove it to have all runs written anew", file=path) from None


def _plain(value: object) -> bool:
    return isinstance(value, int | float | str | bool)
