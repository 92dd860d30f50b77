"""Durable files: modes, publication, and what is left after a failure. The crash matrix is in tests/faults."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import msgspec
import pytest

from terry.cluster.files.durable import (
    Calls,
    fsync_folder,
    granted_mode,
    inherited_mode,
    lift_umask,
    make_folder,
    open_shared,
    opened_log,
    publish_folder,
    remove_temporaries,
    write_bytes,
    write_json,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [1, 2]})
    assert msgspec.json.decode(path.read_bytes()) == {"a": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o700, 0o600), (0o2770, 0o660), (0o755, 0o644)])
def test_files_and_folders_are_as_open_as_the_folder_whatever_the_umask(
    tmp_path: Path, folder_mode: int, file_mode: int
) -> None:
    tmp_path.chmod(folder_mode)
    before = os.umask(0o077)
    try:
        write_bytes(tmp_path / "a", b"")
        make_folder(tmp_path / "b" / "c")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "a") == file_mode == inherited_mode(tmp_path)
    assert _mode(tmp_path / "b" / "c") == folder_mode


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "program_mode"),
    [(0o700, 0o600, 0o700), (0o2770, 0o660, 0o770), (0o2750, 0o640, 0o750)],
)
def test_what_is_published_is_as_open_as_its_place_whatever_the_umask(
    tmp_path: Path, folder_mode: int, file_mode: int, program_mode: int
) -> None:
    tmp_path.chmod(folder_mode)
    before = os.umask(0o077)
    try:
        built = tmp_path / ".built"
        (built / "deep").mkdir(parents=True)
        (built / "deep" / "file").write_text("a")
        (built / "run.sh").write_text("b")
        (built / "run.sh").chmod(0o700)
        (tmp_path / "outside").write_text("not ours to open")
        (built / "link").symlink_to(tmp_path / "outside")
        publish_folder(built, tmp_path / "final")
        os.close(open_shared(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
        opened_log(tmp_path / "log 2").close()
    finally:
        os.umask(before)
    found = {path: _mode(tmp_path / path) for path in ("final", "final/deep", "final/deep/file", "final/run.sh")}
    assert found == {
        "final": folder_mode,
        "final/deep": folder_mode,
        "final/deep/file": file_mode,
        "final/run.sh": program_mode,
    }
    assert _mode(tmp_path / "log") == _mode(tmp_path / "log 2") == file_mode
    assert _mode(tmp_path / "outside") == 0o600, "a link is not followed"


def test_rights_that_are_right_are_not_asked_for_again(tmp_path: Path) -> None:
    """Some file systems refuse every change of rights, those of another user's file among them."""

    class NoChange(Calls):
        def chmod(self, descriptor: int, mode: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

    tmp_path.chmod(0o700)
    (tmp_path / "built").mkdir(mode=0o700)
    os.close(os.open(tmp_path / "built" / "file", os.O_CREAT, 0o600))
    publish_folder(tmp_path / "built", tmp_path / "final", NoChange())
    assert (tmp_path / "final" / "file").is_file()
    assert granted_mode(stat.S_IFREG | 0o644, 0o2770) == 0o660


@pytest.mark.parametrize(("folder_mode", "umask"), [(0o2770, 0o007), (0o2750, 0o027), (0o770, 0o077), (0o700, 0o077)])
def test_a_groups_folder_lifts_the_umask_for_the_group_alone(tmp_path: Path, folder_mode: int, umask: int) -> None:
    tmp_path.chmod(folder_mode)
    before = os.umask(0o077)
    try:
        lift_umask(tmp_path)
    finally:
        found = os.umask(before)
    assert found == umask


def test_a_device_keeps_its_rights() -> None:
    """Output that nobody wants goes to /dev/null, which is everybody's."""

    class NoChange(Calls):
        def chmod(self, descriptor: int, mode: int) -> None:
            raise AssertionError("the rights of a device were changed")

    os.close(open_shared(Path(os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, NoChange()))


def test_a_given_mode_holds(tmp_path: Path) -> None:
    write_bytes(tmp_path / "token", b"secret", mode=0o600)
    assert _mode(tmp_path / "token") == 0o600


def test_a_folder_is_published_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text(name)
    publish_folder(tmp_path / "one", tmp_path / "final")
    with pytest.raises(FileExistsError, match="final"):
        publish_folder(tmp_path / "two", tmp_path / "final")
    assert (tmp_path / "final" / "deep" / "file").read_text() == "one"
    assert (tmp_path / "two").is_dir()


def test_a_file_in_the_way_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "final").write_text("a file")
    with pytest.raises(FileExistsError):
        publish_folder(tmp_path / "folder", tmp_path / "final")


def test_publishing_to_nowhere_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError):
        publish_folder(tmp_path / "folder", tmp_path / "missing" / "final")


def test_make_folder_is_idempotent_and_names_a_file_in_the_way(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        make_folder(tmp_path / "file")


def test_only_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    kept = ["a.tmp", ".hidden", "b.json", ".c.tmp", "folder.tmp"]
    for name in [*kept, ".lease.json.123-0123abcd.tmp"]:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


class _Full(Calls):
    """A file system without room for a single byte."""

    def write(self, descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_with_the_file_that_found_no_room(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, b"text", calls=_Full())
    assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fsync_folder(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "missing" / "a", b"")


class _Recorder(Calls):
    """Writes down the system calls."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self.names.append(f"open {'folder' if flags & os.O_DIRECTORY else 'file'}")
        return super().open(path, flags, mode)

    def fsync(self, descriptor: int) -> None:
        self.names.append("fsync")
        super().fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self.names.append("rename")
        super().rename(source, target)


def test_what_is_renamed_is_on_the_disk_before_and_its_name_after(tmp_path: Path) -> None:
    calls = _Recorder()
    write_bytes(tmp_path / "a", b"data", calls=calls)
    assert calls.names == ["open file", "fsync", "rename", "open folder", "fsync"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    calls = _Recorder()
    publish_folder(tmp_path / "folder", tmp_path / "final", calls)
    assert calls.names == ["open file", "fsync", "open folder", "fsync", "rename", "open folder", "fsync"]


def test_what_may_be_lost_is_not_waited_for(tmp_path: Path) -> None:
    calls = _Recorder()
    write_bytes(tmp_path / "a", b"data", calls=calls, sync=False)
    assert "fsync" not in calls.names
