"""`policy:` in terry.yaml: what is read, what is said of a mistake, and that a change counts at once."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from terry.cluster.config.terry_yaml import parse, read_policy
from terry.cluster.config.watched import watched_policy
from terry.cluster.core.policy import Limit, Policy, Preemption, lookup
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

FILE = Path("/w/terry.yaml")

WHOLE = """
policy:
  fair_share: {half_life: 2 h, users: {ann: 2}, sweeps: {"urgent-*": 4}}
  limits:
    users: {bob: {gpus: 2}, "*": {jobs: 100, cpus: 8}}
    nodes: {quattro: {jobs: 8}}
  aging: 3600
  backfill: false
  longest_first: false
  preemption: {difference: 10, after: 5 min}
"""


def test_all_of_it() -> None:
    assert parse(WHOLE, FILE).policy == Policy(
        half_life_s=7200.0,
        user_weights={"ann": 2.0},
        sweep_weights={"urgent-*": 4.0},
        user_limits={"bob": Limit(gpus=2.0), "*": Limit(jobs=100, cpus=8.0)},
        node_limits={"quattro": Limit(jobs=8)},
        aging_s=3600.0,
        backfill=False,
        longest_first=False,
        preemption=Preemption(difference=10, after_s=300.0),
    )


def test_what_is_left_out_is_by_default() -> None:
    assert parse("policy:\n", FILE).policy == Policy() == parse("policy: {}\n", FILE).policy
    assert parse("policy: {preemption: true}\n", FILE).policy.preemption == Preemption()


def test_a_name_itself_counts_before_a_glob() -> None:
    table = {"a*": 1, "ann": 2, "*": 3}
    assert [lookup(table, name) for name in ("ann", "abe", "bob")] == [2, 1, 3]
    assert lookup({"ann": 1}, "bob") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: {fairshare: {}}", "policy.fairshare: unknown key; did you mean 'fair_share'?"),
        (
            "policy:\n  fair_share:\n    users: {ann: -1}",
            "terry.yaml:3: policy.fair_share.users.ann: must be a number, above 0, not -1",
        ),
        ("policy: {fair_share: {half_life: soon}}", "fair_share.half_life: must be a duration such as"),
        ("policy: {fair_share: {half_life: 0}}", "fair_share.half_life: must be a duration"),
        ("policy: {limits: {user: {}}}", "policy.limits.user: unknown key; did you mean 'users'?"),
        ("policy: {limits: {users: {ann: 3}}}", "users.ann: must be a mapping of settings (`key: value`), not 3"),
        ("policy: {limits: {users: {ann: {}}}}", "users.ann: must say how many jobs, gpus, cpus may be in use"),
        ("policy: {limits: {users: {ann: {jobs: 1.5}}}}", "ann.jobs: must be a whole number, 0 or more, not 1.5"),
        ("policy: {limits: {users: {ann: {gpus: many}}}}", "ann.gpus: must be a number, 0 or more, not 'many'"),
        ("policy: {limits: {nodes: {quattro: {gpus: 1}}}}", "nodes.quattro.gpus: unknown key; valid here: jobs"),
        ("policy: {aging: true}", "policy.aging: must be a duration"),
        ("policy: {backfill: 3}", "policy.backfill: must be true or false, not 3"),
        ("policy: {preemption: {difference: 0}}", "preemption.difference: must be a whole number, 1 or more, not 0"),
        ("policy: {limits: {users: {1001: {gpu: 1}}}}", "users.1001.gpu: unknown key; did you mean 'gpus'?"),
        ("policy: [1]", "policy: must be a mapping of settings (`key: value`), not [1]"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, FILE)
    assert said in str(error.value)
    assert str(error.value).startswith("/w/terry.yaml:")


def test_names_are_what_a_person_wrote() -> None:
    """YAML reads 1001 as a number and `on` as true; both may be users."""
    found = parse("policy: {limits: {users: {1001: {jobs: 1}, on: {jobs: 2}}}, fair_share: {users: {007: 2}}}", FILE)
    assert found.policy.user_limits == {"1001": Limit(jobs=1), "on": Limit(jobs=2)}
    assert found.policy.user_weights == {"007": 2.0}


def test_a_file_that_is_not_text_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace = WorkspacePaths(tmp_path)
    workspace.config.write_bytes("policy: {}\n# für alle".encode("latin-1"))
    with caplog.at_level(logging.ERROR):
        assert watched_policy(workspace)() == Policy()
    assert "terry.yaml:2: not UTF-8" in caplog.text


def test_a_change_counts_at_once_and_a_mistake_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = WorkspacePaths(tmp_path)
    time = 0.0
    policy = watched_policy(workspace, lambda: time)
    assert policy() == Policy()
    workspace.config.write_text("policy: {aging: 2 h}\n")
    assert policy() == Policy(), "the file is not looked at all the time"
    time = 2.0
    assert policy().aging_s == 7200.0
    workspace.config.write_text("policy: {ageing: 3 h}\n")
    time = 4.0
    with caplog.at_level(logging.ERROR):
        assert policy().aging_s == 7200.0
    assert "policy.ageing: unknown key; did you mean 'aging'?" in caplog.text
    workspace.config.unlink()
    time = 6.0
    assert policy() == Policy()


def test_who_needs_the_policy_reads_it_alone_and_once(tmp_path: Path) -> None:
    """`watch` looks at it before its first frame: no other section is read for it, or keeps it from being read."""
    workspace = WorkspacePaths(tmp_path)
    workspace.config.write_text("policy: {aging: 2 h}\nnodes: {a: {kind: shh}}\nnotify: 3\n")
    program = (
        "import sys; from pathlib import Path; from terry.cluster.files.paths import WorkspacePaths\n"
        "from terry.cluster.config import watched, yaml_file\n"
        "read, times = yaml_file.read, []\n"
        "yaml_file.read = lambda path: times.append(path) or read(path)\n"
        "policy = watched.watched_policy(WorkspacePaths(Path(sys.argv[1])))\n"
        "print(policy().aging_s, policy().aging_s, len(times), 'terry.cluster.config.nodes' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7200.0", "7200.0", "1", "False"]


@pytest.mark.parametrize("text", ["polcy: {aging: 2 h}\n", "policy: {}\npolicies: {}\n", "- policy\n"])
def test_a_mistyped_policy_is_none_by_default(tmp_path: Path, text: str) -> None:
    workspace = WorkspacePaths(tmp_path)
    workspace.config.write_text(text)
    with pytest.raises(UserError):
        read_policy(workspace)
