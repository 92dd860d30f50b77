"""Our trainer beside plain PyTorch: tokens a second, in turns; what guards and checkpoints cost.

    python -m benchmarks.training [--threads 1 2] [--units 50 ...] [--vocabulary 65 8000] [--device cuda] [--only TABLE]

Prints tables in Markdown. Each side is a process; they take turns of a few steps. The plain loop runs twice: as people
start it, and with the allocator's settings that our job processes get. One thread is measured by its own CPU time, and
the median of the turns' ratios counts; several threads and GPUs are measured by the wall clock in shorter turns, of
which the fastest tenth counts: on a machine that others use, too, those are the ones that were least disturbed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import torch

from benchmarks.training_side import SHAPES, clock
from benchmarks.training_turns import TURN_S, WALL_TURN_S, Case, Side, in_turns, ratio, typical

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
#: A checkpoint every so many seconds is the default.
INTERVAL_S = 60.0


def target(case: Case) -> float:
    """What the project promises: tokens a second of ours over the plain loop's."""
    if case.vocabulary == 65:
        return 1.2 if case.cell in ("rnn", "gru") else 1.0
    return 1.3 if case.size <= 200 else 1.0


def peak(case: Case) -> float:
    """Floating-point operations a second in a large float32 matrix product, the best of several."""
    torch.set_num_threads(case.threads)
    moment = clock(case.threads, case.device)
    a, b = (torch.randn(1536, 1536, device=case.device) for _ in range(2))
    times = []
    for _ in range(8):
        begin = moment()
        torch.mm(a, b)
        times.append(moment() - begin)
    return 2 * 1536**3 / min(times)


def operations(case: Case, layers: int) -> float:
    """Floating-point operations for a token, forward and backward."""
    return 6 * (case.vocabulary * case.size + layers * GATES[case.cell] * case.size * 2 * case.size)


HEAD = (
    "| cell | vocabulary | units | threads | ours, tokens/s | plain | plain, our allocator | ours by plain "
    "| by plain, our allocator | aim | of the peak | load |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def compare(case: Case, seconds: float, kinds: tuple[str, str], layers: int) -> str:
    """One line of the table."""
    sides = [
        Side(kinds[0], case, allocator=True),
        Side(kinds[1], case, allocator=False),
        Side(kinds[1], case, allocator=True),
    ]
    ours, plain, tuned = in_turns(sides, seconds, WALL_TURN_S if case.by_wall else TURN_S)
    rows, bptt = SHAPES[case.vocabulary]
    speeds = [rows * bptt / typical(times, case) for times in (ours, plain, tuned)]
    share = speeds[0] * operations(case, layers) / peak(case)
    found, aim = ratio(plain, ours, case), 1.0 if layers == 2 else target(case)
    return (
        f"| {case.cell} | {case.vocabulary:,} | {case.size} | {case.threads} | {speeds[0]:,.0f} | {speeds[1]:,.0f} "
        f"| {speeds[2]:,.0f} | {found:.2f}{'' if found >= aim else ' (missed)'} | {ratio(tuned, ours, case):.2f} "
        f"| {aim:.1f} | {share:.0%} | {os.getloadavg()[0]:.1f} |"
    )


def cases(arguments: argparse.Namespace, layers: int) -> list[Case]:
    """The matrix. The example by PyTorch is about words, and is measured with those only."""
    return [
        Case(cell=cell, vocabulary=vocabulary, size=size, threads=threads, device=arguments.device)
        for threads in arguments.threads
        for vocabulary in arguments.vocabulary
        if layers == 1 or vocabulary == 8000
        for cell in (("rnn", "gru", "lstm") if (layers, vocabulary) == (1, 65) else ("gru", "lstm"))
        if cell in arguments.cell
        for size in arguments.units
    ]


def side_by_side(seconds: float) -> Iterator[str]:
    """Two one-thread runs at once against one two-thread run, in turns, by the wall clock."""
    yield "| cell | vocabulary | units | two runs, tokens/s | one run | ratio | load |\n|---|---|---|---|---|---|---|"
    for cell, vocabulary, size in (("gru", 8000, 128), ("gru", 65, 128), ("lstm", 8000, 200)):
        one, two = (Case(cell=cell, vocabulary=vocabulary, size=size, threads=n) for n in (1, 2))
        pair = _Pair([Side("ours-wall", one, allocator=True) for _ in range(2)])
        both, alone = in_turns([pair, Side("ours-wall", two, allocator=True)], seconds, WALL_TURN_S)
        rows, bptt = SHAPES[vocabulary]
        speeds = 2 * rows * bptt / typical(both, two), rows * bptt / typical(alone, two)
        yield (
            f"| {cell} | {vocabulary:,} | {size} | {speeds[0]:,.0f} | {speeds[1]:,.0f} "
            f"| {2 * ratio(alone, both, two):.2f} | {os.getloadavg()[0]:.1f} |"
        )


class _Pair(Side):
    """Two sides that train at once; a turn lasts until both are done."""

    def __init__(self, sides: list[Side]) -> None:
        self._sides = sides

    def turn(self, steps: int) -> float:
        for side in self._sides:
            side.order(steps)
        return max(side.answer() for side in self._sides)

    def close(self) -> None:
        for side in self._sides:
            side.close()


def guard_cost(seconds: float) -> Iterator[str]:
    """With and without guards."""
    yield "| guards: cell | vocabulary | units | cost |\n|---|---|---|---|"
    for cell, vocabulary, size in (("gru", 8000, 128), ("gru", 65, 128), ("rnn", 65, 50)):
        case = Case(cell=cell, vocabulary=vocabulary, size=size)
        kinds = ("ours", "ours-unguarded")
        guarded, bare = in_turns([Side(kind, case, allocator=True) for kind in kinds], seconds)
        yield f"| {cell} | {vocabulary:,} | {size} | {sum(guarded) / sum(bare) - 1:.1%} |"


def checkpoint_cost(seconds: float) -> Iterator[str]:
    """With a checkpoint for every second of work and without: what one costs, and what one a minute costs.

    CPU time of the whole process counts, the writing thread's too: it is not free where every core has a job.
    """
    yield "| checkpoints: cell | vocabulary | units | one costs | one every 60 s |\n|---|---|---|---|---|"
    for cell, vocabulary, size in (("gru", 8000, 128), ("lstm", 8000, 650)):
        case = Case(cell=cell, vocabulary=vocabulary, size=size)
        saving, bare = in_turns([Side(kind, case, allocator=True) for kind in ("ours-saving", "ours")], seconds)
        each = sum(saving) / sum(bare) - 1  # seconds for a second of work, after which there is one checkpoint
        yield f"| {cell} | {vocabulary:,} | {size} | {1e3 * each:.0f} ms | {each / INTERVAL_S:.2%} |"


def show(lines: Iterator[str]) -> None:
    """Each as soon as it is measured."""
    for line in lines:
        print(line, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cell", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--vocabulary", type=int, nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--units", type=int, nargs="+", default=[50, 128, 200, 650])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each line")
    parser.add_argument("--only", choices=["plain", "readme", "side", "costs"], help="one of the tables")
    arguments = parser.parse_args()
    if arguments.only in (None, "plain"):
        print(f"\nOurs beside the plain loop:\n\n{HEAD}", flush=True)
        for case in cases(arguments, 1):
            print(compare(case, arguments.seconds, ("ours", "plain"), 1), flush=True)
    if arguments.only in (None, "readme"):
        print(f"\nOurs beside word_language_model as its README runs it:\n\n{HEAD}", flush=True)
        for case in cases(arguments, 2):
            print(compare(case, arguments.seconds, ("ours-readme", "readme"), 2), flush=True)
    if arguments.only in (None, "side"):
        print("\nTwo one-thread runs beside one two-thread run:\n", flush=True)
        show(side_by_side(arguments.seconds))
    if arguments.only in (None, "costs"):
        seconds = 3 * arguments.seconds
        for costs in (guard_cost(seconds), checkpoint_cost(seconds)):
            print()
            show(costs)


if __name__ == "__main__":
    main()
