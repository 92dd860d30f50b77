"""Pre-trained vectors are looked at when a sweep is read: are they there, and do they fit the model?"""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.jobs.sweeps import sweep
from tests.helpers.sweep_files import sweep_file

VECTORS = """\
name: a
datasets:
  x: {source: comments.csv, column: body, embeddings: words.vec}
run:
  model: {cell: gru, embedding_size: 3}
"""


@pytest.mark.parametrize(
    ("vectors", "overrides", "expected"),
    [
        (None, [], "sweep.yaml:3: datasets.x.embeddings: "),
        ("the 1 2 3\n", [], None),
        ("400000 3\nthe 1 2 3\n", [], None),
        ("", [], None),  # what is wrong with it is found out when it is read
        ("the 1 2 3 4\n", [], "sweep.yaml:5: run.model.embedding_size: must be 4, not 3: so many numbers have the vec"),
        ("400000 4\n", ["model.embedding_size=5"], "model.embedding_size=5: must be 4, not 5"),
        ("the 1 2 3\n", ["model.input=onehot"], "model.input=onehot: one-hot input has no place for the vectors of"),
        ("the 1 2\n", ["entrypoint=my.lab:main"], None),
    ],
)
def test_vectors_are_there_and_fit_the_model(
    tmp_path: Path, vectors: str | None, overrides: list[str], expected: str | None
) -> None:
    if vectors is not None:
        (tmp_path / "words.vec").write_text(vectors)
    path = sweep_file(tmp_path, VECTORS)
    if expected is None:
        assert len(sweep.load(path, overrides).runs) == 1
        return
    with pytest.raises(UserError) as caught:
        sweep.load(path, overrides)
    assert expected in str(caught.value)
