"""Preparation killed at random moments: never a data set that looks whole and is not, and a clean start afterwards."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from terry.data_prep.config import DatasetConfig
from terry.data_prep.dataset import Dataset, list_datasets
from terry.data_prep.prepare import Prepared, prepare

KILLS = 20

#: Prepares once it is told to; says when that begins and ends, so that the kill hits between.
PROGRAM = """
import sys
from pathlib import Path
from terry.data_prep.config import DatasetConfig
from terry.data_prep.prepare import prepare

root, base = map(Path, sys.argv[1:])
if not sys.stdin.readline():
    sys.exit("nobody wants it any more")
print("begin", flush=True)
prepare(DatasetConfig(source="a.csv"), root, name="x", base=base)
print("end", flush=True)
"""


def corpus(path: Path) -> None:
    """A few megabytes of text that do not compress to the same words again and again."""
    rng = random.Random(4)
    words = [f"word{i}" for i in range(20_000)]
    with path.open("w") as file:
        file.write("body\n")
        for _ in range(10_000):
            chosen = rng.choices(words, k=60)
            file.write(f'"{" ".join(chosen[:30])}. Then {" ".join(chosen[30:])}!"\n')


def make(root: Path, base: Path) -> Prepared:
    return prepare(DatasetConfig(source="a.csv"), root, name="x", base=base)


def ready(root: Path, base: Path) -> subprocess.Popen[str]:
    """A process that imports everything and then waits: several can do so at once."""
    command = [sys.executable, "-c", PROGRAM, str(root), str(base)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Have it prepare."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "begin\n"
    return process


def duration(root: Path, base: Path) -> float:
    """Seconds that one undisturbed preparation takes, imports not included."""
    process = begin(ready(root, base))
    started = time.monotonic()
    assert process.stdout is not None
    assert process.stdout.readline() == "end\n"
    seconds = time.monotonic() - started
    process.communicate()
    return seconds


def killed(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a process at a moment; False if it had finished."""
    assert process.stdout is not None
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    rest, _ = process.communicate()
    return "end" not in rest


@pytest.mark.timeout(280)
def test_killed_at_random_moments(tmp_path: Path) -> None:
    corpus(tmp_path / "a.csv")
    longest = min(duration(tmp_path / f"timed-{i}", tmp_path) for i in range(3))
    undisturbed = make(tmp_path / "undisturbed", tmp_path)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown where the test fails
    root, rng, hits, left_over = tmp_path / "root", random.Random(seed), 0, 0
    root.mkdir()
    waiting = [ready(root, tmp_path) for _ in range(2)]
    for left in reversed(range(KILLS)):
        process = begin(waiting.pop(0))
        waiting += [ready(root, tmp_path)] if left >= 2 else []  # imports while the other is at work
        hits += killed(process, rng.uniform(0, longest))
        left_over += sum(folder.name.startswith(".") for folder in root.iterdir())
        for dataset in list_datasets(root):
            assert isinstance(dataset, Dataset), f"a damaged data set was published: {dataset}"
            dataset.verify()
            assert dataset.manifest == undisturbed.manifest
            shutil.rmtree(dataset.path)
    assert hits >= KILLS // 4, "the kills came too late to show anything"
    assert left_over > 0, "no kill hit a preparation that had begun to write"
    again = make(root, tmp_path)
    assert again.built
    assert again.manifest == undisturbed.manifest
    assert again.report == undisturbed.report
    assert [folder.name for folder in root.iterdir()] == [undisturbed.path.name]
