"""How tokens stand that only their neighbours explain: straight single quotation marks, asterisks, dashes, addresses.

The answer for a token is whether it stands close to what is before it, and to what is behind it. Rules of thumb, for
English above all; `benchmarks/data_prep.py --letter` measures how many real paragraphs come back to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.entities import html5
from typing import Final

#: Close before, close behind.
Sides = tuple[bool, bool]

_MARK: Final = "'"
_OPENS: Final[Sides] = (False, True)
_CLOSES: Final[Sides] = (True, False)
_TIGHT: Final[Sides] = (True, True)

_WORD: Final = re.compile(r"\w[\w'’-]*")
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f][\w'’-]*")
_ABBREVIATION: Final = re.compile(r"(?:[A-Za-z]\.){2,}")
_LETTERED: Final = re.compile(r"[A-Za-z]\d{1,3}")
_THOUSANDS: Final = re.compile(r"\d{3}(?:,\d{3})*")
_STARS: Final = re.compile(r"\*+")
_ENDS: Final = frozenset({".", ",", "!", "?", ";", ":", "...", "…", "--", "—", "-", ")"})
#: What drops its beginning, so that an apostrophe stands before it, and what drops its end.
_CLIPPED: Final = frozenset(
    [
        *[
            "tis",
            "twas",
            "twere",
            "twill",
            "twould",
            "tween",
            "twixt",
            "scape",
            "scaped",
            "s",
            "em",
            "n",
            "til",
            "till",
            "cause",
            "bout",
            "round",
            "neath",
        ],
        *[
            "gainst",
            "tother",
            "un",
            "zounds",
            "sblood",
            "sdeath",
            "t",
            "scuse",
            "nother",
            "stead",
            "mong",
            "fore",
            "way",
        ],
    ]
)
#: Those of them that are words as they stand: `the rivals' way`.
_ALSO_WHOLE: Final = frozenset(["way", "round", "fore", "till", "cause", "stead"])
_CUT_SHORT: Final = frozenset(["o", "i", "th", "t", "wi", "ha", "a", "an", "ol", "d", "ye", "po", "mo", "tho", "thro"])
#: What a reference to a footnote stands behind.
_MARKED: Final = frozenset({".", ",", ";", ":", "!", "?", '"', "”", "’", ")"})
#: So far an asterisk looks for its partner.
_REACH: Final = 60


def sides_of(tokens: Sequence[str]) -> dict[int, Sides]:
    """How the tokens of one paragraph stand that need a look at others, by their place."""
    found: dict[int, Sides] = {}
    if _MARK in tokens:
        _quotation_marks(tokens, found)
    for i, token in enumerate(tokens):
        if i in found:
            continue
        if token in _LOOK:
            _LOOK[token](tokens, i, found)
        elif _STARS.fullmatch(token):
            _emphasis(tokens, i, found)
        elif token in ("^", "~") and _is_word(tokens, i + 1):
            found[i] = _OPENS
        elif tokens[i : i + 2] == ["+", "+"] and _single_letter(tokens, i - 1):
            found[i], found[i + 1] = _TIGHT, _CLOSES
    return found


def _at(tokens: Sequence[str], i: int) -> str:
    return tokens[i] if 0 <= i < len(tokens) else ""


def _is_word(tokens: Sequence[str], i: int) -> bool:
    return _WORD.fullmatch(_at(tokens, i)) is not None


def _single_letter(tokens: Sequence[str], i: int) -> bool:
    token = _at(tokens, i)
    return len(token) == 1 and token.isalpha()


def _quotation_marks(tokens: Sequence[str], found: dict[int, Sides]) -> None:
    """Straight single marks: those before a clipped word, those that open, and those that close or end a word."""
    is_open = False
    for i in [i for i, token in enumerate(tokens) if token == _MARK]:
        before, behind = _at(tokens, i - 1), _at(tokens, i + 1)
        if _ABBREVIATION.fullmatch(before) and behind == "s":
            found[i] = _TIGHT  # the U.S.'s
        elif before.lower() in ("nor", "sou") and behind.lower() in ("west", "east"):
            found[i] = _CLOSES
        elif _is_clipped(before, behind, is_open=is_open):
            found[i] = _OPENS
            if behind.lower() == "n" and _at(tokens, i + 2) == _MARK:
                found[i + 2] = _CLOSES
        elif i in found:
            continue
        elif behind == "-" and _is_word(tokens, i - 1) and _is_word(tokens, i + 2):
            found[i], found[i + 1] = _TIGHT, _TIGHT  # nor'-west
        elif _WORD.fullmatch(behind) and (before.lower() in _CUT_SHORT or before.lower().endswith("in")):
            found[i] = _CLOSES
        elif is_open and not (_WORD.fullmatch(before) and _more_behind(tokens, i)):
            found[i], is_open = _CLOSES, False
        elif not is_open and behind and _opens_here(tokens, i):
            found[i], is_open = _OPENS, True
        else:
            found[i] = _CLOSES if is_open or not _clips(before, behind) else _OPENS


def _clips(before: str, behind: str) -> bool:
    """Whether a mark between two words drops the beginning of the second: they would be one token without a blank."""
    return bool(_WORD.fullmatch(before) and _WORD.fullmatch(behind)) and not before.lower().endswith("s")


def _is_clipped(before: str, behind: str, *, is_open: bool) -> bool:
    """Whether the word behind a mark has lost its beginning, or the digits of its century: `'tis`, `'90s`.

    In an open quotation only where it would be no word otherwise: `way` may also stand behind the mark that closes.
    """
    word = behind.lower()
    if word in _CLIPPED - _ALSO_WHOLE and _WORD.fullmatch(before):
        return True
    plural = word in _ALSO_WHOLE and before.lower().endswith("s")  # the rivals' way
    return not is_open and not plural and (word in _CLIPPED or (word[:1].isdigit() and word.endswith("s")))


def _more_behind(tokens: Sequence[str], i: int) -> bool:
    """Whether the mark behind a word is that of `the boys'`, as a later one closes the quotation."""
    if not tokens[i - 1].endswith("s") or not _is_word(tokens, i + 1):
        return False
    later = next((k for k in range(i + 1, len(tokens)) if tokens[k] == _MARK), None)
    return later is not None and tokens[later - 1] in _ENDS


def _opens_here(tokens: Sequence[str], i: int) -> bool:
    before = _at(tokens, i - 1)
    if not _WORD.fullmatch(before):
        return before not in (".", "!", "?") or _MARK in tokens[i + 1 :]
    later = next((k for k in range(i + 1, len(tokens)) if tokens[k] == _MARK), None)
    return later is not None and not (before.endswith("s") and _WORD.fullmatch(tokens[later - 1]) is not None)


def _dash(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """A long dash stands close in Latin script, as English prints it; Cyrillic and others put blanks around it."""
    before, behind = _at(tokens, i - 1), _at(tokens, i + 1)
    words = [token for token in (before, behind) if token[:1].isalpha()]
    if all(_LATIN.match(word) for word in words):
        found[i] = _TIGHT


def _address(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """An address of electronic mail: `name.name@host.org`."""
    end = i + 1
    while _is_word(tokens, end) and _at(tokens, end + 1) == "." and _is_word(tokens, end + 2):
        end += 2
    if end > i + 1 and _is_word(tokens, i - 1) and _at(tokens, end).islower():
        for k in range(i, end, 2):
            found[k] = _TIGHT
        begin = i - 1
        while _at(tokens, begin - 1) in (".", "+", "-", "_") and _is_word(tokens, begin - 2):
            found[begin - 1] = _TIGHT
            begin -= 2


def _entity(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """What HTML calls a character reference: `&amp;`, `&#128514;`."""
    numeric = _at(tokens, i + 1) == "#"
    named = _at(tokens, i + 1) + ";" in html5
    if (named or (numeric and _is_word(tokens, i + 2))) and _at(tokens, i + 2 + numeric) == ";":
        found[i] = _OPENS
        if numeric:
            found[i + 1] = _TIGHT


def _bracket(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """A bracket that stands close to what it belongs to: `501(c)(3)`, `f(x)`, `word(s)`."""
    before, inside = _at(tokens, i - 1), _at(tokens, i + 1)
    if _at(tokens, i + 2) != ")" or not _WORD.fullmatch(inside):
        return
    section = (before[:1].isdigit() or (before == ")" and i - 3 in found)) and len(inside) == 1
    if section or (_single_letter(tokens, i - 1) and len(inside) == 1) or (before.isalpha() and inside in ("s", "es")):
        found[i] = _TIGHT


def _emphasis(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """Asterisks in pairs around words; between two numbers they multiply."""
    if _at(tokens, i - 1)[:1].isdigit() and _at(tokens, i + 1)[:1].isdigit():
        return
    partner = next((k for k in range(i + 2, min(i + _REACH, len(tokens))) if tokens[k] == tokens[i]), None)
    before = _at(tokens, i - 1)
    if i == 0 and tokens[i] == "*" and (partner is None or tokens[partner - 1] in _MARKED):
        found[i] = _OPENS  # a footnote
    elif before in _MARKED and _is_footnote(tokens, i):
        found[i] = _CLOSES
    elif partner is not None:
        found[i], found[partner] = _OPENS, _CLOSES


def _is_footnote(tokens: Sequence[str], i: int) -> bool:
    """Whether an asterisk behind a mark leads to a footnote: no other one follows that could close what it opens."""
    return tokens[i] == "*" and all(k in (i, 0) or tokens[k - 1] in _MARKED for k in _places(tokens, "*"))


def _places(tokens: Sequence[str], token: str) -> list[int]:
    return [i for i, each in enumerate(tokens) if each == token]


def _comma(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """A comma inside a number that begins with a letter, as `L1,000,000` for pounds."""
    if _LETTERED.fullmatch(_at(tokens, i - 1)) and _THOUSANDS.fullmatch(_at(tokens, i + 1)):
        found[i] = _TIGHT


def _hyphen(tokens: Sequence[str], i: int, found: dict[int, Sides]) -> None:
    """A hyphen behind an abbreviation: `U.S.-Soviet`. Between other words it would be part of their token."""
    if _ABBREVIATION.fullmatch(_at(tokens, i - 1)) and _is_word(tokens, i + 1):
        found[i] = _TIGHT


_LOOK: Final = {",": _comma, "-": _hyphen, "—": _dash, "--": _dash, "@": _address, "&": _entity, "(": _bracket}
