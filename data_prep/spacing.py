"""Which blanks stand between tokens, so that text reads as its writer would have spaced it, in any script."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# Unicode's Terminal_Punctuation below U+FFFF, and the percent signs, primes and Hebrew and Armenian marks.
_TERMINAL: Final = (
    r"!,.:;?%°′″\u037e\u055b-\u055f\u0589\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b\u061d-\u061f\u066a-\u066c"
    r"\u0609\u060a\u06d4\u0700-\u070a\u070c\u07f8\u07f9\u0830-\u083e\u085e\u0964\u0965\u0df4\u0e2f\u0e46\u0e5a\u0e5b"
    r"\u0eaf\u0ec6\u0f08\u0f0b-\u0f14\u104a\u104b\u1361-\u1368\u166e\u16eb-\u16ed\u1735\u1736\u17d4-\u17d7\u17da"
    r"\u1802-\u1805\u1808\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5d-\u1b5f\u1c3b-\u1c3f\u1c7e\u1c7f"
    r"\u2026\u2030\u2031\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u3001\u3002\u30fb\ua4fe\ua4ff\ua60d-\ua60f"
    r"\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c7-\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe10-\ufe19\ufe50-\ufe57"
    r"\uff01\uff05\uff0c\uff0e\uff1a\uff1b\uff1f\uff61\uff64"
)
_CLOSING: Final = re.compile(rf"(?:[{_TERMINAL}][\u0300-\u036f]*)+")
_OPENING: Final = re.compile(r"[#@¿¡]+")
_TIGHT: Final = re.compile(r"[/\u200d\u05be\u0f0b]")
#: Full-width marks bring their own room: nothing follows them.
_WIDE_MARK: Final = re.compile(r"[\u3001-\u301f\u30fb\uff01-\uff0f\uff1a-\uff1f\uff3b-\uff3d\uff5b-\uff65]")
_CHINESE_JAPANESE: Final = (
    r"\u3000-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f\uffe0-\uffef\U00020000-\U0003ffff"
)
_IDEOGRAPH: Final = re.compile(rf"[{_CHINESE_JAPANESE}]")
_NO_BLANKS: Final = re.compile(rf"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff{_CHINESE_JAPANESE}]")
#: Marks of Thai, Lao, Khmer and Burmese, which put no blanks between words, that have one behind them.
_BLANK_BEHIND: Final = re.compile(r"[\u0e2f\u0e46\u0e5a\u0e5b\u0eaf\u0ec6\u17d4-\u17d7\u17da\u104a\u104b]")
#: What stands as tight as the words around it: curly and straight quotation marks, dashes, dots.
_NEUTRAL: Final = re.compile(r"[\"“”‘’—…·]+")

_QUOTE: Final = '"'
_APOSTROPHE: Final = "'"
_MIDDLE_DOT: Final = "·"
_LOW: Final = ("„", "‚")
#: Which closing mark an opening one asks for, where that mark opens in other languages: German, Polish, Danish.
_PARTNERS: Final = {"„": "“", "‚": "‘", "»": "«", "›": "‹"}


@dataclass(slots=True)
class Spacing:
    """Decides for one token after another whether a blank goes before it."""

    #: what was written last; empty at the start of a paragraph or sentence
    previous: str = ""
    #: whether the last token wants its successor close by
    glue: bool = True
    #: whether the last word belongs to a script without blanks
    unspaced: bool = False
    #: whether a straight quotation mark is open
    quoted: bool = False
    #: closing marks that the open ones ask for, the innermost last
    awaited: tuple[str, ...] = ()

    def blank_before(self, token: str, sides: tuple[bool, bool] | None = None) -> bool:
        """Whether a blank separates `token` from what came before; remembers the token.

        sides: whether it stands close to what is before and behind it, where its neighbours say so.
        """
        closes, opens = self._sides(token) if sides is None else sides
        neutral = _NEUTRAL.fullmatch(token) is not None
        joined = self.unspaced and (neutral or _NO_BLANKS.match(token) is not None)
        if _BLANK_BEHIND.match(self.previous[-1:]):
            joined = False
        money = unicodedata.category(self.previous[-1:] or " ") == "Sc" and token[0].isdecimal()
        blank = not (self.glue or closes or joined or money)
        self._remember(token, opens=opens, neutral=neutral)
        return blank

    def pause(self, *, paragraph: bool) -> None:
        """A sentence or a whole paragraph ended."""
        self.previous, self.glue = "", True
        if paragraph:
            self.quoted, self.unspaced, self.awaited = False, False, ()

    def _sides(self, token: str) -> tuple[bool, bool]:
        """Whether the token stands close to what is before it, and to what is behind it."""
        if token == _QUOTE:
            self.quoted = not self.quoted
            return not self.quoted, self.quoted
        if self.awaited and token == self.awaited[-1]:
            self.awaited = self.awaited[:-1]
            return True, False
        if self._opens_quotation(token):
            self.awaited = (*self.awaited, _PARTNERS[token])
            return False, True
        if _TIGHT.fullmatch(token):
            return True, True
        return self._by_category(token)

    def _opens_quotation(self, token: str) -> bool:
        # A guillemet that points to the right ends a French quotation, but opens a German one.
        return token in _PARTNERS and (token in _LOW or self.previous in ("", ",", ":"))

    def _by_category(self, token: str) -> tuple[bool, bool]:
        kind = {unicodedata.category(character) for character in token}
        closes = kind <= {"Pe", "Pf"} or _CLOSING.fullmatch(token) is not None or token == _APOSTROPHE
        greek_colon = token == _MIDDLE_DOT and "GREEK" in unicodedata.name(self.previous[-1:] or " ", "")
        opens = kind <= {"Ps", "Pi"} or _OPENING.fullmatch(token) is not None
        return closes or greek_colon, opens or _WIDE_MARK.fullmatch(token) is not None

    def _remember(self, token: str, *, opens: bool, neutral: bool) -> None:
        self.previous, self.glue = token, opens
        if not neutral:
            self.unspaced = _NO_BLANKS.match(token[-1]) is not None


def blank_between_sentences(last: str) -> bool:
    """Whether a blank separates a sentence that ends with the character `last` from the next one."""
    return _IDEOGRAPH.match(last) is None
