"""`nodes:` of terry.yaml: what is read, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.config.node_values import DeviceChoice, node_name
from terry.cluster.config.nodes import (
    LocalGroup,
    NodesConfig,
    RayGroup,
    SlurmGroup,
    SshGroup,
)
from terry.cluster.config.terry_yaml import parse, read_nodes
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

FILE = Path("/w/terry.yaml")


def test_all_kinds_mixed() -> None:
    found = parse(
        """
head: seawolf
nodes:
  here: {kind: local, cpus: 2}
  lab:
    kind: ssh
    hosts: [seawolf, ann@quattro.example.org]
    setup: |
      module load cuda
      source env
    python: ~/env/bin/python
    devices: {use: [0, "NVIDIA H100*"], leave_out: cpu}
    labels: fast
    interface: 10.0.0.0/24
    ports: 20000 - 20100
  queue: {kind: slurm, partition: main, gres: gpu:2, time: 4:00:00, min: 1, max: 3, slurm_qos: long}
""",
        FILE,
    ).nodes
    lab = SshGroup(
        name="lab",
        hosts=("seawolf", "ann@quattro.example.org"),
        setup=("module load cuda", "source env"),
        python="~/env/bin/python",
        devices=DeviceChoice(use=("0", "NVIDIA H100*"), leave_out=("cpu",)),
        labels=("fast",),
        interface="10.0.0.0/24",
        ports="20000-20100",
    )
    queue = SlurmGroup(
        name="queue", partition="main", gres="gpu:2", time="4:00:00", least=1, most=3, options={"qos": "long"}
    )
    assert found == NodesConfig(head="seawolf", groups=(LocalGroup(name="here", cpus=2), lab, queue))
    assert found.hosts == {"seawolf": lab, "ann@quattro.example.org": lab}
    assert lab.port_range == (20000, 20100)
    assert found.has_others


def test_a_ray_cluster_that_runs_already_alone_and_with_nodes_of_our_own() -> None:
    found = parse('nodes: {grown: {kind: ray, address: "10.0.0.7:6379"}}\n', FILE).nodes
    assert found.foreign == RayGroup(name="grown", address="10.0.0.7:6379", idle_after=600.0)
    assert not found.has_others
    theirs = 'grown: {kind: ray, address: "a:1", idle_after: 1 min}'
    for mine in ("lab: {kind: ssh, hosts: b}", "here: {kind: local}"):
        for text in (f"nodes: {{{theirs}, {mine}}}\n", f"nodes: {{{mine}, {theirs}}}\n"):
            both = parse(text, FILE).nodes
            assert both.foreign is not None
            assert (both.foreign.idle_after, both.has_others) == (60.0, True)


def test_without_groups_it_is_this_node() -> None:
    found = parse("policy: {}\n", FILE).nodes
    assert found == NodesConfig()
    assert found.here is not None
    assert not found.has_others


def test_with_other_nodes_this_one_is_in_it_only_if_asked_for() -> None:
    assert parse("nodes: {lab: {kind: ssh, hosts: quattro}}\n", FILE).nodes.here is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: [quattro]\n", "terry.yaml:1: nodes: must be a mapping (`key: value`), not ['quattro']"),
        (
            "nodes:\n  a: {hosts: [b]}\n",
            "terry.yaml:2: nodes.a.kind: must be one of local, ssh, slurm, ray, not nothing",
        ),
        ("nodes:\n  a: {kind: shh}\n", "did you mean 'ssh'?"),
        ("nodes:\n  a:\n    kind: ssh\n", "terry.yaml:2: nodes.a.hosts: is missing"),
        (
            "nodes:\n  a:\n    kind: ssh\n    host: b\n",
            "terry.yaml:4: nodes.a.host: unknown key; did you mean 'hosts'?",
        ),
        ("nodes: {a: {kind: ssh, hosts: [-oProxyCommand=x]}}\n", "has '-oProxyCommand=x': a host is a name"),
        ("nodes: {a: {kind: ssh, hosts: [b, b.example.org]}}\n", "a.hosts: has 'b' twice"),
        ("nodes: {a: {kind: ssh, hosts: []}}\n", "a.hosts: must name a host"),
        ("nodes: {a: {kind: ssh, hosts: b}, c: {kind: ssh, hosts: [b]}}\n", "nodes.c: has the host b, which a has"),
        ("nodes: {a: {kind: local}, b: {kind: local}}\n", "nodes.b: is of kind local, as a is"),
        ("nodes: {a: {kind: local, cpus: 0}}\n", "a.cpus: must be a whole number, 1 or more, not 0"),
        ("nodes: {a: {kind: local, labels: [a b]}}\n", "a.labels: has 'a b'"),
        ("nodes: {a: {kind: local, ports: 20000-20005}}\n", "a.ports: must hold 20 ports"),
        ("nodes: {a: {kind: local, ports: 80-200}}\n", "a.ports: must be a range within 1024-65535"),
        ("nodes: {a: {kind: local, interface: 'a b'}}\n", "a.interface: must be an interface"),
        ("nodes: {a: {kind: local, devices: {us: 0}}}\n", "nodes.a.devices.us: unknown key; did you mean 'use'?"),
        ("nodes: {a: {kind: slurm, min: 2, max: 1}}\n", "a.min: must not be above `max`"),
        ("nodes: {a: {kind: slurm, time: soon}}\n", "a.time: must be a time limit"),
        ("nodes: {a: {kind: slurm, slurm_qos: [1]}}\n", "a.slurm_qos: must be text"),
        ("nodes: {a: {kind: slurm, slurm_time: 5}}\n", "a.slurm_time: is to be given as `time:`"),
        ("nodes: {a: {kind: slurm, slurm_array: 1-3}}\n", "a.slurm_array: cannot be chosen"),
        ("nodes: {a: {kind: slurm, idle_after: soon}}\n", "a.idle_after: must be a duration such as '90 s'"),
        ("head: slurm\nnodes: {a: {kind: local}}\n", "terry.yaml:1: head: can be `slurm` only where"),
        ("nodes: {a: {kind: ray, address: a:1}, b: {kind: ray, address: b:1}}\n", "b: is of kind ray, as a is"),
        (
            "nodes: {a: {kind: ray, address: a:1}, b: {kind: slurm}}\n",
            "b: cannot be used: groups of kind ssh",
        ),
        ("nodes: {a: {kind: ray, address: 127.0.0.1:1}, b: {kind: local}}\n", "b: cannot be used: no other node"),
        *(
            (f"nodes: {{a: {{kind: ray, address: 'a:1', {key}}}}}\n", f"a.{key.split(':')[0]}: does nothing here")
            for key in ("labels: [fast]", "cpus: 4", "ports: 20000-20100", "devices: {leave_out: [cpu]}", "python: p")
        ),
        ("nodes: {a: {kind: ray, address: here}}\n", "a.address: must be host:port"),
        ("nodes: {../a: {kind: local}}\n", "cannot be a group's name"),
        ("nodes: {a: {kind: ray, address: a:99999}}\n", "a.address: must be host:port"),
        ("nodes: {a: {kind: local, interface: 10.0.0.300}}\n", "a.interface: must be an interface"),
        (
            "nodes: {a: {kind: slurm, partition: p, slurm_partition: q}}\n",
            "a.slurm_partition: is given as `partition:`",
        ),
        ("nodes: {a: {kind: slurm, qos: long}}\n", "nodes.a.qos: unknown key; valid here: setup, "),
        ("nodes: {a: {kind: slurm, qos: long}}\n", "idle_after, slurm_*"),
        ("nodes: {a: {kind: slurm, slurm_: 1}}\n", "a.slurm_: is no option of sbatch"),
        ('nodes: {a: {kind: slurm, "slurm_x y": 1}}\n', "a.slurm_x y: is no option of sbatch"),
        ('nodes: {a: {kind: slurm, slurm_mem: "1\\n#SBATCH"}}\n', "a.slurm_mem: must be one line"),
        ('nodes: {a: {kind: slurm, partition: "p\\nq"}}\n', "a.partition: must be one line"),
        ("nodes: {q: {kind: slurm}, b: {kind: ssh, hosts: q-1}}\n", "nodes.b: cannot be used: nodes of q are called"),
        ("nodes: {b: {kind: ssh, hosts: q-1.x}, q: {kind: slurm}}\n", "like the host q-1"),
        ("[" * 3000, "not valid YAML: "),
        ("nodes: \0\n", "not valid YAML: unacceptable character #x0000"),
        ("head: [a]\n", "head: must be the name of a host"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, FILE)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["nodse: {a: {kind: local}}\n", "machines: {}\n", "nodes: {}\nhaed: slurm\n"])
def test_a_mistyped_section_of_nodes_is_not_a_file_without_nodes(tmp_path: Path, text: str) -> None:
    workspace = WorkspacePaths(tmp_path)
    workspace.config.write_text(text)
    with pytest.raises(UserError, match=r"unknown key; did you mean '(nodes|head)'"):
        read_nodes(workspace)


def test_nodes_are_found_whatever_is_wrong_with_the_rest(tmp_path: Path) -> None:
    workspace = WorkspacePaths(tmp_path)
    workspace.config.write_text("nodes: {lab: {kind: ssh, hosts: b}}\nnotify: 3\npolcy: {}\n")
    assert [*read_nodes(workspace).hosts] == ["b"]


def test_a_node_is_called_by_the_first_part_of_its_host() -> None:
    assert node_name("ann@quattro.example.org") == "quattro"
    assert node_name("10.0.0.7") == "10-0-0-7"
