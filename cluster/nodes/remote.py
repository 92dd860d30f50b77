"""How a program is run on a node: here, or by the user's own ssh. No root, and nothing is asked of anybody."""

from __future__ import annotations

import base64
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

from terry.cluster.config.node_values import node_name
from terry.cluster.config.nodes import NodeSetup

#: ssh ends with this where it could not reach the node; so may what it runs there.
_SSH_FAILED = 255
_CONNECT_S = 8
#: What a shell says of a program that it does not find.
_NOT_FOUND = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of running a program."""

    code: int  #: its exit code
    output: str
    errors: str

    @property
    def is_reached(self) -> bool:
        """False where the node did not answer, or did not let us in."""
        return self.code != _SSH_FAILED

    def why(self, host: str, python: str) -> tuple[str, str]:
        """What is wrong, and how to fix it."""
        last_line = next((line.strip() for line in reversed(self.errors.splitlines()) if line.strip()), "")
        if not self.is_reached:
            return last_line or "ssh does not reach it", f"`ssh -o BatchMode=yes {host} true` must work from here"
        if self.code == _NOT_FOUND or "No such file" in last_line:
            return f"there is no {python}", "give `python:` of the environment with terry-cluster on it in terry.yaml"
        if "No module named" in last_line:
            return (
                f"{last_line} ({python})",
                "install terry-cluster there, or give `python:` of an environment that has it",
            )
        return last_line or f"its Python ended with exit code {self.code}", "see what it says with `ssh` and `setup:`"


class NodeAccess(Protocol):
    """Where a program can be run."""

    @property
    def host(self) -> str:
        """As terry.yaml has it; empty for this node."""
        ...

    @property
    def name(self) -> str:
        """What its node is called."""
        ...

    @property
    def setup(self) -> NodeSetup:
        """How it is to be used."""
        ...

    @property
    def python(self) -> str:
        """Python of the environment with terry-cluster there."""
        ...

    def run(self, arguments: list[str], data: bytes, timeout_s: float) -> Answer:
        """Run Python there with `data` on its standard input, to its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisNode:
    """The node on which we are."""

    name: str
    setup: NodeSetup
    host: str = ""

    @property
    def python(self) -> str:
        """See NodeAccess."""
        return self.setup.python or sys.executable

    def run(self, arguments: list[str], data: bytes, timeout_s: float) -> Answer:
        """See NodeAccess."""
        return run_program([*_shell(self.setup, self.python, arguments)], data, timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshNode:
    """A node that the user's own ssh reaches."""

    host: str
    setup: NodeSetup

    @property
    def name(self) -> str:
        """See NodeAccess."""
        return node_name(self.host)

    @property
    def python(self) -> str:
        """See NodeAccess."""
        return self.setup.python or sys.executable

    def run(self, arguments: list[str], data: bytes, timeout_s: float) -> Answer:
        """See NodeAccess. Never asks for a password; a node that is silent is given up after some seconds."""
        return run_program(self.command(arguments), data, timeout_s)

    def command(self, arguments: list[str]) -> list[str]:
        """The call of ssh."""
        options = ["BatchMode=yes", f"ConnectTimeout={_CONNECT_S}", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
        command = ["ssh", "-T", "-x", *(word for option in options for word in ("-o", option)), "--", self.host]
        return [*command, _for_any_shell(_shell(self.setup, self.python, arguments))]


def _for_any_shell(command: list[str]) -> str:
    """The call of bash as a line that the account's shell understands, whichever it is.

    csh has no text of several lines, and takes `!` for history in any quotes: so the lines go in base64.
    """
    *bash, lines = command
    coded = base64.b64encode(lines.encode()).decode()
    unpack = 'eval "$(printf %s "$TERRY_LINES" | base64 -d)"'
    return f"env TERRY_LINES={coded} {' '.join(bash)} '{unpack}'"


def _shell(setup: NodeSetup, python: str, arguments: list[str]) -> list[str]:
    """A shell that runs the lines of `setup`, then becomes Python. A login shell where there are any: `module`."""
    program = python if python.startswith("~/") else shlex.quote(python)
    lines = ["unset TERRY_LINES", *setup.setup, f"exec {program} {shlex.join(arguments)}"]
    return ["bash", "-lc" if setup.setup else "-c", "\n".join(lines)]


def run_program(command: list[str], data: bytes, timeout_s: float) -> Answer:
    """Run it with `data` on its standard input, to its end."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Answer(code=_SSH_FAILED, output="", errors=f"no answer within {timeout_s:.0f} s")
    except FileNotFoundError as error:
        return Answer(code=_SSH_FAILED, output="", errors=f"{error.filename} is not installed here")
    return Answer(
        code=done.returncode,
        output=done.stdout.decode(errors="replace"),
        errors=done.stderr.decode(errors="replace"),
    )
