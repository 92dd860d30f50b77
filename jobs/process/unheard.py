"""What a program said just before its attempt was lost, and nobody heard: SIGKILL, a node's end, a crash of ours.

The program has gone on by then, and may have kept its state: it will not say it again. What it said is in files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from terry.cluster.files.paths import AttemptFolder, Run
from terry.jobs.process.program_output import Emit, JsonLines, Patterns, Tail, WrittenFiles, named
from terry.logs.records.metrics import FROM_SCRATCH, rows

#: A step, and what was measured at it.
Said = tuple[int, dict[str, float]]


def unheard(
    run: Run, attempt: int, first_attempt: int, patterns: Mapping[str, str], work: Path | None
) -> tuple[int, list[Said]]:
    """What earlier attempts said and did not write to their measurements: (a step that none of those is after, it).

    work: the program's folder, where its files are read. Only what follows the last attempt that heard anything: that
    one has asked the same of those before it.
    """
    earlier = [folder for number, folder in run.attempts() if first_attempt <= number < attempt]
    heard = [(folder, _heard(folder)) for folder in earlier]
    known = {_key(said) for _, found in heard for said in found}
    latest = max((i for i, (_, found) in enumerate(heard) if found), default=0)
    said: list[Said] = []
    for folder, _ in heard[latest:]:
        said += _said(folder, patterns)
    if work is not None and earlier:
        said += _collect(lambda emit: WrittenFiles(work, from_the_beginning=True).poll(emit, last=False))
    last = max((step for _, found in heard for step, _ in found), default=FROM_SCRATCH)
    return last, [one for one in said if _key(one) not in known]


def _said(folder: AttemptFolder, patterns: Mapping[str, str]) -> list[Said]:
    found = _collect(lambda emit: JsonLines(folder.root / "measured.jsonl", 0).poll(emit, last=False))
    for path in (folder.stdout, folder.stderr) if patterns else ():
        reader = Patterns(patterns)
        for line in Tail(path).lines():
            found += _collect(lambda emit, line=line, reader=reader: reader.take(line, emit))  # type: ignore[misc]
    return found


def _collect(read: Callable[[Emit], object]) -> list[Said]:
    found: list[Said] = []
    read(lambda step, values: found.append((step, named(values))))
    return found


def _heard(folder: AttemptFolder) -> list[Said]:
    return [(row.pop("step"), row) for row in rows(folder.metrics)]


def _key(said: Said) -> tuple[int, frozenset[tuple[str, Any]]]:
    step, values = said
    return step, frozenset((name, repr(float(value))) for name, value in values.items() if name not in {"time"})
