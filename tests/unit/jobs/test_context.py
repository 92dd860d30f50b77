"""What code of people imports, under the name that it has had since the first release."""

from __future__ import annotations


def test_a_training_of_the_first_release_still_finds_its_imports() -> None:
    """Its copy in a run's folder is what the next attempt runs."""
    from terry.jobs import context
    from terry.jobs.process.context import RunContext
    from terry.jobs.process.loop import Batches

    assert context.RunContext is RunContext
    assert context.Batches is Batches
