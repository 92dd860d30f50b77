"""From bytes on disk to text: unpacking, encodings, and a count of what could not be decoded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, cast

from terry.data_prep.errors import DataError

CHUNK: Final = 1 << 20
_BUFFER: Final = 1 << 20


def _gunzip(raw: BinaryIO) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw)


_MAGIC: Final = ((b"\x1f\x8b", _gunzip), (b"1AY&SY", bz2.BZ2File), (b"\xfd7zXZ\x00", lzma.LZMAFile))
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What `detect` answers when nothing better fits: any bytes would fit them.
GUESSES: Final = ("cp1252", "latin-1")
_NOT_CP1252: Final = frozenset(b"\x81\x8d\x8f\x90\x9d")


class _Tally(threading.local):
    """Bytes replaced so far by this thread; a decoder's error handler has no other place to leave the figure."""

    replaced = 0


_TALLY = _Tally()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _TALLY.replaced += error.end - error.start
    return "\ufffd", error.end


codecs.register_error("terry-replace", _replace)


def replaced_bytes() -> int:
    """Bytes that this thread has replaced by U+FFFD since it started."""
    return _TALLY.replaced


def _unpacked(raw: BinaryIO) -> BinaryIO:
    """The bytes inside a file packed by gzip, bzip2 or xz (told by its first bytes, not by its name), or itself."""
    start = raw.read(10)
    raw.seek(0)
    for magic, opener in _MAGIC:
        if start[4 if opener is bz2.BZ2File else 0 :].startswith(magic):
            return cast("BinaryIO", opener(raw))
    return raw


#: First bytes of what people give us and we cannot read.
_FOREIGN: Final = (
    (b"\x28\xb5\x2f\xfd", "is packed by zstd: unpack it first"),
    (b"PK\x03\x04", "is a zip archive or an office document: unpack it, or save it as CSV or text"),
    (b"PAR1", "is a Parquet file: say `format: parquet`, or let its name end in .parquet"),
    (b"ARROW1", "is an Arrow file: say `format: arrow`, or let its name end in .arrow"),
    (b"%PDF", "is a PDF: make it text first (pdftotext does)"),
    (b"\xd0\xcf\x11\xe0", "is an old office document: save it as CSV or text"),
    (b"SQLite format 3", "is a database: export the table as CSV"),
)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=_BUFFER)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def open_unpacked(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The bytes of a file, unpacked if it is packed; and how many bytes on disk have been read.

    A packed file that is cut short raises DataError.
    """
    with _open(path) as raw:
        try:
            yield _unpacked(raw), raw.tell
        except (EOFError, OSError, lzma.LZMAError) as error:
            raise DataError(f"{path} cannot be unpacked: {error}") from None


def chunks(path: Path) -> Iterator[bytes]:
    """The unpacked bytes of a file, piece by piece."""
    with open_unpacked(path) as (file, _):
        while chunk := file.read(CHUNK):
            yield chunk


@contextmanager
def open_text(path: Path, encoding: str, newline: str | None) -> Iterator[tuple[io.TextIOWrapper, Callable[[], int]]]:
    """Decode a file; what cannot be decoded becomes U+FFFD and is counted (`replaced_bytes`).

    Gives the text, and a function that tells how many bytes of the file on disk have been read.
    """
    with _open(path) as raw:
        yield io.TextIOWrapper(_unpacked(raw), encoding=encoding, errors="terry-replace", newline=newline), raw.tell


def head_of(path: Path, encoding: str, size: int) -> str:
    """The first `size` characters of a file, to look at: what cannot be decoded is replaced but not counted."""
    with _open(path) as raw, io.TextIOWrapper(_unpacked(raw), encoding=encoding, errors="replace", newline="") as text:
        return text.read(size)


#: Control characters that have no place in text; zero bytes and escapes do occur, a few of them.
_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\v\f\r") + b"\x7f"


def detect(path: Path) -> str:
    """The encoding of a file, by all of its bytes: a byte-order mark; UTF-16 by its zeros; UTF-8 if that fits.

    Raises DataError for a binary file. Where UTF-8 does not fit, a file with more good multi-byte characters than bad
    bytes is UTF-8 with stray bytes; else it is cp1252, or latin-1 if it has bytes that cp1252 lacks.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return _detect(path, (found.st_size, found.st_mtime_ns, found.st_ino))


@lru_cache(maxsize=1024)
def _detect(path: Path, _state: tuple[int, ...]) -> str:
    """The encoding of a file in a state, so that a file is looked at once."""
    good = bad = 0
    seen: set[int] = set()
    rest = b""
    for i, chunk in enumerate(chunks(path)):
        if i == 0 and (found := _by_first_bytes(chunk, path)) is not None:
            return found
        data = rest + chunk
        try:
            text, used = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            text, used = codecs.utf_8_decode(data, "surrogateescape", False)
            stray = [ord(c) - 0xDC00 for c in text if "\udc80" <= c <= "\udcff"]
            bad += len(stray)
            seen.update(_NOT_CP1252.intersection(data[:used]))
        good += used - len(text)
        rest = data[used:]
    bad += len(rest)
    if bad == 0 or good >= bad:
        return "utf-8"
    return "latin-1" if seen or _NOT_CP1252.intersection(rest) else "cp1252"


def given(path: Path, encoding: str) -> str:
    """An encoding that somebody gave; the form of it that skips a byte-order mark where the file begins with one."""
    with open_unpacked(path) as (file, _):
        marked = _by_mark(file.read(4))
    family = codecs.lookup(encoding).name.replace("_", "-")[:6]  # utf-8, utf-16, utf-32
    return marked if marked is not None and marked.startswith(family) else encoding


def _by_mark(start: bytes) -> str | None:
    return next((name for mark, name in _BOMS if start.startswith(mark)), None)


def _by_first_bytes(start: bytes, path: Path) -> str | None:
    """UTF with a mark, or UTF-16 without one; None where all bytes must be seen. Raises DataError for a binary file."""
    if (marked := _by_mark(start)) is not None:
        return marked
    for magic, what in _FOREIGN:
        if start.startswith(magic):
            raise DataError(f"{path} {what}")
    sample = start[: 1 << 16]
    if (latin := _utf16_of_latin(sample)) is not None:
        return latin
    strange = len(sample) - len(sample.translate(None, _CONTROLS))
    binary = strange > max(8, len(sample) // 50)
    if (binary or not _is_utf8(sample)) and (found := _utf16_of_any_script(sample)) is not None:
        return found
    if binary:
        raise DataError(
            f"{path} is not text: {strange:,} of its first {len(sample):,} bytes are control characters "
            "(if it is, say in which `encoding`)"
        )
    return None


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.utf_8_decode(sample, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_of_latin(sample: bytes) -> str | None:
    """Every other byte of such a text is zero."""
    half = len(sample) // 2
    if half < 2:
        return None
    even, odd = sample[0::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.3 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.3 and odd < 0.05 else None


def _utf16_of_any_script(sample: bytes) -> str | None:
    """UTF-16 is what decodes, has a blank or line break now and then, and no characters that do not exist."""
    for name, decode in (("utf-16-le", codecs.utf_16_le_decode), ("utf-16-be", codecs.utf_16_be_decode)):
        try:
            text, _ = decode(sample, "strict", False)
        except UnicodeDecodeError:
            continue
        characters = Counter(text)
        blanks = sum(characters.pop(blank, 0) for blank in " \t\r\n")
        strange = sum(n for c, n in characters.items() if unicodedata.category(c) in {"Cc", "Cn", "Co"})
        if blanks * 500 > len(text) and strange * 500 <= len(text):
            return name
    return None
