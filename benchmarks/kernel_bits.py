"""Random cases of every compiled operation: one hash at each level of instructions, for any threads, on 64-bit Arm.

    python -m benchmarks.kernel_bits [--cases 10000] [--arm 1000]

The long form of tests/unit/models/kernels/test_levels.py: `bits.c` there is built from the kernels' own sources by gcc,
and by Debian's cross compiler for Arm (run by qemu-user, which is slow; `--arm`: cases of it, 0: none). Ends with 1
where two hashes differ.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KERNELS, CASES = REPOSITORY / "models" / "kernels", REPOSITORY / "tests" / "unit" / "models" / "kernels" / "bits.c"
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
LEVELS = ("SSE2", "AVX2", "AVX-512")


def build(folder: str, compiler: str, *more: str) -> str:
    """The program."""
    program = str(Path(folder) / compiler)
    sources = [str(path) for path in sorted(KERNELS.glob("*.c"))]
    command = [compiler, *FLAGS, *more, f"-I{KERNELS}", *sources, str(CASES), "-o", program, "-lpthread", "-lm"]
    subprocess.run(command, check=True)
    return program


def outcome(*command: str) -> str:
    """The hash, or that this processor has no such level."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return "not on this processor"
    done.check_returncode()
    return done.stdout.strip()


def main() -> int:
    """Print a table; whether all are alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--arm", type=int, default=1_000)
    given = parser.parse_args()
    print("| processor | threads | cases | hash |\n|---|---|---|---|", flush=True)
    seen: dict[int, set[str]] = {}

    def show(name: str, threads: int, cases: int, *command: str) -> None:
        found = outcome(*command, "0", str(cases), str(threads))
        print(f"| {name} | {threads} | {cases:,} | {found} |", flush=True)
        if found != "not on this processor":
            seen.setdefault(cases, set()).add(found)

    with tempfile.TemporaryDirectory() as folder:
        here = build(folder, "gcc")
        for level, name in enumerate(LEVELS):
            for threads in (1, 2, 4):
                show(name, threads, given.cases, here, str(level))
        if given.arm and shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64"):
            show("SSE2", 1, given.arm, here, "0")
            show("64-bit Arm", 1, given.arm, "qemu-aarch64", build(folder, "aarch64-linux-gnu-gcc", "-static"), "0")
    return int(any(len(hashes) > 1 for hashes in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
