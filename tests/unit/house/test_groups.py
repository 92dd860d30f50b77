"""Which tests `make test` runs side by side: what would be in each other's way is in one group."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GROUPS, group_of

ROOT = Path(__file__).parents[3]


def _using(words: str) -> list[str]:
    found = (ROOT / "tests").rglob("test_*.py")
    names = [path.relative_to(ROOT).as_posix() for path in found if words in path.read_text()]
    return [name for name in names if not name.startswith("tests/unit/house/")]


def test_whatever_starts_a_bed_is_in_the_group_of_beds() -> None:
    files = _using("from tests.testbed")
    assert len(files) > 5
    assert {group_of(f"{name}::test_x") for name in files} == {"beds"}


def test_a_file_that_is_not_named_is_a_group_of_its_own() -> None:
    assert (
        group_of("tests/unit/cluster/core/test_waiting.py::test_x[a::b]") == "tests/unit/cluster/core/test_waiting.py"
    )
    assert group_of("tests/faults/test_spine.py::TestX::test_y") == "clusters"


@pytest.mark.parametrize("pattern", [pattern for patterns in GROUPS.values() for pattern in patterns])
def test_every_pattern_has_files(pattern: str) -> None:
    assert list(ROOT.glob(pattern))
