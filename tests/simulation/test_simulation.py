"""Thousands of random lives of a workspace (TERRY_SIMULATION_SEEDS of them). A failure names its seed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from terry.cluster.core.model import JobState
from terry.cluster.core.state_document import to_snapshot
from terry.cluster.core.state_machine import State
from terry.cluster.files.store import read_state
from tests.simulation.world import World, history, replayed

SEEDS = int(os.environ.get("TERRY_SIMULATION_SEEDS", "200"))
FIRST_SEED = int(os.environ.get("TERRY_SIMULATION_FIRST_SEED", "0"))
STEPS = 40
BLOCK = 50


@pytest.mark.parametrize("block", range(FIRST_SEED, FIRST_SEED + SEEDS, BLOCK))
def test_random_lives(block: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deaths = 0
    for seed in range(block, min(block + BLOCK, FIRST_SEED + SEEDS)):
        try:
            deaths += _live(tmp_path / str(seed), seed)
            errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert [e for e in errors if "cannot be acted on" not in e] == []
        except BaseException as error:
            error.add_note(f"seed {seed}: repeat with TERRY_SIMULATION_FIRST_SEED={seed} TERRY_SIMULATION_SEEDS=1")
            raise
    assert deaths > 0


def _live(folder: Path, seed: int) -> int:
    world = World(folder, seed)
    for _ in range(STEPS):
        world.happen()
    state = world.come_to_rest()
    _check_all_ended(world, state)
    _check_replay(world, state)
    return world.deaths


def _check_all_ended(world: World, state: State) -> None:
    assert set(world.submitted) == set(state.jobs), "no job is lost"
    for record in state.jobs.values():
        assert record.state.is_final, f"{record.job.id} never ended: {record}"
        if record.state is JobState.COMPLETED:
            assert record.attempts[-1].end is not None
    assert world.pool.running() == {}, "no process is left"
    assert not state.on_device


def _check_replay(world: World, state: State) -> None:
    assert to_snapshot(read_state(world.workspace)) == to_snapshot(state)
    assert replayed(world.workspace)[-1] == to_snapshot(state)


def test_any_prefix_of_the_journal_is_the_state_at_that_time(tmp_path: Path) -> None:
    """The live state, saved after each event, against a replay of the journal up to there."""
    compared = 0
    for seed in range(20):
        world = World(tmp_path / str(seed), seed)
        seen: dict[int, bytes] = {}
        for _ in range(STEPS):
            world.happen()
            if world.controller is not None:
                seen[world.controller.state.seq] = to_snapshot(world.controller.state)
        states = replayed(world.workspace)
        compared += len(seen)
        for seq, snapshot in seen.items():
            assert states[seq - 1] == snapshot, f"seed {seed}, event {seq}"
    assert compared > 200


def test_a_journal_cut_after_any_event_can_be_gone_on_with(tmp_path: Path) -> None:
    """Power fails: of the last turn's events only the first ones are on the disk, and all nodes start anew."""
    tried = 0
    for seed in range(4):
        world = World(tmp_path / f"whole-{seed}", seed)
        for _ in range(STEPS):
            world.happen()
        world.die()
        lines = history(world.workspace)
        for kept in range(1 + seed, len(lines), 4):
            cut = World(tmp_path / f"{seed}-{kept}", seed)
            cut.workspace.journal.mkdir(parents=True)
            (cut.workspace.journal / "00000001.jsonl").write_bytes(b"".join(lines[:kept]))
            state = cut.come_to_rest()
            assert all(r.state.is_final for r in state.jobs.values()), f"seed {seed}, cut after event {kept}"
            tried += 1
    assert tried > 40
