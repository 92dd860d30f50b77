"""The documentation as a program: the code blocks of a page, run one after another, and what they print.

A reader in the folder of the clone is played. Of a page's fenced blocks

* one with a title is a file: it is written (or, where its text is that of the clone's file, found to be true);
* `console` is commands after `$ `, and what each prints, standard error included;
* `sh` is commands whose output is not shown: they must end with 0; what a block exports holds from there on;
* `python` is a cell of a notebook: the cells of one page share one interpreter;
* all else is not run, and neither is a block below the line `<!-- not run -->`;
* below `<!-- words vary -->` only the number of lines is compared: what a network writes differs from CPU to CPU;
* the line `<!-- until: COMMAND -->` waits until the command ends with 0: a person is slower than this reader.

    python -m tests.helpers.doc_blocks docs/first.md            # runs pages, and writes into them what was printed
    python -m tests.helpers.doc_blocks --check docs/first.md    # or says where they do not agree with it

Output is compared where it must agree: numbers, durations, spaces, folders and the node's name are not.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME, HOST = "/home/ahab/terry", "seawolf"

_FENCE = re.compile(r"^( *)```(\w+)?(?: .*?title=\"([^\"]+)\".*?)?(?: .*)?$")
_SKIP, _VARIES = "<!-- not run -->", "<!-- words vary -->"
_UNTIL = re.compile(r"^<!-- until: (.+) -->$")
_WAIT_S = 300.0
#: More lines than this are too many for a page; what is left out stands as `...`.
_SHOWN = 60


@dataclass(slots=True)
class Command:
    """A command of a `console` block, and what the page says that it prints."""

    text: str
    output: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Block:
    """A fenced block of a page."""

    line: int  #: of its first line of text, from 1
    indent: int
    language: str
    title: str  #: the file that it is; empty: none
    text: list[str]
    varies: bool = False  #: only the number of its lines is promised

    @property
    def commands(self) -> list[Command]:
        """The commands of a `console` block."""
        found: list[Command] = []
        for line in self.text:
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif found and not found[-1].output and found[-1].text.endswith("\\"):
                found[-1].text += "\n" + line
            else:
                found[-1].output.append(line)
        return found


def blocks(page: str) -> list[Block]:
    """The blocks of a page that mean something here, in order."""
    found: list[Block] = []
    block: Block | None = None
    before = ""
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if block is None and fence:
            block = Block(number + 1, len(fence[1]), fence[2] or "", fence[3] or "", [], before.strip() == _VARIES)
            skipped = before.strip() == _SKIP
        elif block is not None and line.strip() == "```":
            if not skipped and (block.title or block.language in {"console", "sh", "python"}):
                found.append(block)
            block = None
        elif block is not None:
            block.text.append(line[block.indent :])
        elif until := _UNTIL.match(line):
            found.append(Block(number, 0, "until", "", [until[1]]))
        before = line or before
    assert block is None, "a fence is not closed"
    return found


def like_page(text: str, folder: Path) -> list[str]:
    """What was printed, as a page shows it: without this node's folders and name."""
    text = text.replace(str(folder), HOME).replace(str(ROOT), HOME).replace(socket.gethostname(), HOST)
    text = re.sub(r"(/[\w.-]+)+/(lib/python3\.\d+/)", r"/usr/\2", text)
    return [line.rstrip() for line in text.splitlines()]


def masked(line: str) -> str:
    """The line without what differs from run to run."""
    if any(0x2800 <= ord(character) <= 0x28FF for character in line):
        return "a curve"
    line = re.sub(r"\+(cpu|cu\d+)\b", "", line)  # builds of torch
    line = re.sub(r"\b(\d+[dhm])*\d+(\.\d+)?[smhd]\b", "#s", line)
    line = re.sub(r"0x[0-9a-f]+", "#", line)
    line = re.sub(r"\b\d[\d,]*(\.\d+)?(e-?\d+)?([kMG]\b)?", "#", line)
    line = re.sub(r"-[0-9a-f]{12}\b", "-#", line)
    return " ".join(line.split())


def agrees(shown: Iterable[str], printed: Iterable[str], *, varies: bool = False) -> bool:
    """True where what was printed is what is shown; a shown line `...` stands for any number of lines.

    varies: it is enough that there are as many lines.
    """
    pattern = [masked(line) for line in shown if line.strip()]
    lines = [masked(line) for line in printed if line.strip()]
    return len(pattern) == len(lines) if varies else _matches(pattern, lines)


def _matches(pattern: list[str], lines: list[str]) -> bool:
    if not pattern:
        return not lines
    if pattern[0] == "...":
        return any(_matches(pattern[1:], lines[skip:]) for skip in range(len(lines) + 1))
    return bool(lines) and pattern[0] == lines[0] and _matches(pattern[1:], lines[1:])


class Reader:
    """Somebody who does what the pages say, in a copy of what the clone has."""

    def __init__(self, folder: Path, at: Sequence[str] = (), **variables: str) -> None:
        """at: what stands before a command to have it run somewhere else. variables: of the reader's environment."""
        self.folder = folder
        self._at = list(at)
        shutil.copytree(ROOT / "examples", folder / "examples")
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("TERRY_", "PYTEST"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            **variables,
        }

    def run(self, text: str, limit_s: float = 240.0) -> tuple[int, str]:
        """A command's exit code and output."""
        done = subprocess.run(
            [*self._at, "bash", "-c", text],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
        return done.returncode, done.stdout

    def _export(self, text: str) -> None:
        """Remember what the reader's shell would."""
        command = ["bash", "-c", f"{text}\nenv -0"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        self._environment = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)

    def write(self, block: Block) -> None:
        """A file as the page has it; what the clone has already must be the same."""
        path, text = self.folder / block.title, "\n".join(block.text) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and (ROOT / block.title).exists():
            assert text in path.read_text(), f"line {block.line}: {block.title} is not what the clone has"
        else:
            path.write_text(text)

    def follow(self, page: str, say: Callable[[Block, Command, int, list[str]], None]) -> None:
        """Do what a page says. `say` is called with each command of it, its exit code and what it printed."""
        found = blocks(page)
        for block in found:
            if block.title:
                self.write(block)
            elif block.language == "until":
                self._until(block.text[0])
            elif block.language == "python":
                if block is next(b for b in found if b.language == "python" and not b.title):
                    self._cells([b for b in found if b.language == "python" and not b.title])
            else:
                for command in block.commands if block.language == "console" else [Command("\n".join(block.text))]:
                    code, printed = self.run(command.text)
                    if block.language == "sh" and command.text.startswith("export "):
                        self._export(command.text)
                    say(block, command, code, like_page(printed, self.folder))

    def _until(self, command: str) -> None:
        """Try again and again until it succeeds."""
        deadline = time.monotonic() + _WAIT_S
        while (found := self.run(command))[0] != 0:
            assert time.monotonic() < deadline, f"{command}: never succeeded: {found[1]}"
            time.sleep(0.1)

    def _cells(self, cells: list[Block]) -> None:
        """All cells of a page, at the place of the first."""
        script = self.folder / "cells.py"
        script.write_text("\n".join(line for cell in cells for line in cell.text))
        code, printed = self.run("python cells.py")
        assert code == 0, f"cells from line {cells[0].line}:\n{printed}"

    def down(self) -> None:
        """End what was started."""
        self.run("terry-cluster down")


def check(reader: Reader, page: Path) -> None:
    """Follow a page; AssertionError with the line and the difference where it does not say the truth."""

    def say(block: Block, command: Command, code: int, printed: list[str]) -> None:
        where = f"{page.relative_to(ROOT)}:{block.line}: $ {command.text}"
        if block.language == "sh":
            assert code == 0, "\n".join([where, *printed])
        elif not agrees(command.output, printed, varies=block.varies):
            difference = difflib.unified_diff(command.output, printed, "the page", "what was printed", lineterm="")
            raise AssertionError("\n".join([where, *difference]))

    reader.follow(page.read_text(), say)


def update(reader: Reader, page: Path) -> None:
    """Follow a page and write into it what was printed, where it does not agree with what stands there."""
    lines = page.read_text().splitlines()
    changes: list[tuple[Block, list[str]]] = []

    def say(block: Block, command: Command, code: int, printed: list[str]) -> None:
        print(f"{page.name}:{block.line}: {code} $ {command.text}", *printed, sep="\n", flush=True)
        if not changes or changes[-1][0] is not block:
            changes.append((block, []))
        output = command.output if agrees(command.output, printed, varies=block.varies) else list(_shortened(printed))
        changes[-1][1].extend([*(("$ " + command.text).splitlines()), *output])

    reader.follow(page.read_text(), say)
    for block, text in reversed([change for change in changes if change[0].language == "console"]):
        lines[block.line - 1 : block.line - 1 + len(block.text)] = [" " * block.indent + line for line in text]
    page.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def _shortened(printed: list[str]) -> Iterator[str]:
    yield from printed[:_SHOWN]
    if len(printed) > _SHOWN:
        yield "..."


def main(arguments: list[str]) -> None:
    """Update, or check, the pages that are named."""
    work = check if "--check" in arguments else update
    with tempfile.TemporaryDirectory(prefix="terry-docs-") as folder:
        reader = Reader(Path(folder))
        try:
            for page in (argument for argument in arguments if argument != "--check"):
                work(reader, Path(page).resolve())
                print(f"{page}: done", flush=True)
        finally:
            reader.down()


if __name__ == "__main__":
    main(sys.argv[1:])
