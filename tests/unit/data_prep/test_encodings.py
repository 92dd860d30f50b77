"""Encodings: found by all of a file's bytes, and what does not fit is counted."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep import encodings
from terry.data_prep.encodings import detect, open_text, replaced_bytes
from terry.data_prep.errors import DataError

GREEK = "Καλημέρα κόσμε, naïve café 😀\n"


def saved(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "utf-8"),
        (b"plain ascii", "utf-8"),
        (GREEK.encode(), "utf-8"),
        (GREEK.encode("utf-8-sig"), "utf-8-sig"),
        (GREEK.encode("utf-16"), "utf-16"),
        (("\ufeff" + GREEK).encode("utf-16-be"), "utf-16"),
        (GREEK.encode("utf-32"), "utf-32"),
        ("Plain words without a mark".encode("utf-16-le"), "utf-16-le"),
        ("Plain words without a mark".encode("utf-16-be"), "utf-16-be"),
        ("“Curly” café – naïve".encode("cp1252"), "cp1252"),
        ("café\x81 naïve".encode("latin-1"), "latin-1"),
        (GREEK.encode() * 20 + b"stray \xe9 byte", "utf-8"),
        (b"ends within a character \xc3", "cp1252"),
        ((GREEK * 20).encode("utf-16-le"), "utf-16-le"),
        ((GREEK * 20).encode("utf-16-be"), "utf-16-be"),
        (("你好，世界。我们走吧！\n" * 20).encode("utf-16-le"), "utf-16-le"),
        (("你好，世界。我们走吧！\n" * 20).encode("utf-16-be"), "utf-16-be"),
        (b"plain text with \0 a zero \0\0 or three", "utf-8"),
        ("café naïve \0 with a zero now and then among plain words ".encode("cp1252") * 20, "cp1252"),
    ],
)
def test_detect(tmp_path: Path, content: bytes, name: str) -> None:
    assert detect(saved(tmp_path, content)) == name


def test_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file\.txt is not text: .* say in which `encoding`"):
        detect(saved(tmp_path, bytes(range(256)) * 20))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "words")
    for content, words in ((archive.getvalue(), "zip archive"), (b"\x28\xb5\x2f\xfd words", "packed by zstd: unpack")):
        with pytest.raises(DataError, match=rf"file\.txt is .*{words}"):
            detect(saved(tmp_path, content))


def test_bytes_far_into_the_file_count(tmp_path: Path) -> None:
    content = b"plain line\n" * 200_000 + "café".encode("cp1252")
    assert len(content) > 2 * encodings.CHUNK
    assert detect(saved(tmp_path, content)) == "cp1252"


def test_replaced_bytes_are_counted_one_by_one(tmp_path: Path) -> None:
    path = saved(tmp_path, "a\ufffdb".encode() + b"\xff\xfe\xe2\x82c\xe9")
    before = replaced_bytes()
    with open_text(path, "utf-8", newline="") as (file, tell):
        text = file.read()
        assert tell() == path.stat().st_size
    assert text == "a\ufffdb\ufffd\ufffd\ufffdc\ufffd"
    assert replaced_bytes() - before == 5  # two of them make one replacement; a real U+FFFD is none


@settings(deadline=None)  # files on a busy machine take their time
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = saved(tmp_path_factory.mktemp("bytes"), content)
    if content.startswith((b"\x1f\x8b", b"\xfd7zXZ\x00")):
        return  # a packed file cut short is refused, see test_readers
    try:
        encoding = detect(path)
    except DataError as error:
        assert "file.txt is " in str(error)  # noqa: PT017  that it is raised at all is up to the bytes
        encoding = "utf-8"
    with open_text(path, encoding, newline=None) as (file, _):
        file.read()


def test_text_that_begins_like_bzip2(tmp_path: Path) -> None:
    with open_text(saved(tmp_path, b"BZh is an abbreviation"), "utf-8", newline=None) as (file, _):
        assert file.read() == "BZh is an abbreviation"


@settings(deadline=None)  # files on a busy machine take their time
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe"), max_size=200),
    st.integers(1, 5),
)
def test_good_utf8_is_utf8_however_it_is_cut(tmp_path_factory: pytest.TempPathFactory, text: str, chunk: int) -> None:
    path = saved(tmp_path_factory.mktemp("good"), text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodings, "CHUNK", chunk)
        assert detect(path) == "utf-8"
