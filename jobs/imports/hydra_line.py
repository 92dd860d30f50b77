"""A command line with Hydra's `--multirun` (https://hydra.cc/docs/tutorials/basic/running_your_app/multi-run/)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from terry.cluster.errors import UserError
from terry.jobs.imports.brought import Brought, parameter, safe_name

_MULTIRUN = {"-m", "--multirun"}
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_MOST = 10_000
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def line_in(text: str) -> str | None:
    """The first command of a text that has `--multirun`; None where there is none."""
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        if _MULTIRUN & set(words) and any("=" in word for word in words):
            return line
    return None


def read(line: str, file: Path) -> Brought:
    """Raises UserError for a command that cannot be understood."""
    words = [word for word in shlex.split(line, comments=True) if word not in _MULTIRUN]
    program = next((Path(word).stem for word in words if word.endswith(".py")), Path(words[0]).stem)
    found = Brought(tool="Hydra", name=safe_name(program, "sweep"))
    for word in words:
        _word(found, word, file)
    found.command.append("hydra.run.dir=${run_dir}")  # what it writes stays with the run
    if found.draws:
        found.left_out.append(
            "interval(...): drawn at random, `sweep.random.count` says how many; `sweep.search` would choose"
        )
    return found


def _word(found: Brought, word: str, file: Path) -> None:
    key, equals, value = word.partition("=")
    if not equals or not found.command or key.startswith("-") or not re.fullmatch(r"(\+{0,2}|~)[\w@./:-]+", key):
        found.command.append(word)
        return
    plain = key.lstrip("+~")
    if plain.startswith(("hydra/", "hydra.")):
        found.left_out.append(f"{word}: what launches and chooses runs is Terry")
        return
    values = _values(found, parameter(plain), value, file)
    if values is None:
        found.command.append(f"{key}=${{parameters.{parameter(plain)}}}")
    elif len(values) == 1:
        found.command.append(f"{key}={values[0]}")
    else:
        found.grid[parameter(plain)] = [_number(each) for each in values]
        found.command.append(f"{key}=${{parameters.{parameter(plain)}}}")


def _values(found: Brought, name: str, value: str, file: Path) -> list[str] | None:
    """What a key takes; None where it is drawn."""
    call = _CALL.fullmatch(value.strip())
    if call is None:
        return _split(value)
    what, inside = call[1], _split(call[2])
    if what == "choice":
        return inside
    try:
        numbers = [float(each) for each in inside]
    except ValueError:
        numbers = []
    if what == "range" and 1 <= len(numbers) <= 3:
        return _range(numbers, whole=all(re.fullmatch(r"[+-]?\d+", each) for each in inside), file=file)
    if what == "interval" and len(numbers) == 2:
        found.draws[name] = {"uniform": numbers}
        return None
    raise UserError(f"{value}: {what}(...) cannot be carried over: write its values with commas between", file=file)


def _range(numbers: list[float], *, whole: bool, file: Path) -> list[str]:
    start, stop = (0.0, numbers[0]) if len(numbers) == 1 else numbers[:2]
    step = numbers[2] if len(numbers) == 3 else 1.0
    if step == 0 or (stop - start) / step > _MOST:
        raise UserError(f"range({', '.join(f'{each:g}' for each in numbers)}): too many values", file=file)
    found, number = [], 0
    while (start + number * step < stop) if step > 0 else (start + number * step > stop):
        at = start + number * step
        found.append(str(int(at)) if whole else repr(float(f"{at:.12g}")))
        number += 1
    return found


def _split(text: str) -> list[str]:
    """By commas that stand in no brackets and no quotes."""
    parts, closing, quote = [""], list[str](), ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _PAIRS:
            closing.append(_PAIRS[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def _number(text: str) -> int | float | str:
    """A number where the program gets the very same text of it."""
    for kind in (int, float):
        try:
            if repr(number := kind(text)) == text and abs(number) < 1 << 53:
                return number
        except ValueError:
            continue
    return text
