"""terry.yaml: what is read, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.config.terry_yaml import Notify, Occasion, WorkspaceConfig, parse, read, read_nodes
from terry.cluster.errors import UserError
from terry.cluster.files.paths import Workspace

FILE = Path("/w/terry.yaml")


def test_without_a_file_all_is_by_default(tmp_path: Path) -> None:
    assert read(Workspace(tmp_path)) == WorkspaceConfig()
    (tmp_path / "terry.yaml").write_text("# nothing yet\n")
    assert read(Workspace(tmp_path)) == WorkspaceConfig()


def test_where_the_machines_are_is_known_whatever_is_wrong_with_the_rest(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert read_nodes(place) == WorkspaceConfig().nodes
    place.config.write_text("notify: {comand: x}\nnodes: {lab: {kind: ssh, hosts: seawolf}}\nodd: 1\n")
    with pytest.raises(UserError):
        read(place)
    assert list(read_nodes(place).hosts) == ["seawolf"]
    place.config.write_text("nodes: [b\n")
    with pytest.raises(UserError, match="not YAML"):
        read_nodes(place)


def test_a_line_of_shell_or_a_list_of_arguments() -> None:
    assert parse("notify: {command: 'mail lab'}", FILE).notify == Notify(command=("/bin/sh", "-c", "mail lab"))
    found = parse("notify:\n  command: [mail, 'a b']\n  timeout: 5\n  on: failure\n", FILE).notify
    assert found == Notify(command=("mail", "a b"), timeout_s=5.0, occasions=frozenset({Occasion.FAILURE}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: {}\nnotfiy: {}\n", "terry.yaml:2: terry.yaml has no key 'notfiy'; did you mean 'notify'?"),
        ("notify:\n  comand: x\n", "terry.yaml:2: notify has no key 'comand'; did you mean 'command'?"),
        ("notify:\n  timeout: 3\n", "terry.yaml:2: notify.command must be a line of shell"),
        ("notify: {command: [1, 2]}\n", "terry.yaml:1: notify.command must be"),
        ("notify:\n  command: x\n  timeout: -1\n", "terry.yaml:3: notify.timeout must be seconds"),
        ("notify:\n  command: x\n  timeout: true\n", "terry.yaml:3: notify.timeout must be seconds"),
        ("notify:\n  command: x\n  on: [sunday]\n", "terry.yaml:3: notify.on must be a list of sweep, failure"),
        ("notify: {}\n", "notify.command must be"),
        ("notify: 3\n", "terry.yaml:1: notify must be made of `key: value`"),
        ("- a\n", "terry.yaml:1: terry.yaml must be made of"),
        ("notify: {command: x}\nnotify: {command: y}\n", "terry.yaml:2: terry.yaml has the key 'notify' twice"),
        ("a: [\n", "this is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, FILE)
    assert said in str(error.value)
