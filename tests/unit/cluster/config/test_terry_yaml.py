"""terry.yaml: what is read, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.config.terry_yaml import Notify, Occasion, WorkspaceConfig, parse, read, read_nodes
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

FILE = Path("/w/terry.yaml")


def test_without_a_file_all_is_by_default(tmp_path: Path) -> None:
    assert read(WorkspacePaths(tmp_path)) == WorkspaceConfig()
    (tmp_path / "terry.yaml").write_text("# nothing yet\n")
    assert read(WorkspacePaths(tmp_path)) == WorkspaceConfig()


def test_where_the_nodes_are_is_known_whatever_is_wrong_with_the_rest(tmp_path: Path) -> None:
    place = WorkspacePaths(tmp_path)
    assert read_nodes(place) == WorkspaceConfig().nodes
    place.config.write_text("notify: {comand: x}\nnodes: {lab: {kind: ssh, hosts: seawolf}}\nodd: 1\n")
    with pytest.raises(UserError):
        read(place)
    assert list(read_nodes(place).hosts) == ["seawolf"]
    place.config.write_text("nodes: [b\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read_nodes(place)


def test_a_line_of_shell_or_a_list_of_arguments() -> None:
    assert parse("notify: {command: 'mail lab'}", FILE).notify == Notify(command=("/bin/sh", "-c", "mail lab"))
    found = parse("notify:\n  command: [mail, 'a b']\n  timeout: 5\n  on: failure\n", FILE).notify
    assert found == Notify(command=("mail", "a b"), timeout_s=5.0, occasions=frozenset({Occasion.FAILURE}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: {}\nnotfiy: {}\n", "terry.yaml:2: notfiy: unknown key; did you mean 'notify'?"),
        ("notify:\n  comand: x\n", "terry.yaml:2: notify.comand: unknown key; did you mean 'command'?"),
        ("notify:\n  timeout: 3\n", "terry.yaml:1: notify.command: is missing"),
        ("notify:\n  command: [a, [b]]\n", "terry.yaml:2: notify.command: must be a line of shell, or a list"),
        ("notify:\n  command: x\n  timeout: -1\n", "terry.yaml:3: notify.timeout: must be a duration"),
        ("notify:\n  command: x\n  timeout: true\n", "terry.yaml:3: notify.timeout: must be a duration"),
        (
            "notify:\n  command: x\n  on: [sunday]\n",
            "terry.yaml:3: notify.on: must be a list of sweep, failure, not ['sunday']",
        ),
        ("notify: {}\n", "notify.command: is missing"),
        ("notify: 3\n", "terry.yaml:1: notify: must be a mapping of settings (`key: value`), not 3"),
        ("- a\n", "terry.yaml:1: must be a mapping of settings"),
        ("notify: {command: x}\nnotify: {command: y}\n", "terry.yaml:2: 'notify' stands twice (first in line 1)"),
        ("a: [\n", "not valid YAML: the list is not closed"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, FILE)
    assert said in str(error.value)
