"""The queue in order of place, against a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.core.waiting import Owned, Place, Waiting

_places = st.tuples(st.integers(-2, 2), st.integers(0, 200), st.just("s"))


@given(st.lists(st.tuples(st.sampled_from(["add", "add", "first", "any"]), _places), max_size=400))
def test_it_is_a_sorted_list(actions: list[tuple[str, Place]]) -> None:
    waiting, plain = Waiting(), []
    for action, place in actions:
        if action == "add" and place not in plain:
            waiting.add(place)
            plain = sorted([*plain, place])
        elif action != "add" and plain:
            gone = plain[0] if action == "first" else plain[place[1] % len(plain)]
            waiting.remove(gone)
            plain.remove(gone)
        assert list(waiting) == plain
        assert len(waiting) == len(plain)
        assert [waiting[i] for i in range(min(3, len(plain)))] == plain[:3]


def test_taking_from_the_front_of_many_costs_no_more_than_of_few() -> None:
    """The list behind it must be moved now and then, not at every removal."""
    waiting = Waiting()
    for i in range(10_000):
        waiting.add((0, i, "s"))
    sizes = set()
    for i in range(9_000):
        waiting.remove((0, i, "s"))
        sizes.add(len(waiting._places))
        waiting.add((0, i, "s"))  # back to the front, as after a crash
        waiting.remove((0, i, "s"))
    assert len(sizes) < 10
    assert list(waiting) == [(0, i, "s") for i in range(9_000, 10_000)]


def test_who_began_to_wait_earlier_stands_first_though_it_was_told_later() -> None:
    """The clock was set back, or a recovery made up for an event that the journal lacks."""
    owned = Owned()
    for number, since in enumerate([5.0, 7.0, 6.0, 4.0]):
        owned.add((0, "s"), (0, number, f"s-{number}"), since)
    assert owned.oldest == 4.0
    owned.remove((0, "s"), (0, 3, "s-3"))
    assert owned.oldest == 5.0
    assert list(owned.since) == ["s-0", "s-2", "s-1"]


def test_a_place_before_all_that_were_taken_out_is_found_again() -> None:
    """A job comes back ahead of those that had gone before it: what is left of these must not be in the way."""
    first, second, ahead = (-1, 1, "s-1"), (-1, 5, "s-5"), (-2, 9, "s-9")
    waiting = Waiting([first, second])
    waiting.remove(first)
    waiting.remove(second)
    waiting.add(ahead)
    assert list(waiting) == [ahead]
    waiting.remove(ahead)
    assert list(waiting) == []


def test_the_highest_priority_is_that_of_the_jobs_that_are_left() -> None:
    owned = Owned()
    jobs = [((0, "s"), (0, 1, "s-1")), ((7, "s"), (0, 2, "s-2")), ((7, "t"), (0, 3, "t-3")), ((3, "s"), (0, 4, "s-4"))]
    for key, place in jobs:
        owned.add(key, place, since=1.0)
    assert owned.highest == 7
    owned.remove(*jobs[1])
    assert owned.highest == 7, "another sweep's job has it too"
    owned.remove(*jobs[2])
    assert owned.highest == 3
    owned.move((3, "s"), (-2, "s"), jobs[3][1])
    assert owned.highest == 0
    owned.remove(*jobs[0])
    assert owned.highest == -2
    owned.remove((-2, "s"), jobs[3][1])
    assert len(owned) == 0
    assert owned == Owned(), "nothing of them is left"
