"""What a word of a YAML file means that is written without quotes. The one grammar of terry.yaml and sweep files.

A word keeps its writing until the type of the place where it stands is known (terry.cluster.config.typed): where text
belongs it is that text to the letter, `0123`, `1.10` and `no` included. Else, and in a user's own free-form settings:

* nothing, `~` and `null` are nothing; `true` and `false` are these. `yes`, `no`, `on`, `off` are switches only where a
  switch belongs, text everywhere else: `no` is also a country.
* What is a number from its first to its last character is one: `10`, `-3`, `1_000`, `0x1f`, `0.5`, `1e-4`, `2E3`.
  What begins with a zero that no number needs (`010`, `007.5`) is text, and so are `16:9` and dates; so is what no
  64-bit number holds (`61e9540`, which is a commit rather than infinity). Where a number belongs these are refused.
"""

from __future__ import annotations

import math
import re

_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*|[1-9]\d{0,2}(?:_\d{3})+)")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9]\d*|[1-9]\d{0,2}(?:_\d{3})+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_OLD = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9]*)?")  # base 60 of YAML 1.1
_LONGEST = 400  #: characters of a number; more cannot be one that fits
#: Whole numbers that readers of JSON keep.
LEAST, MOST = -(2**63), 2**64 - 1

NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
#: Words that YAML 1.1 took for true and false everywhere.
YES = frozenset({"yes", "Yes", "YES", "on", "On", "ON"})
NO = frozenset({"no", "No", "NO", "off", "Off", "OFF"})

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?\s*", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Plain(str):
    """A word without quotes, as it was written."""

    __slots__ = ()


def number(text: str) -> int | float | None:
    """The number that a word is; None where it is none, or none that fits in 64 bits."""
    if len(text) > _LONGEST:
        return None
    bare = text.replace("_", "")
    if _HEXADECIMAL.fullmatch(text):
        whole = int(bare, 16)
    elif _INTEGER.fullmatch(text):
        whole = int(bare)
    elif _FLOAT.fullmatch(text):
        value = float(bare)
        lost = math.isinf(value) or (value == 0 and re.search("[1-9]", re.split("[eE]", bare)[0]) is not None)
        return None if lost else value
    else:
        return None
    return whole if LEAST <= whole <= MOST else None


def boolean(text: str, *, switch: bool) -> bool | None:
    """true or false; in a switch also yes, no, on, off. None for any other word."""
    if text in _TRUE or (switch and text in YES):
        return True
    return False if text in _FALSE or (switch and text in NO) else None


def meaning(text: str) -> str | int | float | bool:
    """What a word means where anything may stand."""
    for found in (boolean(text, switch=False), number(text)):
        if found is not None:
            return found
    return str(text)


def why_no_number(text: str) -> str:
    """What a person who wrote it for a number should know; empty where there is nothing to say."""
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        return f"; write {text.lstrip('+-0_') or '0'}: a leading 0 could mean base 8"
    if _OLD.fullmatch(text):
        return "; a colon makes no number"
    if re.fullmatch(r"[-+]?\.(inf|nan)", text, re.IGNORECASE):
        return "; it must be finite"
    looks = len(text) > _LONGEST or any(form.fullmatch(text) for form in (_HEXADECIMAL, _INTEGER, _FLOAT))
    return "; no 64-bit number holds it" if looks and number(text) is None else ""


def seconds(value: float | str) -> float:
    """A duration in seconds: a number, or text such as `90 s`, `5 min`, `2 h`, `1 day`. Raises ValueError."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if not match:
            raise ValueError(f"{str(value)!r} is not a duration; write 90, '90 s', '5 min', '2 h' or '1 day'")
        value = float(match[1]) * _UNITS[(match[2] or "s")[0].lower()]
    if not 0 <= value < float("inf"):
        raise ValueError(f"a duration cannot be {value}")
    return float(value)
