"""`watch` driven for real: a terminal emulator, keys, a resize, a workspace that changes meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pexpect
import pyte
import pytest

from terry.cluster.core.model import JobState
from terry.cluster.files import inbox
from tests.helpers.world import World, busy
from tests.unit.cluster.conftest import Terry

_WAIT_S = 90.0  # only a broken program waits so long; a busy machine may wait some


class Window:
    """A terminal with `terry-cluster watch` in it."""

    def __init__(self, world: World, width: int, height: int, **environment: str) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        clean = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "terry.cluster.cli.main", "-w", str(world.workspace.root), "watch"],
            dimensions=(height, width),
            env={**clean, "TERM": "xterm-256color", "TZ": "UTC", **environment},
            timeout=_WAIT_S,
        )
        self.before = termios.tcgetattr(self.child.child_fd)

    @property
    def lines(self) -> list[str]:
        """What the terminal shows."""
        return [line.rstrip() for line in self.screen.display]

    def marked(self) -> str:
        """The line that is shown reversed: where the cursor is."""
        return next((line for y, line in enumerate(self.lines) if self.screen.buffer[y][0].reverse), "")

    def until(self, true: Callable[[], bool]) -> None:
        """Take in what the program writes until something holds."""
        deadline = time.monotonic() + _WAIT_S
        while not true():
            assert time.monotonic() < deadline, "\n".join(self.lines)
            try:
                data = self.child.read_nonblocking(65_536, timeout=0.2)
            except (pexpect.TIMEOUT, pexpect.EOF):
                continue
            self.raw += data
            self._stream.feed(data)

    def shows(self, *words: str) -> None:
        """Wait until all of these are on the screen."""
        self.until(lambda: all(any(word in line for line in self.lines) for word in words))

    def press(self, keys: str) -> None:
        """Press keys."""
        self.child.send(keys)

    def resize(self, width: int, height: int) -> None:
        """As if the window were drawn larger or smaller."""
        self.screen.resize(height, width)
        self.child.setwinsize(height, width)

    def ends(self) -> int:
        """Wait for the end; the exit code, or minus the signal."""
        self.raw += self.child.read()
        self.child.close()
        return -self.child.signalstatus if self.child.signalstatus else int(self.child.exitstatus or 0)


Open = Callable[..., Window]


@pytest.fixture
def window(world: World) -> Iterator[Open]:
    """Opens windows, and closes them whatever happens."""
    opened: list[Window] = []

    def make(width: int = 120, height: int = 40, **environment: str) -> Window:
        opened.append(Window(world, width, height, **environment))
        return opened[-1]

    yield make
    for each in opened:
        each.child.close(force=True)


def test_keys_resize_and_quit(world: World, window: Open) -> None:
    """Move, open, filter, ask, answer; smaller and larger; leave the terminal as it was."""
    busy(world)
    shown = window()
    shown.shows("cells-0003", "SIGSEGV in b", "seawolf:cpu")
    shown.press("\r")
    shown.shows("ValueError: no such optimizer", "story")
    shown.press("q")
    shown.shows("by what needs attention")
    shown.resize(80, 24)
    shown.until(lambda: shown.lines[23].startswith("q quit") and shown.lines[1].startswith("─ sweeps"))
    shown.press("/state:failed\r")
    shown.shows("filter: state:failed (1 of 8 jobs")
    shown.press("\x1b")
    shown.shows("cells-0004")
    shown.press("j\x1b[Bc")
    shown.shows("? y: yes, any other key: no")
    shown.press("n")
    shown.shows("nothing was done")
    assert list((world.workspace.inbox / "new").iterdir()) == []
    shown.press("cy")
    shown.shows("asked to cancel cells-000")
    world.turn(times=4)
    assert [r.job.id for r in world.controller.state.jobs.values() if r.state is JobState.CANCELLED]
    shown.shows("cancelled")
    shown.press("q")
    assert shown.ends() == 0
    assert shown.raw.rstrip().endswith(b"\x1b[?1049l")
    assert b"\x1b[?25h" in shown.raw


def test_follows_the_workspace(world: World, window: Open) -> None:
    """Progress, a finished run, a controller that dies: on the screen without a key."""
    world.submit("cells", 2)
    world.turn(times=3)
    shown = window()
    shown.shows("cells-0001", "running")
    world.measure("cells-0001", 10, 400, start=-1)
    world.progress(("cells-0001", 400))
    shown.shows("400/1,000")
    world.finish("cells-0001", loss=1.2345)
    world.turn()
    shown.shows("1.2345", "done after 1,000 steps")
    inbox.send(world.workspace, inbox.Shutdown())
    world.turn(times=3)
    shown.shows("no controller: shown is what was known")
    shown.press("q")
    assert shown.ends() == 0


def test_without_colours(world: World, window: Open) -> None:
    """NO_COLOR is honoured: no colour is set, not even once."""
    busy(world)
    shown = window(NO_COLOR="1")
    shown.shows("cells-0003", "failed")
    shown.press("q")
    assert shown.ends() == 0
    colours = [b"\x1b[3%dm" % n for n in range(1, 8)] + [b"\x1b[1;31m"]
    assert not any(colour in shown.raw for colour in colours)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGHUP, 130)])
def test_whatever_ends_it_the_terminal_comes_back(world: World, window: Open, number: int, code: int) -> None:
    """Signals, too: the alternate screen is left, the cursor is shown, the line discipline is what it was."""
    world.submit("cells", 1)
    shown = window()
    shown.shows("cells-0001")
    assert termios.tcgetattr(shown.child.child_fd) != shown.before
    shown.child.kill(number)
    assert shown.ends() == code
    assert b"\x1b[?1049l" in shown.raw
    assert b"\x1b[?25h" in shown.raw


def test_killed_without_a_word(world: World, window: Open) -> None:
    """SIGKILL cannot be caught: the terminal comes back all the same."""
    world.submit("cells", 1)
    shown = window()
    shown.shows("cells-0001")
    shown.child.kill(signal.SIGKILL)
    shown.until(lambda: b"\x1b[?25h\x1b[?1049l" in shown.raw)
    shown.until(lambda: termios.tcgetattr(shown.child.child_fd) == shown.before)


def test_stopped_and_gone_on_with(world: World, window: Open) -> None:
    """Ctrl-Z gives the terminal to the shell; `fg` draws everything anew."""
    world.submit("cells", 1)
    shown = window()
    shown.shows("cells-0001")
    shown.press("\x1a")
    shown.until(lambda: b"\x1b[?1049l" in shown.raw)
    shown.until(lambda: termios.tcgetattr(shown.child.child_fd) == shown.before)
    shown.screen.reset()
    shown.child.kill(signal.SIGCONT)
    shown.shows("cells-0001", "q quit")
    shown.press("q")
    assert shown.ends() == 0


def test_only_what_changed_is_sent(world: World, window: Open) -> None:
    """Over ssh, a cursor that moves is two lines, not a screen; Ctrl-L is a whole one."""
    world.submit("cells", 30)
    shown = window(200, 60)
    shown.shows("cells-0030")
    whole = len(shown.raw)
    shown.press("j")
    shown.until(lambda: shown.marked().startswith("cells-0002 "))
    moved = len(shown.raw) - whole
    assert moved < whole / 4
    before, here = shown.lines, len(shown.raw)
    shown.screen.reset()
    shown.press("\x0c")
    shown.until(lambda: shown.lines[1:] == before[1:])
    assert len(shown.raw) - here > whole / 2
    shown.press("q")
    assert shown.ends() == 0


def test_a_stalled_file_system(world: World, window: Open) -> None:
    """A file that does not answer when it is opened (a FIFO does not, either) holds up no key; then all goes on."""
    world.submit("cells", 3)
    world.turn(times=3)
    shown = window()
    shown.shows("cells-0001", "running")
    fifo, live = world.folder / "fifo", world.workspace.live
    os.mkfifo(fifo)
    (world.folder / "stalled").hardlink_to(fifo)
    (world.folder / "stalled").replace(live)
    shown.shows("the file system has not answered for")
    shown.press("/0002\r")
    shown.shows("filter: 0002 (1 of 3 jobs")
    shown.press("cy")
    shown.shows("asked to cancel cells-0002")
    world.progress(("cells-0001", 700))  # replaces the FIFO
    with fifo.open("wb"):  # whoever still waits reads an empty file
        pass
    shown.press("\x1b")
    shown.shows("700/1,000")
    shown.press("q")
    assert shown.ends() == 0


def test_nothing_to_read_yet(world: World, window: Open) -> None:
    """A file system that stalls from the beginning: that is said, and `q` leaves."""
    world.submit("cells", 1)
    world.turn(times=2)
    world.workspace.live.unlink(missing_ok=True)
    os.mkfifo(world.workspace.live)
    shown = window()
    shown.shows("reading the workspace ...")
    shown.press("q")
    assert shown.ends() == 0


def test_ten_thousand_jobs(world: World, window: Open) -> None:
    """The first frame comes, and the end of the list is one key away."""
    world.submit("cells", 10_000)
    shown = window(80, 24)
    shown.shows("cells-0001")
    shown.press("sG")
    shown.shows("cells-10000")
    shown.press("q")
    assert shown.ends() == 0


def test_until_done_prints_how_all_ended(world: World) -> None:
    """As `submit --watch` does: the dashboard closes by itself, and what stands on the terminal is the summary."""
    world.submit("cells", 8)
    world.turn(times=3)
    command = ["-m", "terry.cluster.cli.main", "-w", str(world.workspace.root), "watch", "--until-done"]
    terminal = {**os.environ, "TERM": "xterm-256color"}
    child = pexpect.spawn(sys.executable, command, dimensions=(8, 100), timeout=_WAIT_S, env=terminal)
    child.expect("running")
    for number in range(1, 9):
        world.finish(f"cells-000{number}", loss=2.5)
        world.turn(times=3)
    text = child.read().decode()
    child.close()
    assert child.exitstatus == 0
    after = text.rpartition("\x1b[?1049l")[2]
    assert "8/8" in after
    assert after.count("2.5000") == 8, "with the figures of rows that had no room on the screen, too"


def test_until_done_ends_where_a_run_was_mended_meanwhile(world: World, terry: Terry) -> None:
    """Then the old one is shown no more, and the one that stands for it is what is waited for."""
    world.submit("cells", 2)
    world.turn(times=3)
    command = ["-m", "terry.cluster.cli.main", "-w", str(world.workspace.root), "watch", "--until-done"]
    terminal = {**os.environ, "TERM": "xterm-256color"}
    child = pexpect.spawn(sys.executable, command, dimensions=(12, 100), timeout=_WAIT_S, env=terminal)
    child.expect("running")
    world.fail("cells-0001")
    world.turn(times=2)
    (world.folder / "whaling.py").write_text("def main(ctx): return None\n")
    assert terry("submit", str(world.folder / "cells.yaml")).code == 0
    world.turn(times=3)
    for job_id in ("cells-0002", "cells-0003"):
        world.finish(job_id)
        world.turn(times=2)
    text = child.read().decode()
    child.close()
    assert child.exitstatus == 0
    assert "cells-0003" in text.rpartition("\x1b[?1049l")[2]


def test_a_terminal_without_a_cursor_gets_lines(world: World, window: Open) -> None:
    """TERM=dumb (an editor's shell): no escape sequence at all."""
    world.submit("cells", 1)
    world.turn(times=3)
    shown = window(TERM="dumb")
    shown.shows("1 running")
    world.finish("cells-0001")
    world.turn()
    shown.shows("cells-0001 done after 1,000 steps")
    shown.child.kill(signal.SIGINT)
    assert shown.ends() == 130
    assert b"\x1b" not in shown.raw


def test_watch_is_no_json_document(terry: Terry, world: World) -> None:
    """It never ends; what would be right is said."""
    world.submit("cells", 1)
    said = terry("watch", "--json")
    assert (said.code, said.out) == (2, "")
    assert "`status --json`" in said.err
