"""The journal: what is appended is read again, what is torn is cut off, what is damaged is named."""

from __future__ import annotations

import errno
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.core import events as e
from terry.cluster.core.events import BadLine, Event, UnknownLine, decode_line, encode_line, read_line
from terry.cluster.core.model import AttemptEnd, EndReason
from terry.cluster.errors import JournalDamaged, WorkspaceNewer
from terry.cluster.files.durable import Calls
from terry.cluster.files.journal import Journal, read, segments
from tests.helpers.queue_values import NoSync, at, make_cpu, make_job


def _events(count: int, first: int = 0) -> list[Event]:
    return [e.Released(time=at(i), job_id=f"s-{i}") for i in range(first, first + count)]


def _write(folder: Path, *groups: list[Event]) -> None:
    journal = Journal.open(folder, epoch=1)
    for group in groups:
        journal.append(group)
        journal.commit()
    journal.close()


def _read(folder: Path, after: int = 0) -> list[Event]:
    return [entry.event for entry in read(folder, after)]


# lines

_texts = st.text(max_size=20)
_times = st.datetimes(timezones=st.just(at(0).tzinfo))  # type: ignore[arg-type]
_some_events = st.one_of(
    st.builds(e.Held, time=_times, job_id=_texts, reason=_texts),
    st.builds(e.ControllerStarted, time=_times, epoch=st.integers(1, 9), host=_texts, pid=st.integers(1, 9)),
    st.builds(e.Submitted, time=_times, job=st.builds(make_job, _texts, labels=st.dictionaries(_texts, _texts))),
    st.builds(e.DeviceSeen, time=_times, device=st.builds(make_cpu, _texts, st.floats(0, 1e9))),
    st.builds(
        e.AttemptEnded,
        time=_times,
        job_id=_texts,
        attempt=st.integers(1, 10**6),
        end=st.builds(AttemptEnd, reason=st.sampled_from(EndReason), message=_texts, cpu_s=st.floats(0, 1e300)),
    ),
)


@given(event=_some_events, seq=st.integers(1, 2**60), epoch=st.integers(1, 9))
def test_a_line_says_what_was_written(event: Event, seq: int, epoch: int) -> None:
    if isinstance(event, e.ControllerStarted):
        epoch = event.epoch
    line = encode_line(seq, epoch, event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_line(line[:-1]) == (seq, epoch, event)
    assert read_line(encode_line(seq, epoch, event, (seq, seq + 3))[:-1]) == ((seq, epoch, event), seq, seq + 3)


@given(event=_some_events, data=st.data())
def test_no_changed_byte_goes_unnoticed(event: Event, data: st.DataObject) -> None:
    line = bytearray(encode_line(7, 1, event)[:-1])
    position = data.draw(st.integers(0, len(line) - 1))
    line[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadLine):
        decode_line(bytes(line))


@given(st.binary(max_size=60))
def test_noise_is_no_line(noise: bytes) -> None:
    with pytest.raises(BadLine):
        decode_line(noise)


def test_a_later_version_is_refused_in_clear_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownLine, match=r"format 3"):
        decode_line(_later(monkeypatch)[:-1])


def _later(monkeypatch: pytest.MonkeyPatch, seq: int = 1) -> bytes:
    with monkeypatch.context() as patch:
        patch.setattr(e, "FORMAT_VERSION", 3)
        return encode_line(seq, 1, _events(1)[0])


def _unknown(seq: int) -> bytes:
    """A whole line about something that this version has not heard of."""
    line = b'{"v":2,"seq":%d,"epoch":1,"type":"TurnedInside","time":"2026-01-01T00:00:00Z"' % seq
    return line + b',"crc":"%08x"}\n' % zlib.crc32(line)


@pytest.mark.parametrize("written", ["a later format", "an event that is not known"])
def test_what_a_later_version_wrote_is_refused_and_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    _write(tmp_path, _events(3))
    path = _segment(tmp_path)
    later = _later(monkeypatch, 4) if written == "a later format" else _unknown(4)
    path.write_bytes(path.read_bytes() + later)
    before = path.read_bytes()
    for act in (lambda: Journal.open(tmp_path, epoch=2), lambda: _read(tmp_path)):
        with pytest.raises(WorkspaceNewer, match=r"00000001\.jsonl:4: .*use the version .* that wrote it"):
            act()
    assert path.read_bytes() == before


# folders


@given(groups=st.lists(st.lists(_some_events, max_size=5), max_size=5), after=st.integers(0, 10))
@settings(deadline=None, max_examples=50)
def test_what_is_appended_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Event]], after: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    _write(folder, *groups)
    assert _read(folder, after) == [event for group in groups for event in group][after:]


def test_nothing_is_on_disk_before_the_commit_and_all_after(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, epoch=1)
    journal.append(_events(3))
    assert _read(tmp_path) == []
    journal.commit()
    assert _read(tmp_path) == _events(3)


def test_each_opening_begins_a_segment_and_numbers_go_on(tmp_path: Path) -> None:
    _write(tmp_path, _events(3))
    _write(tmp_path, _events(2, 3))
    assert [first for first, _ in segments(tmp_path)] == [1, 4]
    assert _read(tmp_path) == _events(5)
    assert _read(tmp_path, 4) == _events(1, 4)


def test_large_segments_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terry.cluster.files.journal.SEGMENT_BYTES", 300)
    _write(tmp_path, *([event] for event in _events(10)))
    assert len(segments(tmp_path)) > 2
    assert _read(tmp_path) == _events(10)


def test_what_a_superseded_controller_appends_does_not_count(tmp_path: Path) -> None:
    stale = Journal.open(tmp_path, epoch=1)
    stale.append(_events(2))
    stale.commit()
    _write(tmp_path, _events(2, 2))
    stale.append(_events(5, 100))
    stale.commit()
    assert _read(tmp_path) == _events(4)


def test_pruning_keeps_what_is_not_covered(tmp_path: Path) -> None:
    for i in range(4):
        _write(tmp_path, _events(3, 3 * i))
    journal = Journal.open(tmp_path, epoch=1)
    journal.prune(7)
    assert [first for first, _ in segments(tmp_path)] == [7, 10]
    assert _read(tmp_path, 7) == _events(5, 7)
    with pytest.raises(JournalDamaged, match="events 1 to 6 are missing"):
        _read(tmp_path)
    journal.append(_events(1))
    journal.commit()
    journal.prune(12)
    assert [first for first, _ in segments(tmp_path)] == [13], "the newest segment stays"


# damage


def _segment(folder: Path) -> Path:
    return segments(folder)[-1][1]


def test_a_torn_tail_is_ignored_by_readers_and_cut_off_by_the_writer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, _events(3))
    path = _segment(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"v":1,"seq":4,"ep')
    assert _read(tmp_path) == _events(3)
    _write(tmp_path, _events(1, 3))
    assert path.read_bytes() == whole
    assert _read(tmp_path) == _events(4)
    assert "torn last commit of 18 bytes" in caplog.text


@given(data=st.data(), groups=st.lists(st.integers(1, 120), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_a_commit_that_a_power_cut_left_in_part_is_dropped_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, groups: list[int]
) -> None:
    """Any of its pages may be missing: no file system promises an order. What was acknowledged before it stays."""
    folder = tmp_path_factory.mktemp("journal")
    counted = [sum(groups[:i]) for i in range(len(groups) + 1)]
    journal = Journal.open(folder, epoch=1, calls=NoSync())
    for first, group in zip(counted, groups, strict=False):
        before = _segment(folder).stat().st_size if first else 0
        journal.append(_events(group, first))
        journal.commit()
    journal.close()
    path = _segment(folder)
    whole = path.read_bytes()
    page = data.draw(st.sampled_from([512, 4096]))
    pages = range(before // page, len(whole) // page + 1)
    lost = data.draw(st.sets(st.sampled_from(pages), min_size=1))
    torn = bytearray(whole[: data.draw(st.sampled_from([len(whole), *range(before, len(whole), 97)]))])
    for number in lost:
        low, high = max(before, number * page), min(len(torn), (number + 1) * page)
        torn[low:high] = bytes(max(0, high - low))
    path.write_bytes(torn)
    assert _read(folder) == _events(counted[-2])
    _write(folder, _events(2, counted[-2]))
    assert _read(folder) == _events(counted[-2] + 2)


def test_a_line_of_a_commit_that_went_missing_afterwards_is_damage(tmp_path: Path) -> None:
    """Zeros in what later commits follow: that was acknowledged, and a disk or a person has changed it."""
    _write(tmp_path, _events(40), _events(3, 40))
    path = _segment(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[512:1024] = bytes(512)
    path.write_bytes(whole)
    with pytest.raises(JournalDamaged, match="checksum"):
        _read(tmp_path)


def test_a_bad_line_elsewhere_is_named(tmp_path: Path) -> None:
    _write(tmp_path, _events(3))
    path = _segment(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"s-1", b"s-9"))
    with pytest.raises(JournalDamaged, match=r"00000001\.jsonl:2: .*checksum.*terry-cluster doctor"):
        _read(tmp_path)
    with pytest.raises(JournalDamaged, match=r"00000001\.jsonl:2: "):
        Journal.open(tmp_path, epoch=1)


def test_a_bad_last_line_of_a_closed_segment_is_named(tmp_path: Path) -> None:
    _write(tmp_path, _events(3))
    _write(tmp_path, _events(3, 3))
    path = segments(tmp_path)[0][1]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(JournalDamaged, match=r"00000001\.jsonl:2: events 3 to 3 are missing"):
        _read(tmp_path)


def test_gaps_are_named(tmp_path: Path) -> None:
    _write(tmp_path, _events(3))
    path = _segment(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(JournalDamaged, match=r"00000001\.jsonl:2: event 3 stands where event 2 belongs"):
        _read(tmp_path)


def test_a_lost_segment_is_named(tmp_path: Path) -> None:
    for i in range(3):
        _write(tmp_path, _events(3, 3 * i))
    segments(tmp_path)[1][1].unlink()
    with pytest.raises(JournalDamaged, match="events 4 to 6 are missing after this line"):
        _read(tmp_path)


class _FullDisk(Calls):
    """A disk that takes some bytes of the next write and then is full."""

    left: int | None = None

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.left is None:
            return super().write(descriptor, data)
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(descriptor, data[: self.left])
        self.left = 0
        return written


def test_a_full_disk_leaves_nothing_of_the_group_and_closes_the_journal(tmp_path: Path) -> None:
    calls = _FullDisk()
    journal = Journal.open(tmp_path, epoch=1, calls=calls)
    journal.append(_events(2))
    journal.commit()
    calls.left = 150
    journal.append(_events(3, 2))
    with pytest.raises(OSError, match="No space"):
        journal.commit()
    calls.left = None
    assert _read(tmp_path) == _events(2)
    with pytest.raises(OSError, match="failed before"):
        journal.commit()
    _write(tmp_path, _events(1, 2))
    assert _read(tmp_path) == _events(3)


def test_an_empty_segment_of_a_controller_that_died_is_used_again(tmp_path: Path) -> None:
    _write(tmp_path, _events(3))
    (tmp_path / "00000004.jsonl").touch()
    _write(tmp_path, _events(1, 3))
    assert _read(tmp_path) == _events(4)


def test_two_writers_do_not_mix_in_one_segment(tmp_path: Path) -> None:
    first, second = Journal.open(tmp_path, epoch=1), Journal.open(tmp_path, epoch=2)
    for journal in (first, second):
        journal.append(_events(1))
    first.commit()
    with pytest.raises(FileExistsError):
        second.commit()
    assert _read(tmp_path) == _events(1)


def test_reading_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terry.cluster.files.journal.SEGMENT_BYTES", 2000)
    journal = Journal.open(tmp_path, epoch=1, calls=NoSync())
    done = threading.Event()
    counts: list[int] = []

    def follow() -> None:
        while not done.is_set():
            found = _read(tmp_path)
            assert found == _events(len(found))
            counts.append(len(found))

    reader = threading.Thread(target=follow)
    reader.start()
    for i in range(300):
        journal.append(_events(1, i))
        journal.commit()
    done.set()
    reader.join()
    assert counts == sorted(counts)
    assert _read(tmp_path) == _events(300)
