"""Submissions: what they add to a workspace, and what two of one name do."""

from __future__ import annotations

import tarfile
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.typed import flatten
from terry.cluster.core.model import DeviceKind, Job, SpecRef
from terry.cluster.errors import UserError
from terry.cluster.files import durable, inbox
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting import submission as submissions
from terry.jobs.submitting.plan import plan
from terry.jobs.submitting.records import JobLine, KnownJobs
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission, publish
from terry.jobs.sweeps.spec import default_kind
from tests.helpers.sweep_files import BASE, NOW, planned, workspace

GRID = BASE + "sweep: {grid: {model.cell: [rnn, gru], optimizer: [{name: sgd, lr: 0.1}, {name: adam, lr: 0.01}]}}\n"


def lines(place: WorkspacePaths, number: int, sweep: str = "demo") -> list[JobLine]:
    data = (place.submission(sweep, number) / "jobs.jsonl").read_bytes()
    return msgspec.json.Decoder(JobLine).decode_lines(data)


def ids(found: list[JobLine]) -> list[str]:
    return [line.job.id for line in found]


def test_one_line_a_job_what_is_prepared_first(tmp_path: Path) -> None:
    assert publish(workspace(tmp_path), planned(tmp_path, GRID)) == 1
    found = lines(workspace(tmp_path), 1)
    assert ids(found) == ["demo-prepare-comments", "demo-0001", "demo-0002", "demo-0003", "demo-0004"]
    assert [line.job.kind for line in found] == ["prepare", *["train"] * 4]
    assert all(line.job.depends_on == ("demo-prepare-comments",) for line in found[1:])
    assert found[1].inputs == {"comments": "demo-prepare-comments"}
    assert found[1].job.labels == {"cell": "rnn", "optimizer": "sgd"}
    assert found[0].job.entrypoint == "terry.jobs.prepare:main"
    assert found[1].job.entrypoint == "terry.jobs.train:main"


def test_a_line_is_a_job_of_the_queue(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    raw = (workspace(tmp_path).submission("demo", 1) / "jobs.jsonl").read_bytes().splitlines()[1]
    fields = {**msgspec.json.decode(raw)["job"], "spec": SpecRef(path="x", offset=0, length=len(raw))}
    job = msgspec.convert(fields, Job, from_attributes=True)
    assert (job.id, job.sweep, job.owner, job.submitted_at) == ("demo-0001", "demo", "ahab", NOW)


def test_the_controller_is_told_each_time(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    for _ in range(2):
        publish(place, planned(tmp_path, GRID))
    told = [letter.message for letter in inbox.take(place)]
    assert [message.sweep for message in told if isinstance(message, inbox.Submit)] == ["demo", "demo"]


def test_the_same_file_adds_nothing(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    again = planned(tmp_path, GRID)
    assert again.new == 0
    assert [job.new for job in again.jobs] == [False] * 5
    assert publish(workspace(tmp_path), again) == 1
    assert len(workspace(tmp_path).submissions("demo")) == 1


def test_a_grown_file_adds_what_is_new_and_numbers_on(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    grown = planned(tmp_path, GRID.replace("[rnn, gru]", "[rnn, gru, lstm]"))
    assert publish(workspace(tmp_path), grown) == 2
    found = lines(workspace(tmp_path), 2)
    assert ids(found) == ["demo-0005", "demo-0006"], "the data set is prepared already"
    assert {line.config["model"]["cell"] for line in found} == {"lstm"}


def test_an_overlapping_file_is_the_same_experiment(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    assert planned(tmp_path, GRID.replace("[rnn, gru]", "[gru, lstm]")).new == 2


def test_another_experiment_under_the_same_name_is_refused(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    with pytest.raises(UserError, match=r"sweep.yaml:1: .*'demo' already.*training.epochs was .* and is 77.*--extend"):
        planned(tmp_path, GRID, "training.epochs=77")
    assert planned(tmp_path, GRID, "training.epochs=77", options=SubmitOptions(extend=True)).new == 4
    assert planned(tmp_path, GRID, "training.epochs=77", "name=demo2").new == 5


def test_a_changed_data_set_is_prepared_under_another_id(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    options = SubmitOptions(extend=True)
    publish(workspace(tmp_path), planned(tmp_path, GRID, "datasets.comments.lowercase=false", options=options))
    found = lines(workspace(tmp_path), 2)
    assert ids(found)[:2] == ["demo-prepare-comments-2", "demo-0005"]
    assert found[1].job.depends_on == ("demo-prepare-comments-2",)


def test_only_data_sets_in_use_are_prepared(tmp_path: Path) -> None:
    text = GRID.replace("datasets:\n", "datasets:\n  other: {source: comments.csv, column: body}\n")
    found = planned(tmp_path, text.replace("run:\n", "run:\n  data: {dataset: comments}\n"))
    assert [job.id for job in found.jobs if job.kind == "prepare"] == ["demo-prepare-comments"]


def test_two_that_race_both_get_in(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    first = planned(tmp_path, GRID)
    second = planned(tmp_path, GRID.replace("[rnn, gru]", "[gru, lstm]"))
    assert publish(place, first) == 1
    publish_when_number_one_looks_free(place, second)
    assert ids(lines(place, 2)) == ["demo-0005", "demo-0006"]
    assert [p.name for p in place.sweep("demo").iterdir() if p.name.endswith(".tmp")] == []


def publish_when_number_one_looks_free(place: WorkspacePaths, late: submissions.Submission) -> None:
    """Publish as one does that listed the folder before the other's rename."""
    seen = iter([[], *[place.submissions("demo")] * 9])

    class Blind(WorkspacePaths):
        def submissions(self, sweep: str) -> list[tuple[int, Path]]:
            return next(seen)

    assert publish(Blind(place.root), late) == 2


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "publish_folder", full)
    with pytest.raises(OSError, match="No space left"):
        publish(workspace(tmp_path), planned(tmp_path, GRID))
    assert list(workspace(tmp_path).sweep("demo").iterdir()) == []


def test_options_and_resources(tmp_path: Path) -> None:
    options = SubmitOptions(priority=7, hold=True, kind=DeviceKind.GPU)
    found = planned(tmp_path, GRID, options=options)
    assert {line.job.priority for line in found.lines} == {7}
    assert all(line.job.held for line in found.lines)
    assert found.left_open
    assert [line.job.resources.kind for line in found.lines] == [DeviceKind.CPU, *[DeviceKind.GPU] * 4]
    given = planned(tmp_path, GRID, "resources.cpus=2", "time_limit=2 h", "retry.crash=9", options=options)
    assert not given.left_open
    job = given.lines[1].job
    assert (job.resources.cpus, job.resources.gpus, job.time_limit_s, job.retry.crash) == (2.0, 0.0, 7200.0, 9)


def test_a_changed_limit_of_jobs_that_are_there_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID, "time_limit=1 h"))
    assert planned(tmp_path, GRID, "time_limit=1 h").keeping == ""
    found = planned(tmp_path, GRID, "time_limit=2 h", "retry.crash=9")
    assert found.new == 0
    assert found.keeping.startswith("4 jobs that are there keep the time_limit, retry that they have")


def test_a_gpu_is_meant_where_there_is_one() -> None:
    assert default_kind(0, 0) is DeviceKind.CPU
    assert default_kind(2, 0) is default_kind(0, 1) is DeviceKind.GPU


def test_ensembles_are_recorded_by_job(tmp_path: Path) -> None:
    publish(workspace(tmp_path), planned(tmp_path, GRID))
    text = GRID + "ensembles: {terry: {members: {model.cell: gru, optimizer.name: adam}, size: 2}}\n"
    assert publish(workspace(tmp_path), planned(tmp_path, text)) == 2
    info = msgspec.json.decode((workspace(tmp_path).submission("demo", 2) / "submission.json").read_bytes())
    assert info["ensembles"]["terry"]["members"] == ["demo-0004", "demo-0005"]
    smaller = text.replace("size: 2", "size: 1")
    assert [line.job.id for line in planned(tmp_path, smaller).lines] == ["demo-ensemble-terry-2"], "no run is new"
    assert publish(workspace(tmp_path), planned(tmp_path, smaller)) == 3, "the ensemble changed"


OWN = """\
name: own
run: {entrypoint: "my_lab.speech:main", parameters: {steps: 3}}
sweep: {grid: {parameters.rate: [1, 2]}}
"""


def own_code(tmp_path: Path) -> Path:
    lab = tmp_path / "my_lab"
    lab.mkdir(exist_ok=True)
    (lab / "__init__.py").write_text("")
    (lab / "speech.py").write_text("import helper\nimport json\n\ndef main(ctx):\n    pass\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "unused.py").write_text("y = 1\n")
    return lab


def test_own_code_is_copied_with_what_it_imports(tmp_path: Path) -> None:
    own_code(tmp_path)
    place = workspace(tmp_path)
    publish(place, planned(tmp_path, OWN))
    (first, second) = lines(place, 1, "own")
    assert first.job.labels == {"rate": "1"}
    assert first.source == second.source == "sweeps/own/submission-0001/source/0"
    copied = place.root / first.source
    assert sorted(str(p.relative_to(copied)) for p in copied.rglob("*.py")) == [
        "helper.py",
        "my_lab/__init__.py",
        "my_lab/speech.py",
    ]


def test_changed_code_is_another_experiment(tmp_path: Path) -> None:
    own_code(tmp_path)
    publish(workspace(tmp_path), planned(tmp_path, OWN))
    assert planned(tmp_path, OWN).new == 0
    (tmp_path / "helper.py").write_text("x = 2\n")
    with pytest.raises(UserError, match="its code"):
        planned(tmp_path, OWN)


@pytest.mark.parametrize(
    ("entrypoint", "expected"),
    [
        ("my_lab.speech:run", "no function or class 'run'"),
        ("my_lab.text:main", "there is no module my_lab.text"),
        ("no_such_lab:main", "not installed"),
    ],
)
def test_an_entry_point_that_is_not_there(tmp_path: Path, entrypoint: str, expected: str) -> None:
    own_code(tmp_path)
    with pytest.raises(UserError, match=expected):
        planned(tmp_path, OWN.replace("my_lab.speech:main", entrypoint))


def test_code_that_is_not_python_is_told_with_its_line(tmp_path: Path) -> None:
    (own_code(tmp_path) / "speech.py").write_text("def main(ctx):\n    return (\n")
    with pytest.raises(UserError, match=r"speech.py:2: not valid Python"):
        planned(tmp_path, OWN)


def test_what_0_1_submitted_is_there_already(tmp_path: Path) -> None:
    """Written by version 0.1 (tests/data/sweeps): submitted again, the file adds nothing, and means the same."""
    with tarfile.open(Path(__file__).parents[3] / "data" / "sweeps" / "0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    workspace = WorkspacePaths(tmp_path / "workspace")
    given = ["training.log_every=20", "resources.node=a*"]
    found = prepare_submission(workspace, tmp_path / "sweep.yaml", given, SubmitOptions(), NOW, "ahab")
    assert (len(found.jobs), found.new, found.plan.new_ensembles, found.keeping) == (18, 0, False, "")
    jobs = workspace.submission("before", 1) / "jobs.jsonl"
    before = {line.job.id: line for line in msgspec.json.Decoder(JobLine).decode_lines(jobs.read_bytes())}
    again = plan(found.asked, KnownJobs(WorkspacePaths(tmp_path / "empty"), "before"))
    assert {line.job.id for line in again.lines} == set(before)
    for line in again.lines:
        now = flatten(msgspec.json.decode(msgspec.json.encode(line.config)))  # new settings may have come
        then = flatten(before[line.job.id].config) | {"folder": str(tmp_path)}
        assert {key: now.get(key) for key in then if key in now} == {key: then[key] for key in then if key in now}
        assert set(then) - set(now) <= {"folder"}
        assert line.job.identity == before[line.job.id].job.identity


def test_each_job_says_whether_it_does_without_torch(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def main(ctx): ...\n")
    (tmp_path / "deep.py").write_text("import torch\n\ndef main(ctx): ...\n")
    runs = '[{"entrypoint": "plain:main"}, {"entrypoint": "deep:main"}, {"command": "ls"}]'
    text = f'{{"name": "s", "sweep": {{"list": {runs}}}}}'
    publish(workspace(tmp_path), planned(tmp_path, text))
    lines = (workspace(tmp_path).submission("s", 1) / "jobs.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=JobLine).job.light for line in lines] == [True, False, True]
