"""How jobs are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.client.selectors import select_job, select_jobs
from terry.cluster.core.model import Job, JobRecord, JobState, Resources, SpecRef
from terry.cluster.errors import UserError


def record(job_id: str, sweep: str, state: JobState = JobState.PENDING) -> JobRecord:
    job = Job(
        id=job_id,
        sweep=sweep,
        kind="train",
        identity=job_id,
        entrypoint="a:b",
        resources=Resources(cpus=1),
        spec=SpecRef(path="x", offset=0, length=1),
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return JobRecord(job=job, state=state)


JOBS = {
    r.job.id: r
    for r in [
        record("cells-0001", "cells", JobState.FAILED),
        record("cells-0002", "cells"),
        record("cells-0011", "cells"),
        record("base-0001", "base", JobState.FAILED),
        record("base-prepare-text", "base", JobState.COMPLETED),
    ]
}
ENSEMBLES = {"terry": ["cells-0002", "cells-0011", "gone-0001"]}


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ([], list(JOBS)),
        (["cells"], ["cells-0001", "cells-0002", "cells-0011"]),
        (["cells-0002"], ["cells-0002"]),
        (["cells-001"], ["cells-0011"]),
        (["base-p"], ["base-prepare-text"]),
        (["*-0001"], ["cells-0001", "base-0001"]),
        (["terry"], ["cells-0002", "cells-0011"]),
        (["state:failed"], ["cells-0001", "base-0001"]),
        (["state:FAILED", "state:completed"], ["cells-0001", "base-0001", "base-prepare-text"]),
        (["cells", "state:failed"], ["cells-0001"]),
        (["base-0001", "cells-0001"], ["cells-0001", "base-0001"]),
    ],
)
def test_select(selectors: list[str], expected: list[str]) -> None:
    """Names are united, states choose among them, the order is that of the queue."""
    assert [r.job.id for r in select_jobs(selectors, JOBS, ENSEMBLES)] == expected


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("cels", ["did you mean 'cells'", "sweeps: cells, base", "ensembles: terry"]),
        ("cells-00", ["beginning of 3 job ids", "'cells-00*'"]),
        ("state:broken", ["'broken' is no state", "failed"]),
        ("nothing-*", ["no job"]),
        ("", ["no job"]),
    ],
)
def test_errors_say_what_there_is(selector: str, words: list[str]) -> None:
    """And which is nearest."""
    with pytest.raises(UserError) as error:
        select_jobs([selector], JOBS, ENSEMBLES)
    for word in words:
        assert word in str(error.value)


def test_one_job_is_one_job() -> None:
    """A sweep is not one job."""
    assert select_job("base-0001", JOBS).job.id == "base-0001"
    with pytest.raises(UserError, match="means 3 jobs"):
        select_job("cells", JOBS)
    with pytest.raises(UserError, match="nothing was submitted"):
        select_job("cells", {})


@given(st.lists(st.text(max_size=12), max_size=3))
def test_any_text_selects_or_is_refused(selectors: list[str]) -> None:
    """No text raises anything but UserError, or selects what is not there."""
    try:
        found = select_jobs(selectors, JOBS, ENSEMBLES)
    except UserError:
        return
    assert all(r.job.id in JOBS for r in found)
