"""A chaos run: real trainings on a real cluster, while everything that can be killed is killed.

    python -m benchmarks.chaos [--faults 500] [--seed 1] [--folder DIR] [--keep]

A sweep of 22 small trainings is trained undisturbed, and one of 6 programs that know nothing of us (`command:`) beside
it: the reference. Then the same sweeps run under fire, again and again until so many faults have hit. Every run must be
COMPLETED once, with the reference's weights (sha256; a program's: what it wrote last) and measurements (none missing,
none doubled); every attempt must be accounted for; no process may be left. Exit code 1
on any difference. The seed decides kinds, victims and pauses; where exactly in its work a victim is hit does not
repeat. As root the workspace stands on a small file system of its own, which is filled, frozen, hung and taken away;
what cannot be done is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.chaos_disk import ChaosDisk, chaos_disk
from benchmarks.chaos_faults import FAULTS, OF_PROGRAMS, Chaos, Fault
from benchmarks.chaos_verdict import differences, reference_of
from tests.faults.workspace_under_fire import UnderFire, kill

HELPERS = Path(__file__).parents[1] / "tests" / "helpers"
TRAINING, PROGRAM = HELPERS / "chaotic_training.py", HELPERS / "chaotic_program.py"

_SWEEP = """
name: {name}
datasets:
  words: {{source: {source}, column: body, unit: sentence, vocabulary_size: 60}}
run:
  entrypoint: "chaotic_training:main"
  data: {{dataset: words, batch_size: 4, bptt: 8}}
  model: {{hidden_size: 24, embedding_size: 16}}
  training: {{epochs: {epochs}, seed: 3, log_every: 20}}
  checkpoint: {{every: 0.2}}
  resources: {{cpus: 1}}
  hang_after: 4 s
  retry:
    {{crash: 10000, exception: 10000, device_out_of_memory: 10000, host_out_of_memory: 10000, launch: 10000,
      backoff_s: 0.01, backoff_max_s: 0.05}}
sweep:
  list: {points}
"""

_PROGRAMS = """
name: {name}
run:
  command: [{python}, chaotic_program.py, "${{run_dir}}", "${{parameters.number}}", "{steps}"]
  metrics: {{step: "step ([0-9]+)", value: "value ([0-9.]+)"}}
  resources: {{cpus: 1}}
  hang_after: 4 s
  retry:
    {{crash: 10000, exception: 10000, device_out_of_memory: 10000, host_out_of_memory: 10000, launch: 10000,
      backoff_s: 0.01, backoff_max_s: 0.05}}
sweep:
  grid: {{parameters.number: [1, 2, 3, 4, 5, 6]}}
"""

#: Its rate is absurd: the loss is not finite at once, and the trainer rolls back until it is.
ROLLBACK = {
    "model.cell": "rnn",
    "optimizer": {"name": "sgd", "lr": 1e38},
    "training.on_nan": "rollback",
    "training.rollback": {"factor": 1e-38, "maximum": 3},
}


def points() -> list[dict[str, object]]:
    """Twenty runs that differ in cell, optimizer and seed, and two that must roll back."""
    optimizers = ({"name": "adam", "lr": 0.01}, {"name": "nesterov", "lr": 0.5, "clip_norm": 1.0})
    plain = [
        {"model.cell": cell, "optimizer": optimizer, "training.seed": seed}
        for cell in ("gru", "lstm")
        for optimizer in optimizers
        for seed in range(1, 6)
    ]
    return [*plain, *({**ROLLBACK, "training.seed": seed} for seed in (1, 2))]


def submit(place: UnderFire, name: str, epochs: int) -> None:
    """Submit the sweep of trainings, or that of programs, under this name."""
    for helper in (TRAINING, PROGRAM):
        shutil.copy(helper, place.folder / helper.name)
    path = place.folder / f"{name}.yaml"
    source = json.dumps(str(place.folder / "words.csv"))
    if name.endswith(OF_PROGRAMS):
        text = _PROGRAMS.format(name=name, python=json.dumps(sys.executable), steps=40 * epochs)
    else:
        text = _SWEEP.format(name=name, source=source, epochs=epochs, points=json.dumps(points()))
    path.write_text(text, encoding="utf-8")
    place.run("submit", str(path))


def run(folder: Path, faults: int, seed: int, epochs: int) -> int:
    """Reference, chaos, verdict. Returns the exit code."""
    place = UnderFire(folder)
    with chaos_disk(place.workspace.root) as disk:
        try:
            return _run(place, faults, seed, epochs, disk)
        finally:
            place.run("down", check=False)
            kill(place.everything())


def _run(place: UnderFire, faults: int, seed: int, epochs: int, disk: ChaosDisk) -> int:
    begun = time.monotonic()
    names = ["reference", f"reference{OF_PROGRAMS}"]
    for name in names:
        submit(place, name, epochs)
    for name in names:
        place.finish(name, timeout=1200)
    reference = reference_of(place, names)
    print(f"reference: {len(reference)} runs in {time.monotonic() - begun:.0f} s", flush=True)
    begun = time.monotonic()
    chaos = Chaos(place, random.Random(seed), disk, lambda name: submit(place, name, epochs))
    _harm(chaos, [fault for fault in FAULTS if fault.needs <= disk.can], faults)
    _finish(place, chaos)
    took = time.monotonic() - begun
    problems = [*chaos.problems, *differences(place, chaos.sweeps, reference)]
    place.run("down")
    if left := place.everything():
        problems.append(f"processes are left after `down`: {[p.pid for p in left]}")
    print(f"disk: {disk}")
    _report(place, chaos, took, problems)
    return 1 if problems else 0


def _harm(chaos: Chaos, kinds: list[Fault], faults: int) -> None:
    """Do harm until there was enough of it."""
    begun = time.monotonic()
    try:
        for number, fault in enumerate(_sequence(kinds, faults, chaos.chance), 1):
            chaos.feed()
            chaos.strike(fault)
            chaos.nurse()
            select.select([], [], [], chaos.chance.expovariate(1 / 0.15))
            if number % 100 == 0:
                print(f"{number} faults in {time.monotonic() - begun:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {chaos.done.total()} faults: what was harmed comes to its end", flush=True)


def _sequence(kinds: list[Fault], faults: int, chance: random.Random) -> list[Fault]:
    """Every kind once, in any order; then by weight."""
    first = chance.sample(kinds, len(kinds))
    rest = chance.choices(kinds, [fault.weight for fault in kinds], k=max(0, faults - len(first)))
    return [*first, *rest][:faults]


def _finish(place: UnderFire, chaos: Chaos) -> None:
    """The harm is over: all comes to its end."""
    deadline = time.monotonic() + 900
    while chaos.unfinished():
        if time.monotonic() > deadline:
            chaos.problems.append(f"{chaos.unfinished()} runs do not come to their end")
            print(place.logs(), file=sys.stderr)
            return
        chaos.nurse()
        select.select([], [], [], 0.3)


def _report(place: UnderFire, chaos: Chaos, took: float, problems: list[str]) -> None:
    records = [r for r in chaos.records() if r.job.kind == "train"]
    ends = Counter(a.end.reason.value for r in records for a in r.attempts if a.end)
    _table("fault", chaos.done)
    _table("attempts ended as", ends)
    print(
        f"\n{chaos.done.total()} faults in {took:.0f} s; {len(records)} runs in {len(chaos.sweeps)} sweeps, "
        f"{sum(ends.values())} attempts, {place.state().epoch} controllers"
    )
    for problem in problems:
        print(f"DIFFERENT: {problem}")
    good = "every run completed, all weights and measurements as undisturbed"
    print(f"verdict: {'FAILED' if problems else good}")


def _table(title: str, counts: Counter[str]) -> None:
    print(f"\n| {title} | times |\n|---|---:|")
    for name, count in counts.most_common():
        print(f"| {name} | {count} |")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20, help="of each training; more = longer runs")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="terry-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, {options.faults} faults, in {folder}", flush=True)
    code = run(folder, options.faults, options.seed, options.epochs)
    if not options.keep:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
