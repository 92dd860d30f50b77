"""A state as one document: what is saved comes back whole, what is damaged is refused, what cannot be is noticed."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from terry.cluster.core import events as e
from terry.cluster.core.events import FORMAT_VERSION
from terry.cluster.core.model import DeviceKind, EndReason, Resources, StopGoal
from terry.cluster.core.state import State
from terry.cluster.core.state_document import BadSnapshot, UnknownSnapshot, from_snapshot, to_snapshot, validate
from tests.helpers.queue_values import T0, Queue, make_cpu, make_gpu


def _lived() -> Queue:
    """A queue in which a little of everything has happened."""
    queue = Queue(make_cpu(cores=4), make_gpu())
    queue.do(e.ControllerStarted(time=queue.now, epoch=3, host="head", pid=1))
    for device in (make_cpu(cores=4), make_gpu()):
        queue.do(e.DeviceSeen(time=queue.now, device=device))
    queue.do(e.PolicyApplied(time=queue.now, half_life_s=50.0, longest_first=False))
    queue.do(e.SubmissionTaken(time=queue.now, sweep="s", number=4, request="r-1"))
    queue.do(e.RequestHandled(time=queue.now, request="r-2", note="cancelled 3 jobs"))
    queue.submit("g-1", resources=Resources(gpus=1), labels={"n": "1"})
    queue.start("g-1", "quattro:0")
    queue.end("g-1", device_memory_bytes=5 * 10**9)
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.submit("t-1", owner="bob", priority=3)
    queue.start("s-1")
    queue.now += timedelta(seconds=60)
    return queue


def test_all_that_the_queue_knows_comes_back() -> None:
    state = _lived().state
    again = from_snapshot(to_snapshot(state))
    for name, value in vars(state).items():
        assert getattr(again, name) == value, name
    assert again.epoch == 3
    assert again.requests == {"r-2": "cancelled 3 jobs"}
    assert again.knows_memory


def test_shares_go_on_counting_as_before() -> None:
    """Who has had how much, by user and by sweep, and how fast it is forgotten."""
    queue = _lived()
    again = from_snapshot(to_snapshot(queue.state))
    later = (queue.now + timedelta(seconds=50)).timestamp()
    assert set(again.ledger.accounts) == set(queue.state.ledger.accounts)
    for key in ((DeviceKind.CPU, "ann", ""), (DeviceKind.CPU, "ann", "s"), (DeviceKind.GPU, "ann", "g")):
        assert again.ledger.used(key, later) == queue.state.ledger.used(key, later)
    assert again.ledger.used((DeviceKind.CPU, "ann", "s"), later) > 1.0


def test_it_says_its_format_in_the_open() -> None:
    assert json.loads(to_snapshot(State()))["v"] == FORMAT_VERSION


def _changed(data: bytes, **changes: Any) -> bytes:
    """The document with other members in its state, and the checksum made right."""
    body = json.dumps({**json.loads(data)["state"], **changes}).encode()
    return b'{"v":%d,"crc":"%08x","state":%s}' % (FORMAT_VERSION, zlib.crc32(body), body)


def test_damage_is_refused() -> None:
    data = to_snapshot(_lived().state)
    with pytest.raises(BadSnapshot, match="checksum"):
        from_snapshot(data.replace(b'"epoch":3', b'"epoch":4'))
    with pytest.raises(BadSnapshot):
        from_snapshot(data[:-7])
    with pytest.raises(BadSnapshot):
        from_snapshot(b'{"v":%d,"crc":"00000000"}' % FORMAT_VERSION)
    with pytest.raises(BadSnapshot):
        from_snapshot(b'{"v":%d,"crc":0,"state":{}}' % FORMAT_VERSION)


def test_what_a_later_version_wrote_is_told_apart_from_damage() -> None:
    with pytest.raises(UnknownSnapshot, match=f"format 99, .* up to {FORMAT_VERSION}"):
        from_snapshot(b'{"v":99}')
    with pytest.raises(UnknownSnapshot, match="checksum is right"):
        from_snapshot(_changed(to_snapshot(State()), devices=[{"device": "unheard of"}]))


# what always holds: a state in which it does not is noticed by `validate`


def _with_job(queue: Queue, job_id: str, **changes: Any) -> State:
    queue.state.jobs[job_id] = replace(queue[job_id], **changes)
    return queue.state


@pytest.mark.parametrize(
    ("job_id", "changes"),
    [
        ("s-1", {"allocation": None}),  # runs nowhere
        ("s-1", {"goal": StopGoal.PAUSE}),  # is to stop and is not asked to
        ("s-1", {"finished_at": T0}),
        ("s-1", {"not_before": T0}),  # backs off though it runs
        ("g-1", {"not_before": T0}),
        ("g-1", {"finished_at": None}),
    ],
)
def test_a_job_that_cannot_be_so_is_noticed(job_id: str, changes: dict[str, Any]) -> None:
    queue = _lived()
    validate(queue.state)
    with pytest.raises(AssertionError, match=f"{job_id} is "):
        validate(_with_job(queue, job_id, **changes))


def test_an_attempt_that_never_ended_is_noticed() -> None:
    queue = Queue(make_cpu())
    queue.submit("s-1")
    for _ in range(2):
        queue.start("s-1")
        queue.end("s-1", EndReason.NODE_LOST)
    queue.start("s-1")
    first, second, third = queue["s-1"].attempts
    validate(queue.state)
    for attempts in (
        (replace(first, end=None), second, third),
        (first, replace(second, end=None), third),
        (first, replace(second, ended_at=None), third),
        (first, second, replace(third, end=first.end)),
        (first, second, replace(third, device="there:cpu")),
        (first, third),
    ):
        with pytest.raises(AssertionError, match="s-1 is running"):
            validate(_with_job(queue, "s-1", attempts=attempts))
    queue.state.jobs["s-1"] = replace(queue["s-1"], attempts=(first, second, third))
    queue.end("s-1")
    with pytest.raises(AssertionError, match="s-1 is completed"):
        validate(_with_job(queue, "s-1", attempts=(first, second, third)))


def test_a_job_that_goes_on_before_its_dependencies_is_noticed() -> None:
    queue = _lived()
    queue.state.unmet["t-1"] = 1
    with pytest.raises(AssertionError, match="t-1 is pending"):
        validate(queue.state)


def test_more_than_there_is_of_a_device_is_noticed() -> None:
    queue = _lived()
    queue.state.on_device["here:cpu"]["s-1"] = 5.0
    with pytest.raises(AssertionError, match=r"5\.0} of 4"):
        validate(queue.state)


def test_company_of_a_job_that_has_its_device_to_itself_is_noticed() -> None:
    queue = Queue(make_cpu(cores=4))
    queue.submit("s-1", resources=Resources(cpus=1, exclusive=True))
    queue.submit("s-2")
    queue.start("s-1")
    validate(queue.state)
    queue.state.on_device["here:cpu"]["s-2"] = 1.0
    with pytest.raises(AssertionError, match="not alone"):
        validate(queue.state)


def test_a_device_that_nobody_knows_is_noticed() -> None:
    queue = _lived()
    del queue.state.devices["here:cpu"]
    with pytest.raises(AssertionError, match="here:cpu"):
        validate(queue.state)


def _spoil_dependents(state: State) -> None:
    state.dependents["s-1"].append("t-1")


def _spoil_demands(state: State) -> None:
    demand, place = state.demands["t-1"]
    state.demands["t-1"] = (demand._replace(share=2.0), place)


def _spoil_unmet(state: State) -> None:
    state.unmet["s-2"] = 2


def _spoil_capacity(state: State) -> None:
    state.free_capacity.set(state.devices["quattro:0"].device, 0.5)


def _spoil_nodes(state: State) -> None:
    state.nodes["there"] = ["there:cpu"]


def _spoil_order(state: State) -> None:
    state.order["t-1"] = 0


def _spoil_pending(state: State) -> None:
    state.pending.clear()


def _spoil_on_device(state: State) -> None:
    state.on_device["here:cpu"]["s-1"] = 0.5


def _spoil_counts(state: State) -> None:
    state.counts["s"] = dict.fromkeys(state.counts["s"], 0)


@pytest.mark.parametrize(
    "spoil",
    [
        _spoil_order,
        _spoil_pending,
        _spoil_dependents,
        _spoil_unmet,
        _spoil_on_device,
        _spoil_demands,
        _spoil_counts,
        _spoil_capacity,
        _spoil_nodes,
    ],
)
def test_an_index_that_does_not_follow_from_the_jobs_is_noticed_by_name(spoil: Any) -> None:
    state = _lived().state
    spoil(state)
    name = spoil.__name__.removeprefix("_spoil_")
    with pytest.raises(AssertionError, match=f"index {'free_' if name == 'capacity' else ''}{name} is wrong"):
        validate(state)


def test_a_device_of_another_capacity_is_another_device() -> None:
    """A node that comes back with fewer cores: the document says what it offers now."""
    queue = Queue(make_cpu(cores=4))
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu(cores=2)))
    assert from_snapshot(to_snapshot(queue.state)).free("here:cpu") == 2.0
