"""Five models that are better together: trained on film reviews by one `submit`, then 1, 2, ... 5 of them averaged.

    python -m benchmarks.ensemble [--workspace DIR] [--corpus CSV] [--reviews N] [--epochs N]

Prints Markdown: perplexity of each member and of the ensembles of the first 1 to N of them on the validation data, and
of all of them averaged in other ways. With --workspace what was trained stays there, and a second call goes on with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
SHARED = Path(os.environ.get("TERRY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def sweep(corpus: Path, reviews: int, epochs: int, members: int) -> dict[str, Any]:
    """The sweep file: alike but for their seeds."""
    return {
        "name": "few",
        "datasets": {
            "films": {
                "source": str(corpus),
                "column": "body",
                "unit": "story",
                "tokenizer": "whitespace",
                "splitter": "lines",
                "vocabulary_size": 5000,
                "max_examples": reviews,
                "choose": "random",
                "split": {"train": 0.85, "valid": 0.1, "test": 0.05},
            }
        },
        "run": {
            "data": {"batch_size": 20, "bptt": 35},
            "model": {"cell": "gru", "hidden_size": 128, "embedding_size": 128, "dropout": 0.0},
            "optimizer": {"name": "adam", "lr": 0.004, "clip_norm": 1.0, "schedule": "cosine"},
            "training": {"epochs": epochs},
            "resources": {"cpus": 1},
        },
        "ensembles": {"five": {"size": members}},
    }


class Place:
    """A workspace, asked by the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def terry(self, *arguments: str) -> str:
        """What a verb prints; CalledProcessError where it failed."""
        command = [COMMAND, "-w", str(self.folder / "runs"), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def evaluation(self, *options: str) -> dict[str, Any]:
        """`evaluate five`, as JSON."""
        found: dict[str, Any] = json.loads(self.terry("--json", "evaluate", "five", *options))
        return found


def measure(place: Place, file: Path) -> None:
    """One submit, and what came of it."""
    begin = time.monotonic()
    new = json.loads(place.terry("--json", "submit", str(file)))["new"]
    place.terry("wait", "few")
    wall = time.monotonic() - begin
    found = json.loads((place.folder / "runs/runs/few-ensemble-five/result.json").read_bytes())
    others = [
        ("arithmetic mean, weights by loss", place.evaluation("--weights", "loss")),
        ("geometric mean", place.evaluation("--average", "geometric")),
        ("arithmetic mean, on the test data", place.evaluation("--split", "test")),
    ]
    print(f"\n{found['tokens']:,} tokens of validation data\n")
    if new:  # else this call only looked at what an earlier one had done
        print(f"from submit to the evaluated ensemble: {wall:.0f} s\n")
    print("| member | loss | perplexity |\n|---|---|---|")
    for row in found["members"]:
        print(f"| {row['member']} | {row['loss']:.4f} | {row['perplexity']:.2f} |")
    print(f"| mean | | {found['mean_member_perplexity']:.2f} |\n")
    print("| members averaged | loss | perplexity | below the mean member |\n|---|---|---|---|")
    for row in found["first"]:
        print(f"| {row['members']} | {row['loss']:.4f} | {row['perplexity']:.2f} | {row['gain']:.1%} |")
    for words, other in others:
        print(f"| all, {words} | {other['loss']:.4f} | {other['perplexity']:.2f} | {other['gain']:.1%} |")


def main() -> None:
    """Measure and print; ends its cluster whatever happens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="stays; left out: a temporary folder")
    parser.add_argument("--corpus", type=Path, default=SHARED / "movie-reviews.csv", help="a CSV file, column body")
    parser.add_argument("--reviews", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--members", type=int, default=5)
    given = parser.parse_args()
    if not given.corpus.is_file():
        sys.exit(f"there is no {given.corpus}: name a CSV file with a column `body` with --corpus")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is taken down, too
    with tempfile.TemporaryDirectory() as temporary:
        place = Place((given.workspace or Path(temporary)).resolve())
        place.folder.mkdir(parents=True, exist_ok=True)
        file = place.folder / "few.yaml"  # JSON is YAML
        file.write_text(json.dumps(sweep(given.corpus.resolve(), given.reviews, given.epochs, given.members)))
        try:
            measure(place, file)
        finally:
            place.terry("down")


if __name__ == "__main__":
    main()
