"""Sweep files: what they expand to, and what is said of mistakes in them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.errors import UserError
from terry.jobs.sweeps import ensembles, sweep
from terry.jobs.sweeps.query import look_up
from terry.jobs.sweeps.sweep import Sweep
from tests.helpers.sweep_files import BASE, folder, sweep_file


def load(tmp_path: Path, text: str, *overrides: str) -> Sweep:
    return sweep.load(sweep_file(tmp_path, text), overrides)


def values(expanded: Sweep, *keys: str) -> list[Any]:
    rows = [tuple(look_up(run.config, key.split(".")) for key in keys) for run in expanded.runs]
    return [row[0] for row in rows] if len(keys) == 1 else rows


def error(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        ensembles.plan(load(tmp_path, text, *overrides))
    return str(caught.value)


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


# what a file expands to


def test_without_a_sweep_there_is_one_run(tmp_path: Path) -> None:
    (run,) = load(tmp_path, BASE).runs
    assert run.config["model"]["hidden_size"] == 32
    assert run.config["data"]["dataset"] == "comments", "the only data set is the one that is meant"


def test_grid_varies_its_last_key_fastest(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {grid: {model.cell: [rnn, gru], training.seed: [1, 2]}}")
    assert values(expanded, "model.cell", "training.seed") == [("rnn", 1), ("rnn", 2), ("gru", 1), ("gru", 2)]


def test_zip_takes_values_together(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {zip: {model.hidden_size: [8, 16], training.seed: [1, 2]}}")
    assert values(expanded, "model.hidden_size", "training.seed") == [(8, 1), (16, 2)]


def test_list_gives_the_points_themselves(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {list: [{model.cell: rnn}, {training.seed: 7}]}")
    assert values(expanded, "model.cell", "training.seed") == [("rnn", 1), ("gru", 7)]


def test_parts_are_multiplied(tmp_path: Path) -> None:
    text = BASE + "sweep: {grid: {model.cell: [rnn, gru]}, list: [{training.seed: 1}, {training.seed: 2}]}"
    assert len(load(tmp_path, text).runs) == 4


def test_a_mapping_replaces_the_section_and_its_defaults_fill_it(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {grid: {optimizer: [{name: sgd}, {name: adam, lr: 0.5}]}}")
    default = load(tmp_path, BASE.replace("{name: adam, lr: 0.001}", "{name: sgd}")).runs[0].config["optimizer"]
    assert expanded.runs[0].config["optimizer"] == default, "the base's learning rate was another optimizer's"
    assert expanded.runs[1].config["optimizer"]["lr"] == 0.5


def test_a_dotted_key_is_set_on_top_of_a_section(tmp_path: Path) -> None:
    text = BASE + "sweep: {grid: {optimizer.lr: [0.1, 0.2], optimizer: [{name: sgd}, {name: adam}]}}"
    assert sorted(values(load(tmp_path, text), "optimizer.name", "optimizer.lr")) == [
        ("adam", 0.1),
        ("adam", 0.2),
        ("sgd", 0.1),
        ("sgd", 0.2),
    ]


def test_exclude_takes_dotted_nested_and_several_values(tmp_path: Path) -> None:
    grid = "sweep: {grid: {model.cell: [rnn, gru, lstm], training.seed: [1, 2]}, exclude: "
    assert len(load(tmp_path, BASE + grid + "[{model.cell: rnn, training.seed: 2}]}").runs) == 5
    assert len(load(tmp_path, BASE + grid + "[{model: {cell: rnn}}]}").runs) == 4
    assert len(load(tmp_path, BASE + grid + "[{model.cell: [rnn, gru]}]}").runs) == 2


def test_an_exclusion_without_effect_is_told(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {grid: {model.cell: [gru]}, exclude: [{model.cell: rnn}]}")
    assert "matches no run" in expanded.notices[0]


def test_runs_that_come_out_alike_are_one(tmp_path: Path) -> None:
    expanded = load(tmp_path, BASE + "sweep: {grid: {training.seed: [1, 2, 1]}}")
    assert values(expanded, "training.seed") == [1, 2]
    assert "1 of the runs" in expanded.notices[0]


def test_interpolation_follows_what_varies(tmp_path: Path) -> None:
    text = BASE.replace("hidden_size: 32", 'hidden_size: 32, embedding_size: "${.hidden_size}"')
    expanded = load(tmp_path, text + "sweep: {grid: {model.hidden_size: [8, 16]}}")
    assert values(expanded, "model.hidden_size", "model.embedding_size") == [(8, 8), (16, 16)]


def test_a_float_without_a_point_is_a_number(tmp_path: Path) -> None:
    assert values(load(tmp_path, BASE + "sweep: {grid: {optimizer.lr: [1e-4, 1E-3, 2e3]}}"), "optimizer.lr") == [
        1e-4,
        1e-3,
        2e3,
    ]


def test_random_points_do_not_change_when_there_are_more_of_them(tmp_path: Path) -> None:
    text = BASE + "sweep: {random: {count: %d, distributions: {optimizer.lr: {log_uniform: [1e-4, 1e-1]}}}}"
    few, many = values(load(tmp_path, text % 3), "optimizer.lr"), values(load(tmp_path, text % 8), "optimizer.lr")
    assert many[:3] == few
    assert len(set(many)) == 8
    assert all(1e-4 <= lr <= 1e-1 for lr in many)


def test_random_distributions_stay_in_their_ranges(tmp_path: Path) -> None:
    distributions = {
        "training.seed": {"integer": [3, 5]},
        "model.hidden_size": {"log_integer": [8, 64]},
        "model.cell": {"choice": ["rnn", "gru"]},
        "model.dropout": {"uniform": [0.1, 0.2]},
    }
    text = BASE + yaml.safe_dump({"sweep": {"random": {"count": 60, "distributions": distributions}}})
    expanded = load(tmp_path, text)
    assert set(values(expanded, "training.seed")) == {3, 4, 5}
    assert set(values(expanded, "model.cell")) == {"rnn", "gru"}
    assert all(8 <= size <= 64 for size in values(expanded, "model.hidden_size"))
    assert all(0.1 <= p <= 0.2 for p in values(expanded, "model.dropout"))


# overrides


def test_an_override_holds_for_every_run(tmp_path: Path) -> None:
    text = BASE + "sweep: {grid: {model.cell: [rnn, gru]}}"
    assert values(load(tmp_path, text, "training.epochs=3"), "training.epochs") == [3, 3]
    assert values(load(tmp_path, text, "run.training.epochs=3"), "training.epochs") == [3, 3]
    assert values(load(tmp_path, text, "model.cell=gru"), "model.cell") == ["gru"], "it narrows what varies"


def test_an_override_reaches_the_rest_of_the_file(tmp_path: Path) -> None:
    text = BASE + "sweep: {grid: {model.cell: [rnn, gru]}}"
    expanded = load(tmp_path, text, "sweep.grid.model.cell=[lstm]", "datasets.comments.max_examples=5", "name=other")
    assert values(expanded, "model.cell") == ["lstm"]
    assert expanded.datasets["comments"].max_examples == 5
    assert expanded.name == "other"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("trainig.epochs=3", "did you mean 'training'"),
        ("training.epochs=many", "training.epochs=many: must be a whole number, not 'many'"),
        ("training.epochs", "write key=value"),
        ("training.epochs=[1", "not valid YAML"),
    ],
)
def test_mistakes_in_overrides(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in error(tmp_path, BASE, override)


# mistakes, each with file and line

_MISTAKES = [
    ("run: {model: {hiden_size: 5}}", "hiden_size", "did you mean 'hidden_size'"),
    ("run:\n  model:\n    hidden_size: big", "hidden_size: big", "run.model.hidden_size: must be a whole number, not"),
    ("run:\n  model:\n    hidden_size: 1.5", "hidden_size: 1.5", "a whole number"),
    ("run:\n  model:\n    layers: 0", "layers: 0", "run.model.layers: must be at least 1"),
    ("run:\n  model: {cell: gru,\n    input: onehott}", "onehott", "unknown value 'onehott'; did you mean 'one"),
    ("run: {resources: {gpus: 1, cpus: 1}}", "gpus", "either gpus or cpus"),
    ("run: {resources: {gpus: 4}}", "gpus", "0 or more, at most 1"),
    ("run: {checkpoint: {every: soon}}", "every", "not a duration"),
    ("run: {entrypoint: my_lab.speech}", "entrypoint", "package.module:function"),
    ("run: {data: {dataset: coments}}", "coments", "did you mean 'comments'"),
    ("run: [1, 2]", "run:", "must be a mapping"),
    ("sweeps: {}", "sweeps", "did you mean 'sweep'"),
    ("sweep: {grid: {model.cel: [gru]}}", "model.cel", "did you mean 'model.cell'"),
    ("sweep:\n  grid:\n    model.cell: []", "model.cell", "an empty list means no runs"),
    ("sweep:\n  grid:\n    training.seed: [1,\n      x]", "      x]", "must be a whole number"),
    ("sweep: {grid: {model.cell: gru}}", "model.cell", "must be a list"),
    ("sweep: {zip: {model.hidden_size: [1, 2], training.seed: [1]}}", "zip", "equally long"),
    ("sweep: {grid: {training.seed: [1]}, zip: {training.seed: [2]}}", "grid", "varied twice"),
    ("sweep: {grid: {optimizer: [{name: sgd, lr: 1}], optimizer.lr: [2]}}", "grid", "varied twice"),
    ("sweep: {list: [{model.cell: gru}, {model.cel: gru}]}", "list", "did you mean 'model.cell'"),
    ("sweep: {random: {count: 0, distributions: {}}}", "count", "1 or more, not 0"),
    ("sweep: {random: {distributions: {optimizer.lr: {lognormal: [0, 1]}}}}", "lognormal", "unknown distribution"),
    ("sweep: {random: {distributions: {optimizer.lr: {log_uniform: [0, 1]}}}}", "log_uniform", "low above 0"),
    ("sweep: {random: {distributions: {optimizer.lr: {uniform: [2, 1]}}}}", "uniform", "low < high"),
    ("sweep: {exclude: [{}]}", "exclude", "every run is excluded"),
    ("sweep: {exclude: [{model.cel: rnn}]}", "exclude", "did you mean 'model.cell'"),
    ("ensembles: {terry: {members: {model.cell: rnn}}}", "ensembles", "no run of the sweep matches"),
    ("ensembles: {terry: {size: 3, minimum: 4}}", "terry", "more members than there are (3)"),
    ("ensembles: {terry: {size: 2, vary: model.cell}}", "terry", "not a whole number"),
    ("ensembles: {terry: {size: 2, vary: model.cel}}", "terry", "model.cel: unknown key; did you mean 'model.cell'"),
    ("ensembles: {terry: {members: {model.cel: gru}}}", "terry", "did you mean 'model.cell'"),
    ("ensembles: {terry: {size: 2, best: 3}}", "terry", "more members than there are (2)"),
    ("ensembles: {terry: {size: 0}}", "terry", "size: must be a whole number, 1 or more, not 0"),
    ("ensembles: {terry: {size: 2, averge: geometric}}", "terry", "did you mean 'average'"),
    ("ensembles: {terry: {size: 2, average: median}}", "terry", "unknown value 'median'"),
    ("ensembles: {terry: {snapshots: 3}}", "terry", "only 2 newest checkpoints are kept of a run"),
    ("ensembles: {terry: {average_weights: true}}", "terry", "`snapshots:` of 2 or more"),
    ("ensembles: {../terry: {size: 2}}", "terry", "the name of an ensemble must be"),
]  # fmt: skip


@pytest.mark.parametrize(("addition", "place", "expected"), _MISTAKES)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, addition: str, place: str, expected: str) -> None:
    key = addition.split(":")[0]
    head = BASE[: BASE.index("run:")] if key == "run" else BASE
    text = head + addition + "\n"
    message = error(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'sweep.yaml'}:{line_of(text, place)}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [\n", "sweep.yaml:2: not valid YAML"),
        ("- 1", "sweep.yaml:1: is not a sweep file"),
        ("", "is not a sweep file"),
        ("a: &x [*x]\nname: b", "alias contains itself"),
        ("name: a\nname: b\n", "sweep.yaml:2: 'name' stands twice (first in line 1)"),
        ("run: {}\n", "a sweep needs a name"),
        ("name: ../../etc\nrun: {}", "sweep.yaml:1: the sweep name '../../etc' cannot be used"),
        ("name: a-prepare-b\nrun: {}", "none of -prepare-"),
        (f"name: {'x' * 51}", "at most 50 characters"),
        ("name: a\nrun: {}", "name the data set to train on"),
        ("name: a\ndatasets: {x/y: {source: comments.csv}}", "cannot be used"),
        ("name: a\ndatasets:\n  x: {source: gone.csv}", "sweep.yaml:3: datasets.x.source: "),
        (
            "name: a\ndatasets: {x: {source: comments.csv, column: boddy}}",
            "no column 'boddy'; did you mean 'body'",
        ),
        ("name: a\ndatasets: {x: {source: comments.csv, colum: body}}", "did you mean 'column'"),
        ("name: a\ndatasets: {x: {}}", "source must be a path"),
    ],
)
def test_files_that_are_no_sweep(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in error(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        sweep.load(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        sweep.load(tmp_path / "binary.yaml")


def test_a_reference_to_nothing_is_told(tmp_path: Path) -> None:
    text = BASE.replace("hidden_size: 32", "hidden_size: '${run.model.width}'")
    assert "width" in error(tmp_path, text)


# ensembles


def test_size_adds_the_runs_that_are_missing(tmp_path: Path) -> None:
    text = BASE + (
        "sweep: {grid: {model.cell: [rnn, gru], optimizer: [{name: sgd, lr: 0.1}]}}\n"
        "ensembles: {terry: {members: {model.cell: gru}, size: 3, vary: training.seed}}"
    )
    expanded = load(tmp_path, text)
    (ensemble,) = ensembles.plan(expanded)
    by_identity = {run.identity: run.config for run in expanded.runs}
    members = [by_identity[identity] for identity in ensemble.members]
    assert [m["training"]["seed"] for m in members] == [1, 2, 3]
    assert {m["model"]["cell"] for m in members} == {"gru"}
    assert all(m["optimizer"] == members[0]["optimizer"] for m in members)
    assert len(expanded.runs) == 4, "the member that the grid has already is not there twice"


def test_members_without_size_are_all_that_match(tmp_path: Path) -> None:
    text = (
        BASE
        + "sweep: {grid: {model.cell: [rnn, gru], training.seed: [1, 2]}}\nensembles: {g: {members: {model.cell: gru}}}"
    )
    (ensemble,) = ensembles.plan(load(tmp_path, text))
    assert len(ensemble.members) == 2


def test_size_wants_members_of_one_kind(tmp_path: Path) -> None:
    text = BASE + "sweep: {grid: {model.cell: [rnn, gru]}}\nensembles: {g: {size: 3}}"
    assert "match 2 different configurations" in error(tmp_path, text)


def test_an_override_of_what_tells_members_apart_is_refused(tmp_path: Path) -> None:
    assert "come out alike" in error(tmp_path, BASE + "ensembles: {g: {size: 3}}", "training.seed=4")


def test_members_share_one_vocabulary(tmp_path: Path) -> None:
    text = BASE.replace("datasets:\n", "datasets:\n  other: {source: comments.csv, column: body}\n")
    text += "sweep: {grid: {data.dataset: [comments, other]}}\nensembles: {g: {}}\n"
    message = error(tmp_path, text)
    assert "ensembles.g.members: members must share one vocabulary" in message
    assert "`vocabulary_from:`" in message
    (ensemble,) = ensembles.plan(load(tmp_path, text.replace("body}", "body, vocabulary_from: comments}", 1)))
    assert len(ensemble.members) == 2


def test_code_of_ones_own_is_no_member_but_our_own_training_is_named_or_not(tmp_path: Path) -> None:
    ensemble = "ensembles: {g: {size: 2}}\n"
    (tmp_path / "lab.py").write_text("def main(ctx): ...\n")
    own = BASE.replace("run:\n", "run:\n  entrypoint: lab:main\n")
    assert "lab:main is code of your own: only runs that train our models" in error(tmp_path, own + ensemble)
    ours = own.replace("lab:main", "terry.jobs.train:main")
    (found,), (usual,) = (ensembles.plan(load(tmp_path, text + ensemble)) for text in (ours, BASE))
    assert found.members == usual.members, "the same runs"


# identity


def test_identity_is_of_what_decides_the_result(tmp_path: Path) -> None:
    def identity(*overrides: str) -> str:
        return load(tmp_path, BASE, *overrides).runs[0].identity

    same = ["priority=5", "resources.cpus=1", "retry.crash=9", "checkpoint.every=5 s", "threads=2", "time_limit=1 h"]
    assert {identity(o) for o in same} == {identity()}
    others = ["training.seed=2", "model.cell=lstm", "datasets.comments.seed=3", "data.bptt=10"]
    assert len({identity(o) for o in others} | {identity()}) == len(others) + 1


def test_identity_does_not_depend_on_how_a_value_is_written(tmp_path: Path) -> None:
    written = [BASE, BASE.replace("0.001", "1e-3"), BASE.replace("hidden_size: 32", "hidden_size: 0x20")]
    assert len({load(tmp_path, text).runs[0].identity for text in written}) == 1


_AXES = st.dictionaries(
    st.sampled_from(["model.cell", "training.seed", "model.hidden_size", "optimizer.name"]),
    st.just(None),
    min_size=1,
).flatmap(
    lambda keys: st.fixed_dictionaries(
        {
            key: st.lists(
                st.sampled_from(["rnn", "gru", "lstm"])
                if key == "model.cell"
                else st.sampled_from(["sgd", "adam", "rmsprop"])
                if key == "optimizer.name"
                else st.integers(1, 50),
                min_size=1,
                max_size=4,
                unique=True,
            )
            for key in keys
        }
    )
)


@settings(max_examples=60, deadline=None)
@given(grid=_AXES, data=st.data())
def test_any_grid(tmp_path_factory: pytest.TempPathFactory, grid: dict[str, list[Any]], data: st.DataObject) -> None:
    points = [dict(zip(grid, row, strict=True)) for row in itertools.product(*grid.values())]
    out = data.draw(st.lists(st.sampled_from(points), max_size=2))
    chosen = [{k: p[k] for k in data.draw(st.sets(st.sampled_from(sorted(p)), min_size=1))} for p in out]
    kept = [p for p in points if not any(all(p[k] == v for k, v in e.items()) for e in chosen)]
    path = folder(tmp_path_factory.getbasetemp()) / "sweep.yaml"
    path.write_text(BASE + yaml.safe_dump({"sweep": {"grid": grid, "exclude": chosen}}, sort_keys=False))
    if not kept:
        with pytest.raises(UserError, match="every run is excluded"):
            sweep.load(path)
        return
    expanded = sweep.load(path)
    keys = list(grid)
    assert values(expanded, keys[0]) == [p[keys[0]] for p in kept]
    assert len({run.identity for run in expanded.runs}) == len(kept)
    again = sweep.load(path)
    assert [run.identity for run in again.runs] == [run.identity for run in expanded.runs]
