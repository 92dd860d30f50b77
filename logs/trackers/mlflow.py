"""Into an MLflow tracking store: an experiment a sweep, a run a run.

What MLflow 3 does that shapes this: it gives runs ids of its own (so ours stands in a tag); it stores infinity as
1.797e308, which then wins a sort (so infinities are named in a tag, and are no metric); `log_batch` is all or nothing
(so settings go apart from measurements); names may hold few characters; parameters are cut at 6,000 characters. A run
counts as exported by its last write: one that a killed export has left is deleted and written anew.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from terry.cluster.errors import UserError
from terry.logs.trackers.content import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_KEY, _DONE = "terry.key", "terry.fingerprint"
_PARAMETERS, _METRICS, _PARAMETER, _TAG, _NAME = 100, 1000, 6000, 8000, 250
_REFUSED = re.compile(r"[^\w.\-/ :]")
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class Mlflow:
    """A store by its URI: `sqlite:///mlflow.db`, `http://host:5000`."""

    def __init__(self, uri: str) -> None:
        """Raises UserError where the library is missing or the store cannot be opened."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UserError("MLflow is not installed here: pip install 'terry-cluster[mlflow]'") from None
        for logger in ("alembic", "mlflow"):  # they tell of every table they make
            logging.getLogger(logger).setLevel(logging.WARNING)
        self._uri = uri
        self._experiments: dict[str, str] = {}
        self._known: dict[str, tuple[str, str | None]] = {}  # key -> id of the run, and its fingerprint
        try:
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:  # its stores raise what their drivers do
            first = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise UserError(f"MLflow cannot open {uri}: {first}") from None

    def there(self, run: TrackedRun) -> str | None:
        """See Tracker."""
        self._experiment(run.sweep)
        return self._known.get(run.key, ("", None))[1]

    def write(self, run: TrackedRun) -> None:
        """See Tracker."""
        client, experiment = self._client, self._experiment(run.sweep)
        if run.key in self._known:
            client.delete_run(self._known.pop(run.key)[0])
        parameters, long = _parameters(run.settings)
        told = {f"not_finite.{name(key)}": text for key, text in run.not_finite().items()}
        tags = {**run.tags, **told, **long, "terry.sweep": run.sweep, "terry.state": run.state, _KEY: run.key}
        tags |= {f"final.{name(k)}": v for k, v in run.figures.items() if isinstance(v, str)}
        made = client.create_run(
            experiment,
            start_time=_ms(run.began),
            tags={key: text[:_TAG] for key, text in tags.items()},
            run_name=run.name,
        )
        run_id = made.info.run_id
        self._known[run.key] = (run_id, None)
        self._log(run_id, parameters, run)
        client.set_terminated(run_id, _STATUS.get(run.state, "FINISHED"), _ms(run.ended))
        client.set_tag(run_id, _DONE, run.fingerprint(), synchronous=True)
        self._known[run.key] = (run_id, run.fingerprint())

    def _log(self, run_id: str, parameters: dict[str, str], run: TrackedRun) -> None:
        from mlflow.entities import Param

        items = [Param(key, text) for key, text in parameters.items()]
        for i in range(0, len(items), _PARAMETERS):
            self._client.log_batch(run_id, params=items[i : i + _PARAMETERS])
        metrics = list(_metrics(run))
        for i in range(0, len(metrics), _METRICS):
            self._client.log_batch(run_id, metrics=metrics[i : i + _METRICS])

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            found = self._client.get_experiment_by_name(sweep)
            if found is not None and found.lifecycle_stage == "deleted":
                raise UserError(
                    f"the experiment {sweep!r} in {self._uri} was deleted: restore it "
                    f"(`mlflow experiments restore -x {found.experiment_id}`), or export elsewhere"
                )
            made = found.experiment_id if found is not None else self._client.create_experiment(sweep)
            self._experiments[sweep] = made
            self._known |= self._runs(made)
        return self._experiments[sweep]

    def _runs(self, experiment: str) -> dict[str, tuple[str, str | None]]:
        found: dict[str, tuple[str, str | None]] = {}
        token: str | None = None
        while True:
            page = self._client.search_runs([experiment], max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                if _KEY in tags and (tags[_KEY] not in found or tags.get(_DONE)):
                    found[tags[_KEY]] = (run.info.run_id, tags.get(_DONE))
            token = page.token
            if not token:
                return found

    def close(self) -> None:
        """See Tracker: it is all there."""


def name(text: str) -> str:
    """A name as MLflow takes it: other characters are written by their number, so that no two names become one."""
    safe = _REFUSED.sub(lambda found: f":{ord(found[0]):x}:", text)
    parts = [part if part not in {"", ".", ".."} else f":{part.replace('.', '2e')}:" for part in safe.split("/")]
    return "/".join(parts)[:_NAME]


def _parameters(settings: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """All settings that are set, and tags that say which of them were cut."""
    texts = {name(key): str(value) for key, value in settings.items() if value is not None}
    cut = {f"cut.{key}": f"{len(text):,} characters" for key, text in texts.items() if len(text) > _PARAMETER}
    return {key: text[:_PARAMETER] for key, text in texts.items()}, cut


def _metrics(run: TrackedRun) -> Iterator[Metric]:
    """The curve, and final figures as `final/NAME`; infinities are left out, and stand in tags."""
    from mlflow.entities import Metric

    for key, step, time, value in run.points():
        if not math.isinf(value):
            yield Metric(name(key), value, _ms(time), step)
    for key, value in run.numbers().items():
        if not math.isinf(value):
            yield Metric(name(f"final/{key}"), value, _ms(run.ended), run.last_step)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
