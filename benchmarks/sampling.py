"""Sampling speed: many texts at once beside one at a time, and an ensemble of five beside one model.

    python -m benchmarks.sampling [--units 128] [--vocabulary 8000] [--texts 1024] [--repeat 5] [--threads 1]
    python -m benchmarks.sampling --before PYTHON [--jax PYTHON]

Untrained models whose texts end after about 20 words on average, so anyone can repeat it without training first. The
plain loop is what a script would do: one text after the other in float32, each word by `torch.multinomial`. Sides take
turns; the median of the turns' ratios counts. Prints Markdown. The second form lets this build take turns with the one
that is installed in another environment, and with JAX in a third (benchmarks/sampling_side.py).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.kernels import Side
from terry.models.config import ModelConfig
from terry.models.ensemble import Ensemble
from terry.models.language_model import LanguageModel
from terry.models.sample_text import Sampler, Shape

SIDE = Path(__file__).with_name("sampling_side.py")
#: Ends a text.
END = 1
#: Words of a text on average.
LENGTH = 20
#: Texts that are drawn one after another in a turn: enough to measure.
FEW = 16


def model(units: int, vocabulary: int, seed: int) -> LanguageModel:
    """Untrained, but for the probability of the end."""
    torch.manual_seed(seed)
    made = LanguageModel(ModelConfig(cell="gru", hidden_size=units, embedding_size=units), vocabulary)
    with torch.no_grad():
        made.output_bias[END] = math.log(vocabulary / LENGTH)
    return made.eval()


def ours(sampler: Sampler, texts: int, batch_size: int, seed: int) -> int:
    """Draw texts; the tokens drawn."""
    shape = Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}), max_words=400)
    return sum(text.drawn for text in sampler.draw(shape, texts, seed=seed, batch_size=batch_size))


@torch.no_grad()
def plain(single: LanguageModel, texts: int, seed: int, batch_size: int = 1) -> int:
    """The obvious loop; with a batch it goes on until its last text has ended."""
    generator = torch.Generator().manual_seed(seed)
    drawn = 0
    for _ in range(0, texts, batch_size):
        tokens, state = torch.full((batch_size, 1), END), single.initial_state(batch_size)
        going = torch.ones(batch_size, dtype=torch.bool)
        while bool(going.any()):
            hidden, state = single(tokens, state)
            tokens = torch.multinomial(single.logits(hidden[:, -1]).softmax(-1), 1, generator=generator)
            drawn += int(going.sum())
            going &= tokens[:, 0] != END
    return drawn


def turns(units: int, vocabulary: int, repeat: int, others: dict[str, str]) -> None:
    """This build beside others, by the Python of each: tokens a CPU second."""
    print("| side | texts at once | tokens a CPU second | this build, times as fast |\n|---|---|---|---|")
    for at_once, tokens in ((1, 200), (256, 8000)):
        sides = {"this build": Side(sys.executable, SIDE, "ours", units, vocabulary, at_once)}
        for name, python in others.items():
            sides[name] = Side(python, SIDE, "jax" if name == "jax" else "ours", units, vocabulary, at_once)
        costs: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(repeat + 1):
            for name, side in sides.items():
                cost = side.take(tokens)[0] * tokens  # a side answers for a token
                if turn:
                    costs[name].append(cost)
        for name, side in sides.items():
            side.end()
            ratio = statistics.median(a / b for a, b in zip(costs[name], costs["this build"], strict=True))
            print(f"| {name} | {at_once} | {1 / statistics.median(costs[name]):,.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("units", 128), ("vocabulary", 8000), ("texts", 1024), ("repeat", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("before", "jax"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    given = parser.parse_args()
    if others := {name: python for name in ("before", "jax") if (python := getattr(given, name))}:
        turns(given.units, given.vocabulary, given.repeat, others)
        return
    torch.set_num_threads(given.threads)
    members = [model(given.units, given.vocabulary, seed) for seed in range(1, 6)]
    one, five = Sampler(Ensemble(members[:1])), Sampler(Ensemble(members))
    sides: dict[str, Callable[[int], int]] = {
        "plain loop, `torch.multinomial`, one at a time": lambda seed: plain(members[0], FEW, seed),
        "the same, 256 at once": lambda seed: plain(members[0], 256, seed, 256),
        "ours, one at a time": lambda seed: ours(one, FEW, 1, seed),
        "ours, 256 at once": lambda seed: ours(one, given.texts, 256, seed),
        "ours, ensemble of five, one at a time": lambda seed: ours(five, FEW, 1, seed),
        "ours, ensemble of five, 256 at once": lambda seed: ours(five, given.texts, 256, seed),
    }
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(given.repeat + 1):
        for name, side in sides.items():
            begin = time.process_time()
            tokens = side(turn + 1)
            if turn:  # the first one warms up
                costs[name].append((time.process_time() - begin) / tokens)
    report(costs)


def report(costs: dict[str, list[float]]) -> None:
    """Tables of speeds, and of ratios."""
    print("| side | words/s | texts/s |\n|---|---|---|")
    for name, values in costs.items():
        speed = 1 / statistics.median(values)
        print(f"| {name} | {speed:,.0f} | {speed / LENGTH:,.1f} |")
    pairs = [
        ("256 at once, faster than one at a time", "ours, one at a time", "ours, 256 at once", "5 or more"),
        (
            "256 at once, faster than the plain loop",
            "plain loop, `torch.multinomial`, one at a time",
            "ours, 256 at once",
            "5 or more",
        ),
        ("ensemble of five, cost of a single model", "ours, ensemble of five, 256 at once", "ours, 256 at once", "< 6"),
        ("the same, one at a time", "ours, ensemble of five, one at a time", "ours, one at a time", "< 6"),
    ]
    print("\n| ratio | median | least | greatest | aim |\n|---|---|---|---|---|")
    for words, upper, lower, aim in pairs:
        ratios = [a / b for a, b in zip(costs[upper], costs[lower], strict=True)]
        print(f"| {words} | {statistics.median(ratios):.1f} | {min(ratios):.1f} | {max(ratios):.1f} | {aim} |")


if __name__ == "__main__":
    main()
