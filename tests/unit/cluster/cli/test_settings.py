"""`settings`: what a sweep file may say."""

from __future__ import annotations

from tests.unit.cluster.conftest import Terry


def test_a_part_of_a_key_will_do(terry: Terry) -> None:
    assert terry("settings", "optimizer.lr").out.splitlines() == [
        "run.optimizer.lr",
        "  a number that must be more than 0; default: 0.001",
        "  learning rate",
    ]
    said = terry("settings", "optimizer.name").out
    assert "default: adam" in said
    assert "adamw     Adam with weight decay apart" in said


def test_a_section_is_a_table_of_its_keys(terry: Terry) -> None:
    lines = terry("settings", "run.checkpoint").out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "KEY",
        "run.checkpoint",
        "run.checkpoint.every",
        "run.checkpoint.keep",
    ]
    assert "60 s" in lines[2]


def test_every_key_as_json(terry: Terry) -> None:
    found = {each["key"]: each for each in terry("settings", "--json").json}
    assert found["run.training.epochs"]["default"] == 10
    assert found["run.optimizer.betas"]["default"] == [0.9, 0.999]
    assert len(found) > 120


def test_what_people_write_is_known(terry: Terry) -> None:
    done = terry("settings", "units")
    assert done.code == 2
    assert "did you mean 'run.model.hidden_size'?" in done.err
