"""What a question to a search costs: CPU time of one suggestion, with so many finished trials.

    python -m benchmarks.search --trials 100 1000

One thread. Each figure is the least of several: the same question, asked again.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch are imported

from terry.jobs.search.suggest import suggest
from terry.jobs.search.trial import Outcome, Question, Trial
from terry.jobs.sweeps.distributions import at_random, read
from terry.jobs.sweeps.search import SearchConfig, SearchMethod

SPACE = read(
    {
        "optimizer.lr": {"log_uniform": [1e-4, 1.0]},
        "model.hidden_size": {"log_integer": [8, 256]},
        "model.dropout": {"uniform": [0.0, 0.5]},
    }
)


def trials(method: SearchMethod, count: int) -> list[Trial]:
    """So many that are done, each at a point of its own."""
    points = [at_random(1, number, SPACE, {}) for number in range(count)]
    return [
        Trial(
            number=number,
            settings=point,
            outcome=Outcome.done,
            values=(abs(point["model.dropout"] - 0.2) + point["optimizer.lr"],),
            generation=number // 7 if method is SearchMethod.cmaes else None,  # its population for three numbers
        )
        for number, point in enumerate(points)
    ]


def least_ms(method: SearchMethod, known: list[Trial], repeat: int) -> float:
    """CPU milliseconds of a question."""
    search = SearchConfig(method=method, trials=len(known) + 1)
    question = Question(search=search, space=SPACE, beside={}, trials=known, number=len(known))
    suggest(question)  # imports
    took = []
    for _ in range(repeat):
        begun = time.process_time()
        suggest(question)
        took.append(time.process_time() - begun)
    return min(took) * 1000


def main() -> None:
    """Print a line for each method and number of trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--gp", type=int, default=100, help="the most trials that a Gaussian process is asked with")
    given = parser.parse_args()
    for method in SearchMethod:
        for count in given.trials:
            if method is SearchMethod.gp and count > given.gp:
                print(f"{method:>7} {count:>6} trials: not asked (--gp)")
                continue
            print(f"{method:>7} {count:>6} trials: {least_ms(method, trials(method, count), given.repeat):8.1f} ms")


if __name__ == "__main__":
    main()
