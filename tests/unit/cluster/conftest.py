"""Fixtures: a world with a controller, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.cli.main import run
from tests.helpers.world import OWN_CODE, World


@dataclass(frozen=True, slots=True)
class Said:
    """What a verb answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


Terry = Callable[..., Said]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A workspace with a controller, in `tmp_path/runs`."""
    made = World(tmp_path)
    yield made
    made.controller.close()


@pytest.fixture
def terry(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terry:
    """`terry-cluster`, run from `tmp_path`; the workspace is `tmp_path/runs`. No Ray is ever started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whaling.py").write_text(OWN_CODE)
    monkeypatch.setenv("TERRY_WORKSPACE", str(tmp_path / "runs"))
    monkeypatch.delenv("TERRY_DEBUG", raising=False)
    monkeypatch.setattr("terry.cluster.lifecycle.up.ensure_up", lambda *_, **__: False)

    def call(*arguments: str) -> Said:
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err or code == 70
        return Said(code, out, err)

    return call
