"""Words of a sweep file by the type of the setting that they are for, and what is said to who comes from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.config.words import meaning
from terry.cluster.errors import UserError
from terry.jobs.sweeps import sweep
from terry.jobs.sweeps.spec import ALSO_CALLED
from terry.jobs.sweeps.sweep import Sweep
from tests.helpers.sweep_files import BASE, folder, sweep_file


def load(tmp_path: Path, text: str, *overrides: str) -> Sweep:
    return sweep.load(sweep_file(tmp_path, text), overrides)


def config(tmp_path: Path, run: str, *overrides: str) -> dict[str, Any]:
    return load(tmp_path, BASE + run, *overrides).runs[0].config


def error(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


def test_names_and_files_are_text_to_the_letter(tmp_path: Path) -> None:
    (folder(tmp_path) / "5e4-comments.csv").write_text("010,body\n1,It was a dark night.\n")
    text = "name: 4e2a91f\ndatasets:\n  NO: {source: 5e4-comments.csv, column: 010}\nrun: {data: {dataset: NO}}\n"
    found = load(tmp_path, text)
    assert (found.name, list(found.datasets), found.datasets["NO"].column) == ("4e2a91f", ["NO"], "010")
    assert found.runs[0].config["data"]["dataset"] == "NO"
    for name in ("no", "2e3-lstm", "61e9540", "1.10", "0123", "22"):
        assert load(tmp_path, BASE.replace("name: demo", f"name: {name}")).name == name


_FREE = """\
  parameters: {a: 010, b: 61e9540, c: 16:9, d: 1e-4, e: yes, f: true, g: 1.10, h: [2e3-lstm, ~, 0x1f], i: 2026-01-02}
"""


def test_a_users_own_settings_follow_the_same_rules(tmp_path: Path) -> None:
    found = load(tmp_path, BASE + _FREE)
    assert found.runs[0].config["parameters"] == {
        "a": "010", "b": "61e9540", "c": "16:9", "d": 1e-4, "e": "yes", "f": True, "g": 1.1,
        "h": ["2e3-lstm", None, 31], "i": "2026-01-02",
    }  # fmt: skip
    (notice,) = found.notices
    assert notice.endswith("sweep.yaml:7: run.parameters.e is the text 'yes'; a switch is true or false")


def test_a_switch_takes_yes_and_no(tmp_path: Path) -> None:
    run = "sweep: {grid: {model.tie_weights: [yes, off]}}\n"
    found = load(tmp_path, BASE.replace("hidden_size: 32", "hidden_size: 128") + run)
    assert [r.config["model"]["tie_weights"] for r in found.runs] == [True, False]
    assert found.notices == []


def test_words_of_yaml_1_1_in_axes_of_own_settings_are_told(tmp_path: Path) -> None:
    found = load(tmp_path, BASE + "sweep: {grid: {parameters.augment: [on, off]}}\n")
    assert [r.config["parameters"]["augment"] for r in found.runs] == ["on", "off"]
    assert ["sweep.grid.parameters.augment[0] is the text 'on'" in found.notices[0], len(found.notices)] == [True, 2]


@given(word=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+:-]{0,10}[A-Za-z0-9]", fullmatch=True))
def test_a_value_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, word: str) -> None:
    """The reference: text is the word itself, else what it means by itself; in the base, an axis, an override."""
    path = folder(tmp_path_factory.getbasetemp()) / "words.yaml"
    path.write_text(
        f"{BASE}  resources: {{node: {word}}}\n  parameters: {{x: {word}}}\n"
        f"sweep: {{zip: {{parameters.y: [{word}]}}}}\n"
    )
    for given_values in ([], [f"resources.node={word}", f"parameters.x={word}", f"parameters.y={word}"]):
        found = sweep.load(path, given_values).runs[0].config
        node = None if word.lower() == "null" and word in {"null", "Null", "NULL"} else word
        expected = None if node is None else meaning(word)
        assert (found["resources"]["node"], found["parameters"]) == (node, {"x": expected, "y": expected})


def test_an_override_takes_text_that_yaml_would_not(tmp_path: Path) -> None:
    found = config(tmp_path, "", "resources.node=*H100* # all", "resources.device=@x: y", "entrypoint=null")
    assert (found["resources"]["node"], found["resources"]["device"]) == ("*H100* # all", "@x: y")
    assert config(tmp_path, "", "resources.node='010'")["resources"]["node"] == "010"
    assert "text that begins with * must stand in quotes" in error(tmp_path, BASE, "parameters.x=*a*")
    assert "did you mean 'optimizer.lr'?" in error(tmp_path, BASE, "learning_rate=0.1")
    assert error(tmp_path, BASE, "sweep.halving.factor=third").startswith("sweep.halving.factor=third: must be a whole")


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("run:\n  epochs: 3", 6, "run.epochs: unknown key; did you mean 'run.training.epochs'?"),
        ("run:\n  learning_rate: 3", 6, "run.learning_rate: unknown key; did you mean 'run.optimizer.lr'?"),
        ("run:\n  optimizer: {learning_rate: 3}", 6, "learning_rate: unknown key; did you mean 'lr'?"),
        ("run:\n  model: {units: 3}", 6, "run.model.units: unknown key; did you mean 'hidden_size'?"),
        ("run:\n  model: {hidden: 3}", 6, "run.model.hidden: unknown key; did you mean 'hidden_size'?"),
        ("run: {}\ngrid: {model.cell: [gru]}", 6, "grid: unknown key; did you mean 'sweep.grid'?"),
        ("run: {}\nsweep:\n  grid:\n    learning_rate: [1]", 8, "did you mean 'optimizer.lr'?"),
        ("run: {}\nsweep:\n  grid:\n    model.cell: gru", 8, "model.cell: must be a list of values, such as [gru]"),
        ("run: {}\nsweep:\n  grid:\n    model: {cell: [gru]}", 8, "`model.cell: [...]` varies one setting of it"),
        ("run: {}\nsweep:\n  grid:\n    model.cell:", 8, "must be a list of values, such as [a, b], not nothing"),
        ("run:\n  training: {epochs: 010}", 6, "must be a whole number, not '010'; write 10: a leading 0"),
        ("run:\n  training: {epochs: '3'}", 6, "must be a whole number, not '3'; leave the quotes out"),
        ("run:\n  time_limit: 1:30", 6, "run.time_limit: '1:30' is not a duration"),
        ("run:\n  optimizer: {lr: 61e9540}", 6, "run.optimizer.lr: must be a number, not '61e9540'; no 64-bit number"),
        ("run:\n  parameters: {1: x}", 6, 'run.parameters.1: a key must be text: "1" in quotes is'),
        ("run:\n  model: {layers: big}\nsweep: {grid: {model.layers: [1]}}", 6, "run.model.layers: must be a whole"),
        ("run: {}\nsweep:\n  list: [{model.cell: [gru]}]", 7, "sweep.list[0].model.cell: must be text, not ['gru']"),
        ("run: {}\nsweep:\n  exclude: [gru]", 7, "sweep.exclude[0]: must be a mapping of settings"),
        ("run:\n\tmodel: {}", 6, "a tab in the indentation"),
        ("run:\n  optimizer: {lr: -1}\nsweep: {grid: {optimizer.lr: [1]}}", 6, "run.optimizer.lr: must be more than 0"),
        ("run:\n  model: {cell: lsmt}\nsweep: {grid: {model.cell: [gru]}}", 6, "package.module:Class, not 'lsmt'"),
        ("run:\n  resources: {gpus: 2}\nsweep: {grid: {resources.gpus: [1]}}", 6, "0 or more, at most 1, not 2"),
        ("run:\n  model: {cell: [gru, lstm]}", 6, "what varies stands below `sweep: grid:`, as `model.cell: [...]`"),
        ("run:\n  model.cell: gru", 6, "run.model.cell: unknown key; write `model:`, and `cell:` below it"),
        ("run: {}\nmodel.cell: gru", 6, "model.cell: unknown key; did you mean 'run.model.cell'?"),
        ("run: {}\nsweep:\n  model.cell: [gru]", 7, "unknown key; did you mean 'sweep.grid.model.cell'?"),
        ("run: {}\nsweep:\n  zip:\n    model.cell: []", 8, "an empty list means no runs at all"),
        ("run: {}\nensembles:\n  all:\n    size: 0", 8, "ensembles.all.size: must be a whole number, 1 or more, not 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named_at_their_line(tmp_path: Path, text: str, line: int, expected: str) -> None:
    said = error(tmp_path, BASE[: BASE.index("run:")] + "# four\n" + text + "\n")
    assert said.startswith(f"{tmp_path / 'sweep.yaml'}:{line}: ")
    assert expected in said


def test_an_exponent_makes_a_whole_number_where_one_belongs(tmp_path: Path) -> None:
    assert config(tmp_path, "  training: {max_steps: 1e5}\n")["training"]["max_steps"] == 100_000


def test_no_word_from_elsewhere_is_a_key_of_ours_for_something_else() -> None:
    from terry.cluster.config.typed import all_keys
    from terry.jobs.sweeps.spec import RunConfig

    ours = {key.rpartition(".")[2] for key in all_keys(RunConfig)}
    assert not {word for word in ALSO_CALLED if word in ours}


@pytest.mark.parametrize("empty", ["zip:", "random:", "halving:"])
def test_an_empty_part_is_none(tmp_path: Path, empty: str) -> None:
    assert len(load(tmp_path, BASE + f"sweep:\n  grid: {{training.seed: [1, 2]}}\n  {empty}\nensembles:\n").runs) == 2
