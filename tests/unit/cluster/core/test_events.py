"""A journal's lines: what is written is read, whoever wrote it; what is damaged or too new is refused by name."""

from __future__ import annotations

import json
import zlib

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.events import FORMAT_VERSION, BadLine, Entry, Line, UnknownLine, encode_line, read_line
from tests.helpers.queue_values import at

RELEASED = e.Released(time=at(7), job_id="s-1")
STARTED = e.ControllerStarted(time=at(0), epoch=3, host="head", pid=7)


def _sealed(body: str) -> bytes:
    """A line whose checksum is right, whatever it says."""
    line = body.encode().removesuffix(b"}")
    return line + b',"crc":"%08x"}' % zlib.crc32(line)


@pytest.mark.parametrize(
    ("event", "epoch", "commit", "first", "last"),
    [
        (RELEASED, 4, None, 12, 12),
        (RELEASED, 4, (12, 12), 12, 12),  # a commit of one needs no mark
        (RELEASED, 4, (10, 13), 10, 13),
        (STARTED, 3, None, 12, 12),
    ],
)
def test_a_line_says_who_wrote_what_and_what_reached_the_disk_with_it(
    event: e.Event, epoch: int, commit: tuple[int, int] | None, first: int, last: int
) -> None:
    line = encode_line(12, epoch, event, commit)
    assert line.endswith(b"}\n")
    assert read_line(line.rstrip(b"\n")) == Line(Entry(12, epoch, event), first, last)
    written = json.loads(line)
    assert written["v"] == FORMAT_VERSION
    assert written["epoch"] == epoch, "other programs find it in each line"
    assert written.get("commit") == ([first, last] if first != last else None)


@pytest.mark.parametrize(("commit", "first", "last"), [("", 5, 5), ('"commit":[4,6],', 4, 6)])
def test_members_may_stand_in_any_order(commit: str, first: int, last: int) -> None:
    """Whoever made a journal whole again by hand, or with another JSON library, is read too."""
    event = '"type":"Released","time":"2026-01-01T00:00:07Z","job_id":"s-1"'
    line = _sealed(f'{{{event},{commit}"epoch":2,"seq":5,"v":1}}')
    assert read_line(line) == Line(Entry(5, 2, RELEASED), first, last)


@pytest.mark.parametrize(
    "body",
    [
        '{"v":99,"seq":1,"epoch":1,"type":"Released","time":"2026-01-01T00:00:07Z","job_id":"s-1"}',
        '{"v":2,"seq":1,"epoch":1,"type":"Teleported","time":"2026-01-01T00:00:07Z","job_id":"s-1"}',
        '{"v":2,"seq":1,"epoch":1,"type":"Released","time":"2026-01-01T00:00:07Z"}',
    ],
)
def test_what_a_later_version_wrote_is_told_apart_from_damage(body: str) -> None:
    """The one asks for a newer program, the other for a repair."""
    with pytest.raises(UnknownLine):
        read_line(_sealed(body))


def test_a_later_format_is_named_with_the_newest_that_is_read() -> None:
    with pytest.raises(UnknownLine, match=f"format 99, and this program reads formats up to {FORMAT_VERSION}"):
        read_line(_sealed('{"v":99,"whatever":true}'))


def test_every_changed_byte_is_damage() -> None:
    line = encode_line(12, 4, RELEASED, (10, 13)).rstrip(b"\n")
    for index, byte in enumerate(line):
        with pytest.raises(BadLine):
            read_line(line[:index] + bytes([byte ^ 1]) + line[index + 1 :])
    for length in range(len(line)):
        with pytest.raises(BadLine):
            read_line(line[:length])
