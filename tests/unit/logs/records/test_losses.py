"""Sparklines read only what was added, over restarts and torn lines."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.files.paths import Run
from terry.logs.records.losses import LossHistory
from terry.logs.records.metrics import read_series


def write(run: Run, attempt: int, lines: list[dict[str, float]], tail: str = "") -> None:
    folder = run.attempt(attempt)
    folder.root.mkdir(parents=True, exist_ok=True)
    with folder.metrics.open("a") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines) + tail)


def test_follows_a_growing_file(tmp_path: Path) -> None:
    """A line that is not finished is read when it is."""
    run = Run(tmp_path)
    history = LossHistory(run)
    assert history.update(1) == ()
    write(run, 1, [{"start": -1}, {"step": 1, "loss": 6.0}], '{"step": 2, "lo')
    assert history.update(1) == (6.0,)
    write(run, 1, [], 'ss": 5.0}\n')
    assert history.update(1) == (6.0, 5.0)


def test_a_later_attempt_replaces_what_was_lost(tmp_path: Path) -> None:
    """Steps after the checkpoint that the second attempt began from are void."""
    run = Run(tmp_path)
    history = LossHistory(run)
    write(run, 1, [{"start": -1}, *({"step": s, "loss": 10.0 - s} for s in range(5))])
    assert len(history.update(1)) == 5
    write(run, 2, [{"start": 2}, {"step": 3, "loss": 1.0}])
    assert history.update(2) == (10.0, 9.0, 8.0, 1.0)


@given(
    attempts=st.lists(
        st.tuples(st.integers(0, 30), st.lists(st.floats(0, 10), min_size=1, max_size=30)), min_size=1, max_size=4
    )
)
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_whole_series(tmp_path_factory: object, attempts: list[tuple[int, list[float]]]) -> None:
    """Read bit by bit, it is what `read_series` gives."""
    run = Run(tmp_path_factory.mktemp("run"))  # type: ignore[attr-defined]
    history = LossHistory(run)
    reached = -1
    for number, (back, losses) in enumerate(attempts, 1):
        start = max(-1, reached - back)
        write(run, number, [{"start": start}])
        for offset, loss in enumerate(losses, 1):
            write(run, number, [{"step": start + offset, "loss": loss}])
            found = history.update(number)
        reached = start + len(losses)
    assert found == tuple(row["loss"] for row in read_series(run))


def test_long_histories_are_thinned(tmp_path: Path) -> None:
    """Ten thousand points stay a few hundred, in order."""
    run = Run(tmp_path)
    write(run, 1, [{"start": -1}, *({"step": s, "loss": float(-s)} for s in range(10_000))])
    found = LossHistory(run).update(1)
    assert 100 < len(found) < 600
    assert list(found) == sorted(found, reverse=True)
