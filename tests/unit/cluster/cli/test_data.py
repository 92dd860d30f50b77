"""`prepare` and `datasets`: what a person sees of data preparation."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect
import pytest

from tests.unit.cluster.conftest import Terry

ROWS = 'id,body\n1,"The cat sat. The dog ran!"\n2,A cat?\n3,[deleted]\n4,"Cut sho'
ALL = ("split.train=1", "split.valid=0", "split.test=0")


@pytest.fixture
def comments(tmp_path: Path) -> str:
    (tmp_path / "comments.csv").write_text(ROWS)
    return "comments.csv"


def test_a_file_by_hand(terry: Terry, tmp_path: Path, comments: str) -> None:
    said = terry("prepare", comments, *ALL)
    assert said.code == 0, said.err
    assert said.err.splitlines() == [f"comments: {p}" for p in ("hashing", "reading", "counting", "writing")]
    for words in (
        "utf-8, csv, delimiter ',', quote \", column body: 4 rows, 1 of them ragged, 0 bytes replaced",
        "Kept of 2 stories, split by order; left out: 1 without text",
        "train 3 14 100.00%",
        "Lengths: half up to 4, mean 3.7, longest 4",
        "most frequent  'cat' 2  'the' 2  '!' 1",
        "The cat sat. The dog ran!  the cat sat. the dog ran!",
        "1 of 4 rows did not fit and were left out; the first: line 5: a quotation mark is opened",
        "Made now:",
    ):
        assert " ".join(words.split()) in " ".join(said.out.split()), words
    assert "split is empty" not in said.out  # it was asked for
    folder = Path(said.out.split("Made now:")[1].strip())
    assert folder.parent == tmp_path / "runs" / "datasets"
    again = terry("prepare", comments, *ALL)
    assert "nothing was done" in again.out
    assert str(folder) in again.out


def test_a_marked_file_with_its_encoding_given(terry: Terry, tmp_path: Path) -> None:
    (tmp_path / "marked.csv").write_bytes(ROWS.replace("body", "text").encode("utf-8-sig"))
    said = terry("prepare", "marked.csv", "encoding=utf-8", "column=id", *ALL)
    assert said.code == 0, said.err
    assert "utf-8-sig, csv" in said.out


def test_listing(terry: Terry, tmp_path: Path, comments: str) -> None:
    assert terry("prepare", comments, "--name", "first", *ALL).code == 0
    made = terry("prepare", comments, "--name=second", "level=character", "unit=story", *ALL, "--json").json
    assert made[0]["built"] is True
    assert made[0]["report"]["files"][0]["ragged"] == 1
    listed = terry("datasets", "--json").json
    assert [entry["name"] for entry in listed] == ["first", "second"]
    assert listed[1]["folder"] == made[0]["folder"]
    assert [entry["level"] for entry in listed] == ["word", "character"]
    table = terry("datasets").out.splitlines()
    assert table[0].split() == ["DATA", "SET", "UNIT", "VOCABULARY", "COVERAGE", "EXAMPLES", "TOKENS", "SIZE"]
    assert table[1].split()[1:7] == ["sentence,", "word", "13", "100.0%", "3", "14"]
    (tmp_path / "runs" / "datasets" / ".building-x").mkdir()
    (Path(listed[0]["folder"]) / "vocabulary.json").write_text("{}")
    said = terry("datasets", "--json")
    assert [entry["name"] for entry in said.json] == ["second"]
    assert re.search(r"left out: .*first-\w+ is damaged: vocabulary\.json has 2 bytes, not \d+; move", said.err)
    assert "building" not in said.err


def test_of_a_sweep_file(terry: Terry, tmp_path: Path, comments: str) -> None:
    split = "split: {train: 1, valid: 0, test: 0}"
    text = f"name: x\nrun: {{data: {{dataset: a}}}}\ndatasets:\n  a: {{source: {comments}, {split}}}\n"
    text += f"  b: {{source: {comments}, vocabulary_from: a, unit: story, {split}}}\n"
    (tmp_path / "sweep.yaml").write_text(text)
    said = terry("prepare", "sweep.yaml", "b", "--json")
    assert said.code == 0, said.err
    named = said.json
    assert [document["report"]["vocabulary_size"] for document in named] == [13]
    both = terry("prepare", "sweep.yaml", "--json").json
    assert [document["built"] for document in both] == [False, False]
    assert "there is no data set 'c' in it; there are: a, b" in terry("prepare", "sweep.yaml", "c").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.csv"], "'gone.csv': there is no such file"),
        (["comments.csv", "colum=x"], "colum: unknown key; did you mean 'column'?"),
        (["comments.csv", "column=bdy"], "has no column 'bdy'; did you mean 'body'?"),
        (["comments.csv", "unit=stroy"], "unit: unknown value 'stroy'; did you mean 'story'?"),
        (["comments.csv", "level=octet"], "unknown value 'octet'; valid here: word, character"),
        (["comments.csv", "clean=[nfx]"], "clean[0]: unknown value 'nfx'; did you mean 'nfc'?"),
        (["comments.csv", "split.train=2"], "split must be shares that add up to 1"),
        (["comments.csv", "ragged=refuse"], "comments.csv:5: a quotation mark is opened in this row and never closed"),
        (["comments.csv", "vocabulary_from=nothing"], "no data set is called 'nothing'"),
        (["comments.csv", "--name=../up"], "../up"),
        (["level=word"], "no file is given"),
        (["picture.txt"], "is not text"),
    ],
)
def test_mistakes_are_one_line(terry: Terry, tmp_path: Path, comments: str, arguments: list[str], words: str) -> None:
    (tmp_path / "picture.txt").write_bytes(bytes(range(256)))
    said = terry("prepare", *arguments)
    assert said.code == 2, (comments, said)
    assert words in said.err.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("datasets/*"))


def test_text_cannot_steer_the_terminal(terry: Terry, tmp_path: Path) -> None:
    name = "odd\x1b[1mname.csv"
    (tmp_path / name).write_text('\x1b[2Jbody\n"\x1b]0;title\x07 words \u202eback"\n\x9b31m red\n')
    said = terry("prepare", name, "--name=odd", "clean=[]", *ALL)
    assert said.code == 0, said.err
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said.out)
    assert "\\x1b]0;title\\x07 words \\u202eback" in said.out


def test_a_progress_bar_on_a_terminal_and_an_interrupt(tmp_path: Path) -> None:
    """Interrupted by the terminal's key as soon as reading is seen: nothing is left, and the exit code says so."""
    (tmp_path / "long.txt").write_text("Some words in a row, and some more. " * 400_000)
    environment = {**os.environ, "TERRY_WORKSPACE": str(tmp_path / "runs"), "TERM": "xterm", "COLUMNS": "100"}
    arguments = ["-m", "terry.cluster.cli.main", "prepare", "long.txt"]
    child = pexpect.spawn(sys.executable, arguments, env=environment, cwd=str(tmp_path), timeout=60, encoding="utf-8")
    child.expect(r"long: reading.*\d+%")
    child.sendintr()
    child.expect("interrupted: nothing of long is kept")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert list((tmp_path / "runs" / "datasets").iterdir()) == []


def test_names_with_line_breaks_are_columns_like_others(terry: Terry, tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text('"the\nid",body\n1,One word.\n2,Two words.\n')
    assert terry("prepare", "wide.csv", "column=body", "split={train: 1, valid: 0, test: 0}").code == 0
    refused = terry("prepare", "wide.csv", "column=bdy")
    assert refused.code == 2
    assert refused.err.splitlines()[-1].endswith("has no column 'bdy'; it has 'the\\nid', 'body'")
