"""`python -m benchmarks`: each result finds its place, and what people wrote stays."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, RESULTS, placed

ROOT = Path(__file__).parents[3]


def test_a_result_replaces_the_one_before() -> None:
    """And nothing else of the page."""
    page = "# Measured\n\n## A\n\nwords\n\n<!-- measured: a -->\nold\n<!-- end of a -->\n\nmore words\n"
    assert placed(page, "a", "A", "new\n") == page.replace("old", "new")


def test_a_result_without_a_place_gets_a_section() -> None:
    """At the end."""
    page = placed("# Measured\n", "a", "A title", "1")
    assert page == "# Measured\n\n## A title\n\n<!-- measured: a -->\n1\n<!-- end of a -->\n"


def test_a_place_without_an_end_is_refused() -> None:
    """All that follows would be lost."""
    with pytest.raises(ValueError, match="has no <!-- end of a -->"):
        placed("<!-- measured: a -->\nold\n", "a", "A", "new")


def test_each_benchmark_is_there() -> None:
    """A module that can be run."""
    for each in BENCHMARKS.values():
        assert importlib.util.find_spec(f"benchmarks.{each.module}") is not None


def test_the_places_of_the_results_file_are_whole() -> None:
    """So that a run of all can write them."""
    page = RESULTS.read_text()
    for name, each in BENCHMARKS.items():
        assert "MEASURED" in placed(page, name, each.title, "MEASURED")


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """With those that there are."""
    command = [sys.executable, "-m", "benchmarks", "sumbit", "--into", str(tmp_path / "r.md")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no benchmark sumbit; there are submit, watch" in done.stderr
    assert not (tmp_path / "r.md").exists()
