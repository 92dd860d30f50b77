"""`import`: what it prints, writes and refuses."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cluster.conftest import Terry

SWEEP = "program: a.py\nmethod: grid\nparameters: {lr: {values: [1, 2]}}\nproject: p\n"


def test_it_prints_or_writes_a_sweep_file_and_says_what_is_missing(terry: Terry, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SWEEP)
    printed = terry("import", "w.yaml")
    assert printed.code == 0
    assert "# - project: " in printed.out
    written = terry("import", "w.yaml", "-o", "s.yaml")
    assert written.code == 0
    assert "not carried over: project" in written.err
    assert (tmp_path / "s.yaml").read_text() == printed.out
    assert terry("--json", "import", "w.yaml").json["sweep"]["sweep"] == {"grid": {"parameters.lr": [1, 2]}}
    assert terry("submit", "s.yaml", "--dry-run").code == 0


def test_it_overwrites_nothing_and_refuses_what_it_does_not_know(terry: Terry, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(SWEEP)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert terry("import", "w.yaml", "-o", "mine.yaml").code == 2
    assert (tmp_path / "mine.yaml").read_text() == "name: mine\n"
    for name, said in (("mine.yaml", "none of the files"), ("bytes", "no text"), (".", "a folder"), ("no", "no such")):
        answer = terry("import", name)
        assert (answer.code, said in answer.err) == (2, True), answer.err
