"""`python -m benchmarks.mutation [--count 500] [--seed 1]`: mistakes in core/ and scheduling/, and who notices.

Exit code 1 where fewer than 90% were killed, or where one lived that `survivors.toml` gives no reason for.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import hypothesis
import pytest

from benchmarks.mutation.mutants import Mutant, mutants_of
from benchmarks.mutation.running import Mutated, Plugin, Verdict, _fork, _verdict, passes

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
FOLDERS = ("core", "scheduling")
REASONS = Path(__file__).with_name("survivors.toml")
#: the fast ones, without those of random lives
TESTS = [
    f"tests/unit/cluster/{folder}/test_{name}.py"
    for folder, names in {
        "core": (
            "accounts",
            "capacity",
            "device_events",
            "events",
            "failures",
            "state",
            "state_document",
            "state_machine",
            "state_machine_minimum",
            "transitions",
            "waiting",
        ),
        "scheduling": ("demand", "fitting", "plan", "plan_policy", "preemption", "reasons", "turns"),
    }.items()
    for name in names
]
#: hypothesis is imported before pytest could rewrite its asserts, which nobody needs
PYTEST = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
ENOUGH = 0.9


def main() -> int:
    """Sample, run, tell."""
    asked = _arguments()
    files = [path for folder in FOLDERS for path in sorted((CLUSTER / folder).glob("*.py"))]
    everything = [mutant for path in files for mutant in mutants_of(path, CLUSTER) if asked.only in mutant.name]
    everything = [mutant for mutant in everything if (mutant.function is None) == asked.tables]
    sample = random.Random(asked.seed).sample(everything, min(asked.count, len(everything)))
    print(f"{len(sample)} of {len(everything)} mutants, seed {asked.seed}", flush=True)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    began, cpu = time.monotonic(), _cpu()
    verdicts = _outside(sample, asked) if asked.tables else _inside(sample, files, asked)
    print(f"\n{time.monotonic() - began:.0f} s, {_cpu() - cpu:.0f} s of CPU")
    return _tell(sample, verdicts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the mutants' names, such as core/failures.py")
    parser.add_argument("--tables", action="store_true", help="what stands outside functions instead")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="tests that are to notice")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _inside(mutants: Sequence[Mutant], files: Sequence[Path], asked: argparse.Namespace) -> dict[str, Verdict]:
    """Those in functions: the tests are collected once, and each mutant is a fork with another code object."""
    plugin = Plugin(mutants, files, asked.at_once)
    plugin.show = _progress
    code = pytest.main([*PYTEST, *asked.tests], plugins=[plugin])
    if len(plugin.verdicts) < len(mutants):
        raise SystemExit(f"the tests did not run: pytest ended with {code!r}")
    return plugin.verdicts


def _outside(mutants: Sequence[Mutant], asked: argparse.Namespace) -> dict[str, Verdict]:
    """Those of tables and defaults: each is a fork that has imported nothing of the project yet."""
    verdicts: dict[str, Verdict] = {}
    working: dict[int, Mutant] = {}
    if mutants and _verdict(os.waitpid(_fork(lambda: passes([*PYTEST, *asked.tests])), 0)[1]) is not Verdict.survived:
        raise SystemExit("the tests fail without any change")
    for mutant in [*mutants, *[None] * asked.at_once]:
        if len(working) >= asked.at_once or (mutant is None and working):
            pid, status = os.wait()
            verdicts[working.pop(pid).id] = _verdict(status)
            _progress(f"{len(verdicts)} of {len(mutants)} tables and defaults tried")
        if mutant is not None:
            module = "terry.cluster." + ".".join(mutant.path.relative_to(CLUSTER).with_suffix("").parts)
            working[_fork(lambda m=mutant, name=module: passes([*PYTEST, *asked.tests], Mutated(name, m)))] = mutant
    return verdicts


def _tell(sample: Sequence[Mutant], verdicts: dict[str, Verdict]) -> int:
    """The score by module, and each that lived with its reason."""
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    known = {entry["mutant"]: entry["reason"] for entry in reasons.get("survivor", [])}
    counts = Counter((str(m.path.relative_to(CLUSTER)), verdicts[m.id]) for m in sample)
    for name in sorted({name for name, _ in counts}):
        total = sum(counts[name, verdict] for verdict in Verdict)
        print(f"{name:32}{total - counts[name, Verdict.survived]:5} of {total:4} killed")
    survivors = [mutant for mutant in sample if verdicts[mutant.id] is Verdict.survived]
    for mutant in sorted(survivors, key=lambda m: m.name):
        print(
            f"\n{mutant.path.relative_to(ROOT)}:{mutant.line}\n  {mutant.name}\n  {known.get(mutant.name, 'NO REASON')}"
        )
    score = 1 - len(survivors) / len(sample)
    late = sum(verdict is Verdict.timed_out for verdict in verdicts.values())
    unnamed = sum(mutant.name not in known for mutant in survivors)
    print(f"\n{score:.1%} of {len(sample)} killed ({late} by time), {len(survivors)} live, {unnamed} without a reason")
    return int(score < ENOUGH or unnamed > 0)


def _progress(text: str) -> None:
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)


def _cpu() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    sys.exit(main())
