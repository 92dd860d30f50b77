"""Does `compare` keep its word? Configurations beside themselves, a walk without any gain, a difference that is there.

    python -m benchmarks.seeds [--real 60] [--seed 1]

Losses are drawn from a normal distribution, and from those of real trainings that differ in nothing but their seed
(`--real` of them are made first, two at once; 0: none). Prints how often noise is called a result (aim: at most 5%),
how many of 100 worthless changes are kept (aim: at most 1; by "better than the best so far" about 4), how often a
difference of one standard deviation is found with the number of seeds that `compare` asks for (aim: 80%), and what the
intervals of Student and of the bootstrap hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.eta import sweep
from terry.logs.statistics.comparison import ComparisonVerdict, compare, compare_all, seeds_needed
from terry.logs.statistics.summary import summarise

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))

#: Draws n losses.
Draw = Callable[[int], list[float]]


def scores(values: list[float], side: str) -> dict[str, float]:
    """By names that no other side has: so the sides are not paired."""
    return {f"{side}{i}": value for i, value in enumerate(values)}


def called_different(draw: Draw, n: int, times: int, *, paired: bool) -> float:
    """The share of comparisons of a configuration with itself that end with a difference."""
    found = 0
    for _ in range(times):
        one, other = scores(draw(n), "s"), scores(draw(n), "s" if paired else "t")
        found += compare(one, other, ("a", "b")).verdict is not ComparisonVerdict.UNDECIDED
    return found / times


def walk(draw: Draw, n: int, steps: int = 100) -> tuple[int, int]:
    """Worthless changes kept: by compare's word over all that was tried, and by "the best mean so far"."""
    kept, naive, best = 0, 0, draw(n)
    lowest = float(np.mean(best))
    tried: list[tuple[str, dict[str, float]]] = []
    for step in range(steps):
        values = draw(n)
        tried.append((f"change {step}", scores(values, f"c{step}-")))
        if compare_all(scores(best, "best"), tried, "best")[-1].verdict is ComparisonVerdict.LOWER:
            kept, best = kept + 1, values
        if float(np.mean(values)) < lowest:
            naive, lowest = naive + 1, float(np.mean(values))
    return kept, naive


def power(generator: np.random.Generator, times: int) -> tuple[int, float]:
    """Seeds asked for to find one standard deviation, and how often they find it."""
    needed = seeds_needed(1.0, paired=False)
    assert needed is not None
    found = 0
    for _ in range(times):
        one, other = generator.normal(0.0, 1.0, needed), generator.normal(-1.0, 1.0, needed)
        verdict = compare(scores(list(one), "a"), scores(list(other), "b"), ("a", "b")).verdict
        found += verdict is ComparisonVerdict.LOWER
    return needed, found / times


def coverage(generator: np.random.Generator, n: int, times: int) -> tuple[float, float]:
    """How often the intervals of Student and of the bootstrap hold the true mean."""
    held = [0, 0]
    for i in range(times):
        values = list(generator.normal(0.0, 1.0, n))
        for k, found in enumerate((summarise(values), summarise(values, bootstrap_seed=i))):
            held[k] += found.low is not None and found.high is not None and found.low <= 0.0 <= found.high
    return held[0] / times, held[1] / times


def real_losses(count: int) -> list[float]:
    """Validation losses of real trainings on Moby-Dick that differ in their seed alone."""
    with tempfile.TemporaryDirectory(prefix="terry-seeds-") as folder:
        file = Path(folder) / "equal.yaml"
        file.write_text(sweep(count, 1))
        base = [COMMAND, "-w", str(Path(folder) / "runs")]
        try:
            subprocess.run([*base, "submit", str(file), "--wait"], check=True, stdout=subprocess.DEVNULL)
            shown = subprocess.run([*base, "results", "--json", "--each"], check=True, capture_output=True).stdout
        finally:
            subprocess.run([*base, "down"], check=True, capture_output=True)
    return [float(row["valid_loss"]) for row in json.loads(shown)]


def report(name: str, draw: Draw) -> None:
    """What becomes of draws of one kind."""
    for paired in (False, True):
        share = called_different(draw, 5, 1000, paired=paired)
        how = "seed by seed" if paired else "by Welch"
        print(f"{name}: 1,000 comparisons with itself, 5 seeds, {how}: {share:.1%} called different (aim: 5% at most)")
    walks = [walk(draw, 5) for _ in range(20)]
    kept, naive = (sum(column) / len(walks) for column in zip(*walks, strict=True))
    print(
        f"{name}: of 100 worthless changes kept: {kept:.2f} by compare (aim: 1 at most), {naive:.2f} by the best mean"
    )


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    report("simulated", lambda n: list(generator.normal(4.5, 0.05, n)))
    if given.real:
        pool = real_losses(given.real)
        mean, sd = np.mean(pool), np.std(pool, ddof=1)
        print(f"real: {len(pool)} trainings, valid_loss {mean:.4f}, standard deviation {sd:.4f}")
        report("real", lambda n: list(generator.choice(pool, n, replace=False)))
    needed, share = power(generator, 2000)
    print(f"one standard deviation apart: {needed} seeds a side asked for; found in {share:.1%} of cases (aim: 80%)")
    for n in (3, 5, 10):
        student, bootstrap = coverage(generator, n, 1000)
        print(f"95% interval of {n} values holds the mean: Student {student:.1%}, bootstrap {bootstrap:.1%}")


if __name__ == "__main__":
    main()
