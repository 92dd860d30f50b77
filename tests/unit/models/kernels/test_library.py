"""The border: which library is used, what is refused before any memory is touched, dropout's generator."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from terry.models.config import Kernels, ModelConfig, Precision, TrainingConfig
from terry.models.errors import ConfigError
from terry.models.kernels import library
from terry.models.kernels.chosen import choose
from terry.models.kernels.operations import Operations, Rule
from tests.unit.models.kernels.network import at_level, levels, needs_kernels

CPU = torch.device("cpu")


def test_without_a_library_torch_computes_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    assert choose(ModelConfig(), TrainingConfig(), CPU) == library.find()
    assert "not built" in library.describe()
    with pytest.raises(ConfigError, match=r"training\.kernels: native cannot be: not built"):
        choose(ModelConfig(), TrainingConfig(kernels=Kernels.native), CPU)


@needs_kernels
def test_a_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in library._FOLDER.iterdir():
        if path.suffix in (".c", ".h", ".so"):
            shutil.copy(path, tmp_path)
    (tmp_path / "run.c").write_text("/* changed */")
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    assert library.describe() == "torch (built from other sources than these: `pip install -e .` again)"


@needs_kernels
def test_it_can_be_turned_off_and_held_below_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.VARIABLE, "off")
    assert library.describe() == "torch (turned off by TERRY_KERNELS=off)"
    monkeypatch.setenv(library.VARIABLE, "portable")
    found = library.find()
    assert not isinstance(found, str)
    assert found.level == 0


@pytest.mark.parametrize(
    ("model", "training", "why"),
    [
        (ModelConfig(cell="torch.nn:GRUCell"), TrainingConfig(), "model.cell"),
        (ModelConfig(), TrainingConfig(precision=Precision.bf16), "training.precision"),
        (ModelConfig(), TrainingConfig(compile=True), "training.compile"),
        (ModelConfig(), TrainingConfig(kernels=Kernels.torch), "training.kernels"),
    ],
)
def test_what_only_torch_can_do_is_done_by_torch(model: ModelConfig, training: TrainingConfig, why: str) -> None:
    assert why in str(choose(model, training, CPU))


def test_on_a_gpu_torch_computes() -> None:
    assert "cuda" in str(choose(ModelConfig(), TrainingConfig(), torch.device("cuda")))
    with pytest.raises(ConfigError, match="cuda"):
        choose(ModelConfig(), TrainingConfig(kernels=Kernels.native), torch.device("cuda"))


@needs_kernels
def test_a_tensor_that_is_too_small_or_of_another_kind_is_refused() -> None:
    operations = Operations(at_level(levels()[-1]))
    small, ids = torch.zeros(10), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="tensor 1 has 10 numbers"):
        operations.copy_rows(torch.zeros(20), small, rows=3, source_row=5, columns=5, to_row=16)
    with pytest.raises(ValueError, match="float32 is needed"):
        operations.zero(torch.zeros(4, dtype=torch.float64), 4)
    with pytest.raises(ValueError, match="contiguous"):
        operations.zero(torch.zeros(4, 4).t(), 16)
    with pytest.raises(ValueError, match="must not be negative"):
        operations.check_ids(ids, -1, 5)
    with pytest.raises(ValueError, match="not padded"):
        operations.weight_slopes(
            torch.zeros(64), torch.zeros(64), torch.zeros(64), torch.arange(1), rows=2, gates=1, units=5, row=16,
            columns=5, x_row=5,
        )  # fmt: skip
    with pytest.raises(ValueError, match="each of them once"):
        operations.lay_out_backward(small, small, torch.tensor([0, 0]), gates=2, units=1, inputs=1)
    with pytest.raises(ValueError, match="needs its memory"):
        operations.update(
            Rule.adam, small, small, (None, None), torch.zeros(4, dtype=torch.float64), (0.0, 0.9, 0.99, 1e-8)
        )


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10, written from the paper."""
    low = 0xFFFFFFFF
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k[0], b & low, (a >> 32) ^ x[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return x


def test_the_reference_gives_the_published_numbers() -> None:
    """Known answers of Random123, the authors' own implementation."""
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@needs_kernels
@pytest.mark.parametrize("level", levels())
def test_masks_are_those_of_the_reference(level: int) -> None:
    seed, step, site, share = 2**40 + 5, 77, 3, 0.4
    operations = Operations(at_level(level))
    clock, found = torch.tensor([seed, step]), torch.zeros(3, 70)
    operations.dropout(torch.ones(3, 70), found, clock, rows=3, columns=70, share=share, site=site)
    operations.run(1)
    limit, keep = int(share * 2**32), torch.tensor(1 / (1 - share), dtype=torch.float32)
    for row in range(3):
        for column in range(70):
            block, lane = divmod(row * 128 + column, 4)
            number = philox([block, site << 16, step, 0], [seed & 0xFFFFFFFF, seed >> 32])[lane]
            assert found[row, column] == (0 if number < limit else keep)
