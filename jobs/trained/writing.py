"""Texts from trained models, readable, each with its probability, and the file they are kept in."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from terry.cluster.errors import UserError, close
from terry.cluster.files import durable
from terry.data_prep.clean import clean_text
from terry.data_prep.config import Level, Unit
from terry.data_prep.dataset import Dataset
from terry.data_prep.tokens import SPECIAL, words
from terry.data_prep.vocabulary import Vocabulary
from terry.jobs.sweeps.model_jobs import SampleAsked, TextFormat, WrittenUnit
from terry.jobs.trained import copy_check
from terry.jobs.trained.copy_check import CopyCheck
from terry.jobs.trained.members import EnsembleMembers
from terry.models.ensemble import Ensemble
from terry.models.sample_text import Sampler, Shape, Tally, Text
from terry.models.sampling_settings import SamplingSettings

#: Longest texts, in words, where nothing is said.
_MAX_WORDS = {WrittenUnit.sentence: 100, WrittenUnit.paragraph: 500, WrittenUnit.story: 5000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One text."""

    text: str  #: as a person would read it
    attempt: int  #: number of the attempt that made it, from 0
    tokens: int  #: drawn, the end included
    log_probability: float  #: of what was drawn, under the model itself; nats
    ids: tuple[int, ...]  #: without the token that ended it

    @property
    def perplexity(self) -> float:
        """Of the text for the model that wrote it."""
        from terry.models.protocols import perplexity

        return perplexity(-self.log_probability / self.tokens)


class Writer:
    """Writes texts as it is asked. Raises UserError or ConfigError where that cannot be."""

    def __init__(self, ensemble: Ensemble, dataset: Dataset, asked: SampleAsked) -> None:
        self.asked, self._dataset, self._vocabulary = asked, dataset, dataset.vocabulary
        self.unit = asked.unit or WrittenUnit(dataset.manifest.unit.value)
        self.max_words = asked.max_words or _MAX_WORDS[self.unit]
        self._settings = SamplingSettings(
            temperature=asked.temperature,
            top_k=asked.top_k,
            top_p=asked.top_p,
            repetition_penalty=asked.repetition_penalty,
        )
        self._shape = self._make_shape()
        self._sampler = Sampler(ensemble)

    @property
    def tally(self) -> Tally:
        """Attempts of the newest call of `samples`."""
        return self._sampler.tally

    def samples(self) -> Iterator[Sample]:
        """The texts, each as soon as those before it are done."""
        asked = self.asked
        texts = self._sampler.draw(
            self._shape, asked.count, settings=self._settings, seed=asked.random_seed, batch_size=asked.batch_size
        )
        return (self._readable(text) for text in texts)

    def summary(self) -> str:
        """`100 sentences of at least 4 words in 131 attempts`."""
        tally, unit = self.tally, self.unit.value
        noun = unit if tally.texts == 1 else "stories" if unit == "story" else f"{unit}s"
        least = self.asked.min_words
        words_ = f" of at least {least} word{'s' * (least != 1)}" if least > 1 else ""
        line = f"{tally.texts:,} {noun}{words_} in {tally.attempts:,} attempt{'s' * (tally.attempts != 1)}"
        if tally.long:
            line += f" ({tally.long:,} were longer than {self.max_words:,} words)"
        if tally.texts < self.asked.count:
            short = f" ({tally.short:,} were too short)" if tally.short else ""
            line += (
                f"{short}; gave up: {self.asked.count:,} were asked for; other lengths or another temperature may help"
            )
        return line

    def copies(self, samples: Sequence[Sample]) -> CopyCheck:
        """What the texts have in common with the training text."""
        return copy_check.check([sample.ids for sample in samples], self._dataset, self._shape)

    def _readable(self, text: Text) -> Sample:
        ids = text.ids[:-1] if text.ids[-1] in self._shape.ends else text.ids
        return Sample(
            text=self._vocabulary.detokenise(ids),
            attempt=text.attempt,
            tokens=text.drawn,
            log_probability=text.log_probability,
            ids=ids,
        )

    def _make_shape(self) -> Shape:
        asked, vocabulary = self.asked, self._vocabulary
        marks = copy_check.marks(self._dataset)
        begin = Vocabulary.boundary(Unit(self.unit.value))
        if begin not in marks:
            known = ", ".join(unit.value for unit in Unit if Vocabulary.boundary(unit) in marks)
            raise UserError(
                f"a model trained on {self._dataset.manifest.name} knows no end of a {self.unit.value}; "
                f"units that it can write: {known}"
            )
        given = encode_seed(vocabulary, asked.seed_text)
        by_blank = vocabulary.level is Level.character
        if self.max_words < asked.min_words:
            raise UserError(f"at least {asked.min_words} and at most {self.max_words} words cannot be")
        return Shape(
            prompt=(begin, *given),
            given=len(given),
            ends=frozenset(mark for mark in range(begin, len(SPECIAL))),
            banned=frozenset({vocabulary.unknown, *range(len(SPECIAL))} - marks),
            words=_word_ids(vocabulary),
            # Characters: a text of n words has n - 1 blanks.
            min_words=max(0, asked.min_words - by_blank),
            max_words=max(1, self.max_words - by_blank),
            max_tokens=(30 if by_blank else 4) * self.max_words + 50,
        )


def _word_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """Tokens that count as words; at character level the blanks between words."""
    inner = enumerate(vocabulary.tokens[len(SPECIAL) :], len(SPECIAL))
    if vocabulary.level is Level.character:
        return frozenset(i for i, token in inner if token.isspace())
    return frozenset(i for i, token in inner if any(c.isalnum() for c in token))


def encode_seed(vocabulary: Vocabulary, text: str) -> list[int]:
    """Ids of the text to go on from. UserError names each word that the vocabulary lacks."""
    ids = vocabulary.encode(text)
    if vocabulary.unknown not in ids:
        return ids
    cleaned = clean_text(text, vocabulary.clean)
    cleaned = cleaned.lower() if vocabulary.lowercase else cleaned
    pieces = list(cleaned) if vocabulary.level is Level.character else words(cleaned, vocabulary.tokenizer)
    lacking = list(dict.fromkeys(piece for piece in pieces if vocabulary.id_of(piece) == vocabulary.unknown))
    near = {piece: close(piece, vocabulary.tokens[len(SPECIAL) :]) for piece in lacking[:5]}
    hints = [f"{piece!r}" + (f" (it has {found})" if found else "") for piece, found in near.items()]
    kind = "characters" if vocabulary.level is Level.character else "words"
    raise UserError(
        f"the seed text has {kind} that the model's vocabulary of {len(vocabulary):,} lacks: {', '.join(hints)}"
    )


# files

#: What of a model's name (a glob, for instance) does not go into a file's.
_UNSAFE = re.compile(r"[^A-Za-z0-9+_-]")


class Output:
    """The file of one call: text for people with a heading, or JSON lines. Made new; never appended to another's."""

    def __init__(self, folder: Path, chosen: EnsembleMembers, writer: Writer) -> None:
        durable.make_folder(folder)
        asked = writer.asked
        suffix = "txt" if asked.format is TextFormat.text else "jsonl"
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        model = _UNSAFE.sub("_", chosen.mixture.name)[:60]
        name = f"{stamp}-{model}-{writer.unit}-seed{asked.random_seed}-{secrets.token_hex(3)}.{suffix}"
        self.path = folder / name
        self._names = [f"{member.name} {member.paths[-1].name}" for member in chosen.members]
        self._model, self._writer = chosen.mixture.name, writer
        descriptor = durable.open_shared(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._file: IO[str] = os.fdopen(descriptor, "w", encoding="utf-8")
        self._first = True
        if asked.format is TextFormat.text:
            self._file.write("".join(f"# {line}\n" for line in self._heading()) + "\n")

    def _heading(self) -> list[str]:
        settings = msgspec.to_builtins(self._writer.asked)
        shown = [f"{key}={value}" for key, value in settings.items() if key not in {"mixture", "format", "batch_size"}]
        return [f"model: {self._model} ({', '.join(self._names)})", f"settings: {' '.join(shown)}"]

    def add(self, sample: Sample, copied: int | None = None) -> str:
        """Write one text; returns what was written, as a terminal should show it."""
        lines = self.lines(sample, copied)
        self._file.write(lines)
        self._file.flush()
        return lines

    def lines(self, sample: Sample, copied: int | None) -> str:
        """A text as the format has it."""
        if self._writer.asked.format is TextFormat.jsonl:
            return msgspec.json.encode(self._record(sample, copied)).decode() + "\n"
        gap = "" if self._first or self._writer.unit is WrittenUnit.sentence else "\n"
        if gap and self._writer.unit is WrittenUnit.story:
            gap = "\n* * *\n\n"
        self._first = False
        return f"{gap}{sample.text}\n"

    def _record(self, sample: Sample, copied: int | None) -> dict[str, Any]:
        record = {
            "model": self._model,
            "members": self._names,
            "unit": self._writer.unit,
            "random_seed": self._writer.asked.random_seed,
            "attempt": sample.attempt,
            "text": sample.text,
            "tokens": sample.tokens,
            "log_probability": sample.log_probability,
            "perplexity": sample.perplexity,
        }
        return record if copied is None else {**record, "longest_copied_run": copied}

    def close(self, summary: Sequence[str]) -> None:
        """End it, with the summary where people read it."""
        if self._writer.asked.format is TextFormat.text:
            self._file.write("\n" + "".join(f"# {line}\n" for line in summary))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        durable.fsync_folder(self.path.parent)  # its name, too


def produce(
    chosen: EnsembleMembers, writer: Writer, folder: Path, show: Any = lambda _: None
) -> tuple[Path, dict[str, Any]]:
    """Write all texts into a new file of `folder`; `show` gets each as it comes. Returns the file and a summary."""
    output = Output(folder, chosen, writer)
    summary: dict[str, Any] = {}
    try:
        if writer.asked.check_copies:  # the training text is looked through once, for all of them
            samples = list(writer.samples())
            found = writer.copies(samples)
            for sample, run in zip(samples, found.runs, strict=True):
                show(output.add(sample, run))
            summary |= {"copies": found.words(), **found.document()}
        else:
            for sample in writer.samples():
                show(output.add(sample))
    finally:
        lines = [writer.summary(), *([summary["copies"]] if summary else [])]
        output.close(lines)
    tally = writer.tally
    counts = {"texts": tally.texts, "attempts": tally.attempts, "too_short": tally.short, "too_long": tally.long}
    return output.path, {"summary": lines[0], **counts, **summary}
