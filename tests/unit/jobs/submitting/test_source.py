"""What is copied of a user's code at submission, and what is not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.jobs.submitting import source
from terry.jobs.submitting.source import find, notices


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    write(tmp_path, **{"lab/__init__.py": "", "lab/run.py": "def main(ctx): ...\n"})
    return tmp_path / "lab"


def copied(root: Path, entrypoint: str = "lab.run:main") -> set[str]:
    return {str(file.name) for file in find(entrypoint, [root]).files}


def test_small_files_go_with_their_package(tmp_path: Path, lab: Path) -> None:
    write(lab, **{"words/stop.txt": "the", "config.yaml": "a: 1", "deep/er/cell.py": ""})
    assert copied(tmp_path) == {
        "lab/__init__.py",
        "lab/config.yaml",
        "lab/deep/er/cell.py",
        "lab/run.py",
        "lab/words/stop.txt",
    }


def test_nothing_secret_foreign_or_huge_is_copied_and_what_may_be_missed_is_named(tmp_path: Path, lab: Path) -> None:
    before = copied(tmp_path)
    write(
        lab,
        **{
            ".env": "KEY=1",
            ".git/config": "x",
            ".git/hooks/run.py": "x",
            ".venv/lib/python3.11/site-packages/torch.py": "x",
            "venv/pyvenv.cfg": "x",
            "venv/lib/thing.py": "x",
            "__pycache__/run.cpython-311.pyc": "x",
            "node_modules/a/b.py": "x",
            "terry-runs/queue/journal/1.jsonl": "x",
            "terry-runs/runs/lab-0001/source/lab.py": "x",
            "credentials.json": "x",
            "server.pem": "x",
            "id_rsa": "x",
            "data/a.bin": b"0" * 600_000,
            "data/b/c.bin": b"0" * 600_000,
            "weights.bin": b"0" * 1_100_000,
        },
    )
    (lab / "harmless.txt").symlink_to(lab / "id_rsa")
    found = find("lab.run:main", [tmp_path])
    assert {str(file.name) for file in found.files} == before
    (notice,) = notices([found])
    for name in ("credentials.json", "server.pem", "lab/harmless.txt", "id_rsa"):
        assert any(name in text and "secret" in text for text in found.left_out), found.left_out
    assert "lab/weights.bin (1.1 MB)" in found.left_out
    assert "lab/data (1.2 MB in 2 files, no code)" in found.left_out
    assert notice.startswith("not copied with your code: lab/credentials.json (its name looks like a secret's)")
    assert notice.endswith(" and 1 more; a run that needs it must open it where it is")


def test_code_of_a_telling_name_is_code(tmp_path: Path, lab: Path) -> None:
    write(lab, **{"secrets.py": "x = 1", "tokens.txt": "a b c"})
    assert copied(tmp_path) >= {"lab/secrets.py", "lab/tokens.txt"}


def test_too_much_is_refused_with_what_is_largest(tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_LIMIT_BYTES", 1000)
    write(lab, **{"table.py": "x = 1\n" * 400})
    with pytest.raises(UserError, match=r"too large to be copied: .*the largest are lab/table.py \(0.0 MB\)"):
        find("lab.run:main", [tmp_path])
    monkeypatch.setattr(source, "_LIMIT_BYTES", 10_000_000)
    monkeypatch.setattr(source, "_LIMIT_FILES", 2)
    with pytest.raises(UserError, match=r"in 3 files, and at most 10 MB in 2 are"):
        find("lab.run:main", [tmp_path])


def test_a_folder_of_data_called_like_an_installed_package_is_not_taken_for_it(tmp_path: Path, lab: Path) -> None:
    write(lab, **{"run.py": "import numpy\ndef main(ctx): ...\n"})
    write(tmp_path, **{"numpy/table.csv": "1"})
    assert copied(tmp_path) == {"lab/__init__.py", "lab/run.py"}


def test_what_is_installed_for_good_is_not_copied_and_what_can_be_edited_is(
    tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, **{"elsewhere/tools_of_ours/__init__.py": "import numpy", "elsewhere/lone_of_ours.py": ""})
    write(lab, **{"run.py": "import json, torch, lone_of_ours, tools_of_ours.x\ndef main(ctx): ...\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    assert copied(tmp_path) == {"lab/__init__.py", "lab/run.py", "lone_of_ours.py", "tools_of_ours/__init__.py"}
    assert copied(tmp_path / "nowhere", "msgspec.json:encode") == set()
    write(tmp_path, **{"elsewhere/lone_of_ours.py": "def main(ctx): ...\n"})
    assert copied(tmp_path / "nowhere", "lone_of_ours:main") == {"lone_of_ours.py"}


def test_code_that_changes_while_it_is_submitted_is_refused(tmp_path: Path, lab: Path) -> None:
    found = find("lab.run:main", [tmp_path])
    (lab / "run.py").write_text("def main(ctx): print()\n")
    with pytest.raises(UserError, match="changed while it was being submitted"):
        found.copy(tmp_path / "copy")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("async def main(ctx): ...", "async def"),
        ("def main(ctx):\n    yield 1", "generator"),
        ("def main(): ...", "takes no argument"),
        ("def main(ctx, more): ...", "more than one argument"),
        ("def main(ctx, *, rate): ...", "more than one argument"),
        ("def other():\n    def main(ctx): ...", "no function or class 'main'"),
    ],
)
def test_what_cannot_be_an_entry_point_is_found_at_submission(tmp_path: Path, code: str, message: str) -> None:
    write(tmp_path, **{"lab.py": code})
    with pytest.raises(UserError, match=message):
        find("lab:main", [tmp_path])


@pytest.mark.parametrize(
    "code",
    [
        "def main(*args): ...",
        "def main(ctx, rate=1, *, more=2): ...",
        "def main(ctx):\n    def inner():\n        yield 1\n    list(inner())",
        "try:\n    from elsewhere import main\nexcept ImportError:\n    def main(ctx): ...",
        "if True:\n    def main(ctx): ...",
        "class main:\n    def __init__(self, ctx): ...",
        "main = lambda ctx: None",
        "main: object = print",
        "import functools\n@functools.cache\ndef main(): ...",
    ],
)
def test_what_may_be_an_entry_point_is_let_through(tmp_path: Path, code: str) -> None:
    write(tmp_path, **{"lab.py": code})
    assert find("lab:main", [tmp_path]).files


def test_whatever_lies_among_the_code_is_copied_or_named(tmp_path: Path, lab: Path) -> None:
    write(lab, **{"old.py": "print 'python 2'", "deep.py": "(" * 5000, "notes.txt": "x", "escape.py": "x = '\\d'"})
    os.mkfifo(lab / "pipe.py")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(lab / "sock.py"))
    listener.close()
    (lab / "gone.py").symlink_to("nowhere.py")
    Path(os.fsdecode(os.fsencode(lab) + b"/odd-\xff.txt")).write_text("x")
    found = find("lab.run:main", [tmp_path])
    names = {str(file.name) for file in found.files}
    assert {"lab/old.py", "lab/deep.py", "lab/notes.txt", "lab/escape.py", "lab/odd-\udcff.txt"} <= names
    assert set(found.left_out) == {"lab/pipe.py (no file, but a pipe)", "lab/sock.py (no file, but a socket)"}
    found.copy(tmp_path / "copy")
    assert len(find("lab.run:main", [tmp_path / "copy"]).files) == len(found.files)
    assert "pipe" in notices([found])[0]


@pytest.mark.parametrize(
    ("code", "light"),
    [
        ("import numpy\n\ndef main(ctx):\n    ctx.log(1, loss=0.5)\n", True),
        ("import importlib\n\ndef main(ctx):\n    importlib.import_module('torch')\n", False),
        ("from transformers import Trainer\n\ndef main(ctx): ...\n", False),
        ("def main(ctx):\n    ctx.save_checkpoint(1, {})\n", False),
    ],
)
def test_code_that_says_nothing_of_torch_is_light(tmp_path: Path, code: str, light: bool) -> None:
    write(tmp_path, **{"train.py": code})
    assert find("train:main", [tmp_path]).light is light
