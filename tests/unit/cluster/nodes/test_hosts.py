"""Bringing nodes in: what is said of those that cannot come, and how patient one is with them. No ssh, no Ray."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.nodes import NodeSetup
from terry.cluster.host.device_choice import chosen_gpus, uses_cpu
from terry.cluster.host.versions import installed
from terry.cluster.nodes import hosts as machine_nodes
from terry.cluster.nodes.facts import clock_problem, misfit
from terry.cluster.nodes.hosts import ReachableNodes
from terry.cluster.nodes.join import MARK, answer_of
from terry.cluster.nodes.remote import Answer, SshNode, ThisNode
from terry.cluster.ports import (
    ClusterKey,
    ClusterView,
    GpuFacts,
    NodeFacts,
    NodeOrder,
    NodeReport,
    NodeState,
)

HEAD = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0+cu128", "terry-cluster": "0.1.0"}
KEY = ClusterKey(workspace="/w", address="10.0.0.1:1", incarnation="one", token="secret", versions=HEAD)
VIEW = ClusterView(key=KEY, members=frozenset())
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(**changed: object) -> NodeFacts:
    """A node that fits."""
    found = NodeFacts(
        host="quattro", address="10.0.0.2", versions=HEAD, cuda="", cores=2, gpus=(), sees_workspace=True, clock=NOW
    )
    return msgspec.structs.replace(found, **changed)


class Talker:
    """A node that answers what a test wants; it keeps what it was asked."""

    name = host = "quattro"
    python = "/opt/bin/python"

    def __init__(self, *answers: Answer) -> None:
        self.setup = NodeSetup(cpus=2, labels=("fast",), ports="20000-20100")
        self.asked: list[str] = []
        self.orders: list[NodeOrder] = []
        self._answers = list(answers)

    def run(self, arguments: list[str], data: bytes, timeout_s: float) -> Answer:
        assert "secret" not in " ".join(arguments), "the token is in no command line"
        self.asked.append(arguments[-1])
        self.orders.append(msgspec.json.decode(data, type=NodeOrder))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def says(state: NodeState, **kinds: object) -> Answer:
    report = NodeReport(name="quattro", state=state, **kinds)  # type: ignore[arg-type]
    return Answer(code=0, output=f"Welcome!\n{MARK}{msgspec.json.encode(report).decode()}\nbye", errors="")


FAILED = Answer(code=255, output="", errors="ssh: connect to host quattro port 22: No route to host\n")


@pytest.mark.parametrize(
    ("answer", "state", "problem", "fix"),
    [
        (FAILED, NodeState.UNREACHABLE, "No route to host", "ssh -o BatchMode=yes quattro true"),
        (
            Answer(code=127, output="", errors="bash: line 1: /opt/bin/python: No such file or directory\n"),
            NodeState.UNFIT,
            "there is no /opt/bin/python",
            "`python:`",
        ),
        (
            Answer(code=1, output="", errors="/opt/bin/python: No module named terry\n"),
            NodeState.UNFIT,
            "No module named terry",
            "install terry-cluster there",
        ),
        (Answer(code=9, output="hello\n", errors=""), NodeState.UNFIT, "exit code 9", "setup:"),
    ],
)
def test_a_node_without_an_answer_is_named_with_what_to_do(
    answer: Answer, state: NodeState, problem: str, fix: str
) -> None:
    (report,) = ReachableNodes("/w", [Talker(answer)]).reconcile(VIEW)
    assert (report.state, report.host) == (state, "quattro")
    assert problem in report.problem
    assert fix in report.fix


def test_the_order_holds_the_groups_settings() -> None:
    talker = Talker(says(NodeState.JOINED))
    (report,) = ReachableNodes("/w", [talker]).reconcile(VIEW)
    assert report.state is NodeState.JOINED
    order = talker.orders[0]
    assert (order.key, order.name, order.cpus, order.labels, order.ports) == (
        KEY,
        "quattro",
        2,
        ("fast",),
        (20000, 20100),
    )


def test_one_that_failed_is_left_in_peace_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(machine_nodes.time, "monotonic", lambda: clock[0])
    talker = Talker(FAILED)
    nodes = ReachableNodes("/w", [talker])
    asked_at = []
    for second in range(100):
        clock[0] = float(second)
        before = len(talker.asked)
        nodes.reconcile(VIEW)
        if len(talker.asked) > before:
            asked_at.append(second)
    assert asked_at == [0, 3, 9, 21, 36, 51, 66, 81, 96]


def test_one_that_believes_wrongly_that_it_takes_part_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut off, the head has given it up, and its Ray does not notice."""
    clock = [0.0]
    monkeypatch.setattr(machine_nodes.time, "monotonic", lambda: clock[0])
    talker = Talker(says(NodeState.PRESENT))
    nodes = ReachableNodes("/w", [talker])
    for second in range(0, 25, 3):
        clock[0] = float(second)
        nodes.reconcile(VIEW)
    assert talker.asked == ["join"] * 7 + ["anew"] * 2


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (facts(), None),
        (facts(versions=HEAD | {"torch": "2.13.0+cpu"}), None),
        (facts(versions=HEAD | {"python": "3.11.9"}), None),
        (facts(versions=HEAD | {"python": "3.12.1"}), "python 3.12.1 instead of 3.11.7"),
        (facts(versions=HEAD | {"ray": "2.59.0"}), "ray 2.59.0 instead of 2.60.0"),
        (facts(versions=HEAD | {"torch": ""}), "torch"),
        (facts(sees_workspace=False), None),
    ],
)
def test_what_does_not_fit(found: NodeFacts, said: str | None) -> None:
    wrong = misfit(found, KEY)
    assert (wrong is None) == (said is None)
    assert wrong is None or (str(said) in wrong[0] and wrong[1])


def test_a_clock_is_judged_by_when_it_was_asked() -> None:
    late = NOW + timedelta(seconds=30)
    assert clock_problem(facts(), NOW, late) is None, "it answered some time in between"
    wrong = clock_problem(facts(clock=NOW - timedelta(seconds=90)), NOW, late)
    assert wrong is not None
    assert "90 s behind" in wrong[0]
    wrong = clock_problem(facts(clock=late + timedelta(seconds=7)), NOW, late)
    assert wrong is not None
    assert "7 s ahead" in wrong[0]


def test_a_clock_that_is_off_is_said_of_a_node_that_takes_part() -> None:
    off = says(NodeState.JOINED, facts=facts(clock=datetime.now(UTC) - timedelta(hours=1)))
    (report,) = ReachableNodes("/w", [Talker(off)]).reconcile(VIEW)
    assert report.is_in
    assert "s behind" in report.problem


def test_only_a_whole_answer_counts() -> None:
    assert answer_of("noise\n") is None
    assert answer_of(f"{MARK}{{}}\n") is None


def test_devices_by_index_uuid_and_model() -> None:
    gpus = [
        GpuFacts(index=0, uuid="GPU-aa", model="NVIDIA H100"),
        GpuFacts(index=1, uuid="GPU-bb", model="NVIDIA T400 4GB"),
        GpuFacts(index=2, uuid="GPU-cc", model="NVIDIA H100"),
    ]
    assert chosen_gpus(gpus, (), ()) == [0, 1, 2]
    assert chosen_gpus(gpus, ("NVIDIA H100*",), ("2",)) == [0]
    assert chosen_gpus(gpus, (), ("cpu", "GPU-aa", "NVIDIA T400*")) == [2]
    assert chosen_gpus(gpus, (), (), visible="2,GPU-bb") == [1, 2]
    assert chosen_gpus(gpus, (), (), visible="") == []
    assert (uses_cpu(("cpu",)), uses_cpu(())) == (False, True)


def test_lines_of_setup_are_run_before_python(tmp_path: Path) -> None:
    setup = NodeSetup(setup=("export GREETING='good day'",), python=sys.executable)
    node = ThisNode(name="here", setup=setup)
    program = "import os, sys; print(os.environ['GREETING'], sys.stdin.read())"
    answer = node.run(["-c", program], b"to you", 60.0)
    assert (answer.code, answer.output) == (0, "good day to you\n")


def test_ssh_is_asked_so_that_it_never_asks() -> None:
    command = SshNode(host="quattro", setup=NodeSetup(python="~/env/bin/python")).command(["-m", "a b"])
    assert command[0] == "ssh"
    assert "BatchMode=yes" in command
    assert command[-2] == "quattro"
    shell = subprocess.run(["sh", "-c", f"printf '%s\\n' {command[-1]}"], capture_output=True, text=True, check=True)
    env, lines, *rest = shell.stdout.splitlines()
    assert (env, rest[:2]) == ("env", ["bash", "-c"])
    assert base64.b64decode(lines.removeprefix("TERRY_LINES=")).decode().splitlines() == [
        "unset TERRY_LINES",
        "exec ~/env/bin/python -m 'a b'",
    ]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "csh", "tcsh", "zsh", "fish"])
def test_setup_works_whatever_the_shell_of_the_account_is(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    lines = ("export GREETING='good day!'", 'for word in a b; do GREETING="$GREETING $word"; done')
    seen = "os.environ['GREETING'], sys.argv[1:], 'TERRY_LINES' in os.environ, sys.stdin.read()"
    program = f"import os, sys; print({seen})"
    node = SshNode(host="quattro", setup=NodeSetup(setup=lines, python=sys.executable))
    line = node.command(["-c", program, "it's `$HOME`!"])[-1]
    done = subprocess.run([shell, "-c", line], input="to you", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ('good day! a b ["it\'s `$HOME`!"] False to you\n', "")


@pytest.mark.parametrize("noise", ["", "Welcome!\n", "Welcome, and no line end", "\x1b[1mhello\x1b[0m"])
def test_whatever_rc_files_print_the_answer_is_found(noise: str) -> None:
    report = NodeReport(name="quattro", state=NodeState.JOINED)
    assert answer_of(f"{noise}{MARK}{msgspec.json.encode(report).decode()}\nbye\n") == report


def test_our_own_versions_fit() -> None:
    mine = dict(installed())
    assert mine["ray"]
    assert mine["torch"]
    assert misfit(facts(versions=mine), msgspec.structs.replace(KEY, versions=mine)) is None
