"""A whole training step by the compiled kernels beside torch, plain PyTorch, JAX and an earlier build, in turns.

python -m benchmarks.kernels [--seconds 2] [--threads 1] [--only GRU64] [--jax PYTHON] [--before PYTHON]
        [--compile]

Every side is a process of its own (benchmarks/kernel_side.py) and is measured by its own CPU time; sides take turns, so
that what else the computer does touches all alike; the median of the turns' ratios counts. `--jax`: the Python of an
environment with jax and optax. `--before`: that of an environment in which an earlier build is installed. With two
threads the clock is measured instead, the least of the turns. TERRY_KERNELS=avx2 holds the kernels (not torch) there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

SIDE = Path(__file__).with_name("kernel_side.py")
#: cell, units, vocabulary, rows, steps of a row, optimizer
SHAPES = [
    *((cell, 64, 65, 1, 50, "sgd") for cell in ("rnn", "gru", "lstm")),
    *((cell, 64, 65, 8, 50, "adam") for cell in ("gru", "lstm")),
    *((cell, 64, 65, 32, 50, "adam") for cell in ("rnn", "gru", "lstm")),
    *(("gru", units, 65, 32, 50, "adam") for units in (128, 200)),
    ("gru", 100, 8000, 1, 50, "sgd"),
    ("gru", 128, 8000, 20, 35, "adam"),
]
#: Turns of each side.
TURNS = 8


class Side:
    """A process that trains by turns."""

    def __init__(self, python: str, script: Path, *arguments: str | int, threads: int = 1) -> None:
        quiet = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        command = [python, "-P", str(script), *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | quiet
        )

    def take(self, steps: int) -> tuple[float, float]:
        """CPU seconds and seconds of a step. Raises RuntimeError where the side is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if not answer:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended")  # type: ignore[arg-type]
        return float(answer[0]) / steps, float(answer[1]) / steps

    def end(self) -> None:
        """Let it end."""
        self._process.communicate()


def measure(sides: dict[str, Side], seconds: float, *, clock: bool) -> dict[str, list[float]]:
    """Seconds of a step, turn by turn."""
    which = int(clock)
    for side in sides.values():
        side.take(2), side.take(2)
    steps = {name: max(1, round(seconds / TURNS / side.take(3)[0])) for name, side in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, side in sides.items():
            found[name].append(side.take(steps[name])[which])
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds of each side at each shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="shapes whose name (as in the table, without commas) begins so")
    for name in ("jax", "before"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument("--compile", action="store_true", help="training.compile, too")
    given = parser.parse_args()
    pythons = {"plain": sys.executable, "torch": sys.executable, "jax": given.jax, "before": given.before}
    pythons["compile"] = sys.executable if given.compile else None
    others = [name for name, python in pythons.items() if python]
    columns = ["kernels, ms a step", *(f"{name}, times as long" for name in others)]
    print(f"| cell, units, vocabulary, rows | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}", flush=True)
    for shape in SHAPES:
        if not " ".join(map(str, shape)).startswith(given.only):
            continue
        more = (*shape, given.threads)
        sides = {"kernels": Side(sys.executable, SIDE, "kernels", *more, threads=given.threads)}
        for name in others:  # an earlier build has torch's operators alone
            which = "torch" if name == "before" else name
            sides[name] = Side(pythons[name], SIDE, which, *more, threads=given.threads)
        found = measure(sides, given.seconds, clock=given.threads > 1)
        for side in sides.values():
            side.end()
        middle = min if given.threads > 1 else statistics.median
        cells = [f"{1e3 * middle(found['kernels']):.3f}"]
        for name in others:
            ratios = [other / ours for other, ours in zip(found[name], found["kernels"], strict=True)]
            least = min(found[name]) / min(found["kernels"])
            cells.append(f"{least if given.threads > 1 else statistics.median(ratios):.2f}")
        print(f"| {', '.join(map(str, shape[:4]))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
