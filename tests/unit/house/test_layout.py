"""Where a module's tests are: `cluster/files/journal.py` has `tests/unit/cluster/files/test_journal.py`.

A second file of the same module adds a word: `test_loop_takeover.py` is about `loop.py`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "tests" / "unit"
THEMES = {
    "cluster/cli/test_errors.py": "every verb: a mistake is one line and exit code 2",
    "cluster/cli/test_read_only.py": "verbs that look, on a copy that cannot be written, without Ray",
    "data_prep/test_large_texts.py": "all of data preparation, on large texts",
    "data_prep/test_words.py": "from text to tokens and back: tokens, segment, lexicon, vocabulary",
    "jobs/test_examples.py": "the files in examples/",
    "models/test_first_release.py": "checkpoints that the first release wrote",
}


def _files() -> list[str]:
    found = sorted(path.relative_to(UNIT).as_posix() for path in UNIT.rglob("test_*.py"))
    return [name for name in found if not name.startswith("house/")]


def _mirrors(name: str) -> bool:
    """Whether a test file is named after a module of the folder that its own folder mirrors."""
    path = PurePath(name)
    subject = path.stem.removeprefix("test_")
    modules = (module.stem for module in (ROOT / path.parent).glob("*.py"))
    return any(subject == module or subject.startswith(f"{module}_") for module in modules)


@pytest.mark.parametrize("name", _files())
def test_a_test_file_is_named_after_a_module_or_on_the_list_of_themes(name: str) -> None:
    assert _mirrors(name) != (name in THEMES), (
        f"tests/unit/{name}: call it test_MODULE.py or test_MODULE_THEME.py, in the folder that mirrors MODULE's; "
        f"what is about no one module is named in {Path(__file__).name}"
    )


def test_no_theme_is_listed_that_is_gone() -> None:
    assert set(THEMES) <= set(_files())


@pytest.mark.parametrize("name", ["cluster/files/test_journals.py", "cluster/test_journal.py", "test_journal.py"])
def test_a_file_in_the_wrong_place_is_found(name: str) -> None:
    assert not _mirrors(name)


def _contents(package: Path) -> set[str]:
    """Names of a package's modules and, with a slash, of its packages."""
    modules = {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
    return modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize(
    "package",
    sorted(
        path.parent.relative_to(ROOT).as_posix()
        for top in ("cluster", "jobs", "logs")
        for path in (ROOT / top).rglob("__init__.py")
    ),
)
def test_a_package_says_in_a_line_what_is_in_each_of_its_modules(package: str) -> None:
    document = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    assert document is not None
    listed = re.findall(r"^(\w+/?) {2,}\S", document, re.MULTILINE)
    assert set(listed) == _contents(ROOT / package), f"{package}/__init__.py: one line a module, `name  what it is`"
