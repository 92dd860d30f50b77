"""`training.compile` where there is no compiler. What it changes, and what not: tests/integration/models."""

from __future__ import annotations

import pytest

from terry.models.config import TrainingConfig
from terry.models.errors import ConfigError
from tests.helpers import toy


def test_without_a_compiler_it_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match=r"^training\.compile needs a C\+\+ compiler, and no-such-compiler is not found"
    ):
        toy.trainer(training=TrainingConfig(compile=True))
