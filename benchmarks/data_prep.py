"""How fast text becomes a finished data set, and in how much memory; beside pipelines of the usual kind.

    python benchmarks/data_prep.py [--corpus movie-reviews.csv] [--repeat 5] [--memory-mb 1000]

Each timing is a process of its own with one thread, from the CSV file to a finished data set at word level: read, split
into sentences, tokenise, keep the 8,000 most frequent words of the train split, write ids. Importing is not counted.
The pipelines take turns, so that a noisy machine is as noisy for each; the best of the repetitions counts.

The peers do less than we do: no checks, no hashes, no split by content, no atomic publishing, and all text in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = 8000


def ours(corpus: Path, folder: Path) -> float:
    """This package, single-threaded."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    from terry.data_prep.config import DatasetConfig
    from terry.data_prep.prepare import prepare

    config = DatasetConfig(source=str(corpus), column="body", vocabulary_size=SIZE)
    begin = time.perf_counter()
    prepare(config, folder, name="ours", base=Path.cwd())
    return time.perf_counter() - begin


def _peer(corpus: Path, folder: Path, sentences: object, words: object) -> float:
    """A pipeline as people write it: csv, a sentence splitter, a word tokeniser, a Counter, a table, np.save."""
    import csv
    from collections import Counter

    import numpy as np

    begin = time.perf_counter()
    csv.field_size_limit(1 << 30)
    with corpus.open(newline="", encoding="utf-8") as file:
        examples = [
            words(sentence.lower())  # type: ignore[operator]
            for row in csv.DictReader(file)
            for line in row["body"].split("\n")
            for sentence in sentences(line)  # type: ignore[operator]
        ]
    cuts = int(0.9 * len(examples)), int(0.95 * len(examples))
    parts = {"train": examples[: cuts[0]], "valid": examples[cuts[0] : cuts[1]], "test": examples[cuts[1] :]}
    counts = Counter(word for example in parts["train"] for word in example)
    table = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(SIZE - 2))}
    for name, part in parts.items():
        ids = np.array([table.get(w, 0) for example in part for w in (*example, "<eos>")], dtype=np.uint16)
        np.save(folder / f"{name}.npy", ids)
        np.save(folder / f"{name}.offsets.npy", np.cumsum([0] + [len(example) + 1 for example in part]))
    (folder / "vocabulary.json").write_text(json.dumps(table))
    return time.perf_counter() - begin


def nltk(corpus: Path, folder: Path) -> float:
    """NLTK's Punkt splitter (its untrained form, which needs no model) and its Treebank word tokeniser."""
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return _peer(corpus, folder, PunktSentenceTokenizer().tokenize, NLTKWordTokenizer().tokenize)


def patterns(corpus: Path, folder: Path) -> float:
    """Regular expressions of the standard library for both."""
    import re

    ends = re.compile(r"(?<=[.!?])\s+(?=\S)")
    words = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
    return _peer(corpus, folder, ends.split, words.findall)


def regex(corpus: Path, folder: Path) -> float:
    """The `regex` library with Unicode classes like ours."""
    import regex as re

    ends = re.compile(r"(?<=[.!?])\s+(?=\S)")
    words = re.compile(r"[\p{L}\p{N}\p{M}_]+(?:['’-][\p{L}\p{N}\p{M}_]+)*|[^\w\s]\p{M}*")
    return _peer(corpus, folder, ends.split, words.findall)


PIPELINES = {"terry": ours, "nltk": nltk, "re": patterns, "regex": regex}


def make_synthetic(path: Path, megabytes: int) -> None:
    """A CSV of comments whose words are drawn by Zipf's law, so that new words never stop coming."""
    import numpy as np

    rng = np.random.default_rng(7)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,body\n")
        row = 0
        while file.tell() < megabytes * 1_000_000:
            names = [f"w{n % 9_000_000:x}" for n in rng.zipf(1.35, 400_000).tolist()]
            ends = np.cumsum(rng.geometric(1 / 60, 6000) + 3)
            begin = 0
            for end in ends[ends < len(names)].tolist():
                middle = (begin + end) // 2
                text = f'{" ".join(names[begin:middle])}. He said ""{" ".join(names[middle:end])}.""\n\nYes!'
                file.write(f'{row},"{text}"\n')
                begin, row = end, row + 1


def child(pipeline: str, corpus: Path) -> None:
    """Run one pipeline once and print its time and peak memory as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = PIPELINES[pipeline](corpus, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def measure(pipeline: str, corpus: Path) -> dict[str, float] | None:
    """One run in a process of its own; None if a library that it needs is missing."""
    command = [sys.executable, __file__, "--child", pipeline, "--corpus", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def compare(corpus: Path, repeat: int) -> None:
    """Print a table of all pipelines on one corpus."""
    megabytes = corpus.stat().st_size / 1e6
    best: dict[str, dict[str, float]] = {}
    for _ in range(repeat):
        for pipeline in PIPELINES:
            result = measure(pipeline, corpus)
            if result is not None and result["seconds"] < best.get(pipeline, {"seconds": 1e9})["seconds"]:
                best[pipeline] = result
    print(f"{corpus.name}, {megabytes:.1f} MB, one thread, best of {repeat}")
    print(f"{'pipeline':10} {'seconds':>8} {'MB/s':>7} {'peak MB':>8} {'terry is':>9}")
    for pipeline, result in best.items():
        ratio = result["seconds"] / best["terry"]["seconds"]
        rate, peak = megabytes / result["seconds"], result["peak"] / 1e6
        print(f"{pipeline:10} {result['seconds']:8.2f} {rate:7.1f} {peak:8.0f} {ratio:8.1f}x")
    for pipeline in PIPELINES.keys() - best.keys():
        print(f"{pipeline:10} not measured: its library is not installed")


def memory(megabytes: int) -> None:
    """Print time and peak memory for a large synthetic file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.csv"
        make_synthetic(path, megabytes)
        result = measure("terry", path)
        assert result is not None
        size = path.stat().st_size / 1e6
    rate = size / result["seconds"]
    print(
        f"synthetic CSV, {size:.0f} MB: {result['seconds']:.0f} s, {rate:.1f} MB/s, peak {result['peak'] / 1e6:.0f} MB"
    )


def main() -> None:
    """Parse the command line."""
    shared = Path(os.environ.get("TERRY_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=shared / "movie-reviews.csv", help="a CSV file, column body")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory-mb", type=int, default=1000, help="size of the large file; 0 leaves it out")
    parser.add_argument("--child", choices=PIPELINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.corpus)
        return
    compare(arguments.corpus, arguments.repeat)
    if arguments.memory_mb:
        memory(arguments.memory_mb)


if __name__ == "__main__":
    main()
