"""Named cleaning steps: pure functions on the text of one row or block. `clean_text` runs those that are asked for."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Final

from terry.data_prep.config import Clean

_DELETED = re.compile(r"\s*\[(?:deleted|removed)(?: by (?:user|reddit|moderator))?\]\s*")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]{0,1000})?/?>")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?')\]]", re.IGNORECASE)
_QUOTE_LINE = re.compile(r"^[ \t]{0,3}>(?!!)[^\r\n]*(?:\r\n?|\n)?", re.MULTILINE)
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u00ad\u200b\u2028\u2029\u2060\ufeff\ufffe\uffff]"
)
_ASCII_CONTROL = bytes([*range(9), 11, 12, *range(14, 32), 127])
_TO_BLANK = {"\x0b": "\n", "\x0c": "\n", "\u2028": "\n", "\u2029": "\n"}
_STRAIGHT = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "´": "'", "`": "'"}
)

#: Reddit's markdown, outermost first.
_MARKDOWN: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"^(?:```|~~~).*$", re.MULTILINE), ""),  # fences of code; the code stays
    (re.compile(r"!?\[([^\[\]]{0,2000})\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+\"[^\"\n]*\")?\)"), r"\1"),  # links
    (re.compile(r"^[ \t]{0,3}(?:[-*_][ \t]*){3,}$", re.MULTILINE), ""),  # rules
    (re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE), r"\1"),  # headings
    (re.compile(r"^[ \t]{0,3}(?:>(?!!)[ \t]?)+", re.MULTILINE), ""),  # the mark of a quotation; its text stays
    (re.compile(r"^[ \t]{0,8}[-*+][ \t]+(?=\S)", re.MULTILINE), ""),  # bullets
    (re.compile(r">!(.{0,2000}?)!<"), r"\1"),  # spoilers
    (re.compile(r"(?<![\w*\\])(\*{1,3})(?=\S)([^*\n]{1,2000}?)(?<![\s\\])\1(?![\w*])"), r"\2"),  # *emphasis*
    (re.compile(r"(?<![\w\\])(_{1,3})(?=\S)([^_\n]{1,2000}?)(?<![\s\\])\1(?!\w)"), r"\2"),  # _emphasis_
    (re.compile(r"~~(?=\S)([^~\n]{1,2000}?)(?<=\S)~~"), r"\1"),  # struck out
    (re.compile(r"`+([^`\n]{1,2000}?)`+"), r"\1"),  # code
    (re.compile(r"\^\(([^()\n]{0,2000})\)"), r"\1"),  # superscripts
    (re.compile(r"\^(?=\w)"), ""),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!~>^|])"), r"\1"),  # escapes
)


def _deleted(text: str) -> str:
    return "" if _DELETED.fullmatch(text) else text


def _html_entities(text: str) -> str:
    return html.unescape(text) if "&" in text else text


def _html_tags(text: str) -> str:
    return _TAG.sub(" ", text) if "<" in text else text


def _markdown(text: str) -> str:
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    return text


def _quotes_of_others(text: str) -> str:
    return _QUOTE_LINE.sub("", text) if ">" in text else text


def _urls(text: str) -> str:
    return _URL.sub("URL", text)


def _control(text: str) -> str:
    if text.isascii() and len(text.encode().translate(None, _ASCII_CONTROL)) == len(text):
        return text  # ten times as fast as the pattern
    return _CONTROL.sub(lambda match: _TO_BLANK.get(match[0], ""), text)


def _straight_quotes(text: str) -> str:
    return text if text.isascii() and "`" not in text else text.translate(_STRAIGHT)


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


_STEPS: Final[dict[Clean, Callable[[str], str]]] = {
    Clean.deleted: _deleted,
    Clean.html_entities: _html_entities,
    Clean.html_tags: _html_tags,
    Clean.quotes_of_others: _quotes_of_others,
    Clean.markdown: _markdown,
    Clean.urls: _urls,
    Clean.control: _control,
    Clean.straight_quotes: _straight_quotes,
    Clean.nfc: _nfc,
}


def clean_text(text: str, steps: Collection[Clean]) -> str:
    """`text` after the given steps, which run in a fixed order (entities before the markup they may spell)."""
    for step, function in _STEPS.items():
        if step in steps:
            text = function(text)
    return text
