"""How fast text becomes a finished data set, and in how much memory; beside pipelines of the usual kind.

    pip install nltk regex nupunkt tokenizers    # the peers
    python benchmarks/data_prep.py [--corpus movie-reviews.csv] [--repeat 5]
    TERRY_BEFORE=folder python benchmarks/data_prep.py    # beside another build of ours, which is folder/terry
    python benchmarks/data_prep.py --memory-mb 1000       # peak memory for a large synthetic CSV, nothing else
    python benchmarks/data_prep.py --engines              # our CSV reader beside polars', nothing else
    python benchmarks/data_prep.py --letter [TEXT...]     # paragraphs that come back from tokens to the letter
    python benchmarks/data_prep.py --splitters            # splitters of sentences and words, nothing else

Each timing is a process of its own with one thread, from the CSV file to a finished data set at word level: read, split
into sentences, tokenise, keep the 8,000 most frequent words of the train split, write ids. Importing is not counted.
The pipelines take turns, so that a busy machine is as busy for each. Figures are medians; processor seconds depend less
on what else runs than seconds do.

`same-job` is what one writes by hand in Python with our choices: the csv module, sentencex, our token pattern run by
`regex`, a hash of each story for its split, hashes of source and results, an atomic rename. The other peers do less: no
checks, no hashes, no split by content, no atomic publishing. All peers hold all text in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SIZE = 8000
Splits = Callable[[str], Iterable[str]]


class _timed:  # noqa: N801  reads like a function
    """Times what stands inside and prints it, with the process's peak memory, as JSON."""

    def __enter__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        print(json.dumps({"wall": wall, "processor": processor, "peak": peak}))


def ours(corpus: Path, folder: Path) -> None:
    """This package, single-threaded."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    from terry.data_prep.config import DatasetConfig
    from terry.data_prep.prepare import prepare

    config = DatasetConfig(source=str(corpus), column="body", vocabulary_size=SIZE)
    with _timed():
        prepare(config, folder, name="ours", base=Path.cwd())


def _by_count(examples: list[tuple[str, list[str]]]) -> Iterable[str]:
    """The first nine tenths are train, and so on."""
    cuts = int(0.9 * len(examples)), int(0.95 * len(examples))
    return ("train" if i < cuts[0] else "valid" if i < cuts[1] else "test" for i in range(len(examples)))


def _peer(corpus: Path, folder: Path, sentences: Splits, words: Splits, assign: Any = _by_count) -> None:
    """A pipeline as people write it: csv, a sentence splitter, a word tokeniser, a Counter, a table, np.save."""
    import csv
    from collections import Counter

    import numpy as np

    csv.field_size_limit(1 << 30)
    with corpus.open(newline="", encoding="utf-8") as file:
        examples = [
            (row["body"], words(sentence.lower()))
            for row in csv.DictReader(file)
            for line in row["body"].split("\n")
            for sentence in sentences(line)
        ]
    parts: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for name, (_, example) in zip(assign(examples), examples, strict=True):
        parts[name].append(example)
    counts = Counter(word for example in parts["train"] for word in example)
    table = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(SIZE - 2))}
    for name, part in parts.items():
        ids = np.array([table.get(w, 0) for example in part for w in (*example, "<eos>")], dtype=np.uint16)
        np.save(folder / f"{name}.npy", ids)
        np.save(folder / f"{name}.offsets.npy", np.cumsum([0] + [len(example) + 1 for example in part]))
    (folder / "vocabulary.json").write_text(json.dumps(table))


def nltk(corpus: Path, folder: Path) -> None:
    """NLTK's Punkt splitter (its untrained form, which needs no model) and its Treebank word tokeniser."""
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    with _timed():
        _peer(corpus, folder, PunktSentenceTokenizer().tokenize, NLTKWordTokenizer().tokenize)


def patterns(corpus: Path, folder: Path) -> None:
    """Regular expressions of the standard library for both."""
    import re

    ends = re.compile(r"(?<=[.!?])\s+(?=\S)")
    words = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
    with _timed():
        _peer(corpus, folder, ends.split, words.findall)


def polars_only(corpus: Path, folder: Path) -> None:
    """Polars for all of it: lines are sentences, a simple pattern. It does less: no splitter, no checks, no hashes."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    import numpy as np
    import polars as pl

    with _timed():
        lines = pl.read_csv(corpus, columns=["body"]).to_series().str.split("\n").explode().str.strip_chars()
        lines = lines.filter(lines != "").str.to_lowercase()
        tokens = (lines + " \x01").str.extract_all(r"\x01|\w+(?:['’-]\w+)*|[^\w\s]").explode()
        counts = tokens.value_counts(sort=True).head(SIZE)
        ids = tokens.cast(pl.Enum(counts.to_series(0)), strict=False).to_physical().fill_null(SIZE).to_numpy()
        np.save(folder / "tokens.npy", ids.astype(np.uint16))
        counts.write_ndjson(folder / "vocabulary.jsonl")


def hugging_face(corpus: Path, folder: Path) -> None:
    """The `tokenizers` library: its splitter of words and punctuation, its trainer of a vocabulary, one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import csv

    import numpy as np
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    csv.field_size_limit(1 << 30)
    with _timed():
        with corpus.open(newline="", encoding="utf-8") as file:
            lines = [line for row in csv.DictReader(file) for line in row["body"].split("\n") if line.strip()]
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(vocab_size=SIZE, special_tokens=["<unk>", "<eos>"], show_progress=False)
        tokenizer.train_from_iterator(lines, trainer)
        ids = np.concatenate([np.array([*each.ids, 1], dtype=np.uint16) for each in tokenizer.encode_batch(lines)])
        np.save(folder / "tokens.npy", ids)
        tokenizer.save(str(folder / "vocabulary.json"))


def regex(corpus: Path, folder: Path) -> None:
    """The `regex` library with Unicode classes like ours."""
    import regex as re

    ends = re.compile(r"(?<=[.!?])\s+(?=\S)")
    words = re.compile(r"[\p{L}\p{N}\p{M}_]+(?:['’-][\p{L}\p{N}\p{M}_]+)*|[^\w\s]\p{M}*")
    with _timed():
        _peer(corpus, folder, ends.split, words.findall)


def same_job(corpus: Path, folder: Path) -> None:
    """What we do, in plain Python: see the top of this file."""
    import re as plain
    from functools import cache, partial
    from hashlib import blake2b, sha256
    from html import unescape

    import regex as re
    import sentencex

    from terry.data_prep.tokens import _WORDS

    pattern = plain.sub(r"\\x\{([0-9A-F]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", _WORDS)
    words = re.compile(pattern, re.V1)

    @cache
    def split_of(body: str) -> str:
        share = int.from_bytes(blake2b(body.encode(), digest_size=8).digest(), "big") / 2**64
        return "train" if share < 0.9 else "valid" if share < 0.95 else "test"

    def tokens(sentence: str) -> list[str]:
        found: list[str] = words.findall(unescape(sentence) if "&" in sentence else sentence)
        return found

    with _timed():
        sha256(corpus.read_bytes()).hexdigest()
        building = folder / "building"
        building.mkdir()
        _peer(
            corpus,
            building,
            lambda line: filter(str.strip, map(str.strip, partial(sentencex.segment, "en")(line))),
            tokens,
            lambda examples: (split_of(body) for body, _ in examples),
        )
        hashes = {path.name: sha256(path.read_bytes()).hexdigest() for path in building.iterdir()}
        (building / "manifest.json").write_text(json.dumps(hashes))
        for path in building.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        building.rename(folder / "made")


PIPELINES = {
    "terry": ours,
    "before": ours,
    "nltk": nltk,
    "same-job": same_job,
    "re": patterns,
    "regex": regex,
    "tokenizers": hugging_face,
    "polars": polars_only,
}


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


def measure(pipeline: str, corpus: Path) -> dict[str, float] | None:
    """One run in a process of its own; None if a library that it needs is missing."""
    command = [sys.executable, __file__, "--child", pipeline, "--corpus", str(corpus)]
    environment = dict(os.environ)
    if pipeline == "before":
        if "TERRY_BEFORE" not in environment:
            return None
        environment["PYTHONPATH"] = environment["TERRY_BEFORE"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def compare(corpus: Path, repeat: int) -> None:
    """Print a table of all pipelines on one corpus."""
    megabytes = corpus.stat().st_size / 1e6
    runs: dict[str, list[dict[str, float]]] = {pipeline: [] for pipeline in PIPELINES}
    loads = [os.getloadavg()[0]]
    for _ in range(repeat):
        for pipeline, found in runs.items():
            if (result := measure(pipeline, corpus)) is not None:
                found.append(result)
        loads.append(os.getloadavg()[0])
    print(
        f"{corpus.name}, {megabytes:.1f} MB, one thread, {repeat} turns, load average {min(loads):.1f}-{max(loads):.1f}"
    )
    print(f"{'pipeline':10} {'best':>6} {'median':>7} {'MB/s':>6}   {'cpu':>9} {'MB/s':>6} {'terry':>6} {'peak MB':>8}")
    for pipeline, found in runs.items():
        if not found:
            print(f"{pipeline:10} not measured: its library is not installed, or no build to compare with is named")
            continue
        wall, best = statistics.median(r["wall"] for r in found), min(r["wall"] for r in found)
        processor, peak = statistics.median(r["processor"] for r in found), max(r["peak"] for r in found)
        ratio = processor / statistics.median(r["processor"] for r in runs["terry"])
        print(
            f"{pipeline:10} {best:5.2f}s {wall:6.2f}s {megabytes / wall:6.1f}   "
            f"{processor:8.2f}s {megabytes / processor:6.1f} {ratio:5.1f}x {peak / 1e6:8.0f}"
        )


def memory(megabytes: int) -> None:
    """Print time and peak memory for a large synthetic file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.csv"
        make_synthetic(path, megabytes)
        result = measure("terry", path)
        assert result is not None
        size = path.stat().st_size / 1e6
    print(
        f"synthetic CSV, {size:.0f} MB: {result['wall']:.0f} s, {size / result['wall']:.1f} MB/s, "
        f"{size / result['processor']:.1f} MB per processor second, peak {result['peak'] / 1e6:.0f} MB"
    )


def engines(shared: Path, corpus: Path) -> None:
    """Our CSV reader beside polars': what each makes of every test file, and how long each takes for the corpus."""
    verdicts: dict[str, list[str]] = {"both read the same": [], "only ours reads": [], "they differ": []}
    for path in sorted(shared.rglob("*.csv")):
        mine, theirs, note = _column(path), _polars_column(path), ""
        if isinstance(theirs, str):
            verdict, note = "only ours reads", f": {len(mine)} rows; polars: {theirs}"
        elif mine == theirs:
            verdict = "both read the same"
        else:
            verdict, note = "they differ", f": ours {len(mine)} rows that fit, polars {len(theirs)}"
        verdicts[verdict].append(path.name + note)
    for verdict, files in verdicts.items():
        print(f"{verdict}: {len(files)} files")
        for line in files if verdict != "both read the same" else []:
            print(f"    {line}")
    for name, function in (("csv module", _column), ("polars", _polars_column)):
        seconds = []
        for _ in range(5):
            begin = time.process_time()
            function(corpus, 2)
            seconds.append(time.process_time() - begin)
        print(f"{name}: {corpus.stat().st_size / 1e6 / statistics.median(seconds):.0f} MB per processor second")


def _column(path: Path, place: int = 0) -> list[str]:
    from terry.data_prep.blocks import ReadReport
    from terry.data_prep.config import DatasetConfig
    from terry.data_prep.readers import read
    from terry.data_prep.sources import find_sources

    config = DatasetConfig(source=str(path), column=str(place))
    return [block.text for block in read(find_sources(config, path.parent)[0], config, ReadReport(path=str(path)))]


def _polars_column(path: Path, place: int = 0) -> list[str] | str:
    import polars as pl

    separator = ";" if "sniff" in path.name else ","
    try:
        frame = pl.read_csv(path, infer_schema=False, separator=separator)
    except pl.exceptions.PolarsError as error:
        return str(error).split("\n")[0][:60]
    return frame.to_series(place).fill_null("").to_list()


def splitters(shared: Path) -> None:
    """Sentences that each splitter finds in the paragraphs of the test texts, and how fast.

    In the film reviews each paragraph is one sentence, by the people who made the corpus.
    """
    import nupunkt
    import sentencex
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    each: dict[str, Splits] = {
        "sentencex": lambda paragraph: sentencex.segment("en", paragraph),
        "nupunkt": nupunkt.sent_tokenize,
        "NLTK Punkt": PunktSentenceTokenizer().tokenize,
    }
    texts = {
        "film reviews": "\n".join(_column(shared / "movie-reviews.csv", 2)).split("\n"),
        "Reddit comments": "\n".join(_column(shared / "reddit-comments-sample.csv")).split("\n"),
        "plays": (shared / "tinyshakespeare.txt").read_text().split("\n\n"),
    }
    for title, parts in texts.items():
        paragraphs = [part.strip() for part in parts if part.strip()]
        print(f"{title}: {len(paragraphs):,} paragraphs")
        for name, split in each.items():
            begin = time.process_time()
            found = sum(len([s for s in split(paragraph) if s.strip()]) for paragraph in paragraphs)
            rate = sum(map(len, paragraphs)) / 1e6 / (time.process_time() - begin)
            print(f"    {name:10} {found:,} sentences, {rate:.1f} million characters per processor second")


def tokenisers(shared: Path) -> None:
    """Words that our pattern finds in the film reviews and NLTK's word tokeniser, and how fast each is."""
    import polars as pl
    from nltk.tokenize import NLTKWordTokenizer

    from terry.data_prep.config import Tokenizer
    from terry.data_prep.tokens import tokenise

    lines = "\n".join(_column(shared / "movie-reviews.csv", 2)).split("\n")
    split = NLTKWordTokenizer().tokenize
    each: dict[str, Callable[[], int]] = {
        "our pattern, run by polars": lambda: len(tokenise(pl.Series(lines), Tokenizer.words)),
        "NLTK word tokeniser": lambda: sum(len(split(line)) for line in lines),
    }
    for name, count in each.items():
        begin = time.process_time()
        found = count()
        rate = sum(map(len, lines)) / 1e6 / (time.process_time() - begin)
        print(f"{name}: {found:,} words, {rate:.1f} million characters per processor second")


def letter(shared: Path, texts: list[Path]) -> None:
    """The share of paragraphs that come back from their tokens to the letter, by text and by script.

    A paragraph is what stands between empty lines, or between line breaks in a table; runs of blanks count as one.
    """
    from collections import Counter

    from terry.data_prep.tokens import detokenise_words, words

    moby = Path(__file__).parent.parent / "examples" / "data" / "moby-dick.csv"
    every = {
        "Moby-Dick": "\n".join(_column(moby, 2)).split("\n"),
        "plays": (shared / "tinyshakespeare.txt").read_text().split("\n\n"),
        "Reddit comments": "\n".join(_column(shared / "reddit-comments-sample.csv")).split("\n"),
    }
    every |= {path.name: path.read_text(encoding="utf-8").split("\n\n") for path in texts}
    print(f"{'text':24} {'script':12} {'paragraphs':>10} {'to the letter':>14}")
    for name, parts in every.items():
        seen, same = Counter[str](), Counter[str]()
        for paragraph in filter(None, (" ".join(part.split()) for part in parts)):
            script = _script(paragraph)
            seen[script] += 1
            same[script] += detokenise_words(words(paragraph)) == paragraph
        for script, count in seen.most_common():
            print(f"{name:24} {script:12} {count:10,} {same[script] / count:14.2%}")


def _script(text: str) -> str:
    """The script of most letters of a text, by the first word of their names in Unicode."""
    import unicodedata
    from collections import Counter

    names = Counter(unicodedata.name(c, "none").split()[0] for c in text if c.isalpha())
    return names.most_common(1)[0][0].lower() if names else "no letters"


def main() -> None:
    """Parse the command line."""
    shared = Path(os.environ.get("TERRY_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=shared / "movie-reviews.csv", help="a CSV file, column body")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory-mb", type=int, help="only peak memory, for a synthetic file of this size")
    parser.add_argument("--engines", action="store_true", help="only our CSV reader beside polars'")
    parser.add_argument("--splitters", action="store_true", help="only splitters of sentences and words")
    parser.add_argument("--letter", nargs="*", type=Path, metavar="TEXT", help="only what comes back to the letter")
    parser.add_argument("--child", choices=PIPELINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        with tempfile.TemporaryDirectory() as folder:
            PIPELINES[arguments.child](arguments.corpus, Path(folder))
    elif arguments.letter is not None:
        letter(shared, arguments.letter)
    elif arguments.memory_mb:
        memory(arguments.memory_mb)
    elif arguments.engines:
        os.environ["POLARS_MAX_THREADS"] = "1"
        engines(shared, arguments.corpus)
    elif arguments.splitters:
        os.environ["POLARS_MAX_THREADS"] = "1"
        splitters(shared)
        tokenisers(shared)
    else:
        compare(arguments.corpus, arguments.repeat)


if __name__ == "__main__":
    main()
