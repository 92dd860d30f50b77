"""The documentation: it builds without a warning, and what is generated of it covers what the program has."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from terry.cluster.cli.main import VERBS
from terry.cluster.config import terry_yaml as config
from terry.cluster.config.nodes import GROUPS
from terry.cluster.config.policy import PolicyFile
from terry.cluster.config.typed import all_keys
from terry.jobs.sweeps.spec import SweepFile
from tests.helpers.doc_blocks import Block, Command, agrees, blocks, like_page

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(generate: ModuleType, name: str) -> str:
    return str(generate.on_page_markdown((DOCS / name).read_text()))


def configurations(kind: Any, place: str = "") -> Iterator[tuple[type, str]]:
    """A dataclass, and all that its fields are made of, each with where it stands in the file."""
    if dataclasses.is_dataclass(kind):
        yield typing.cast("type", kind), place
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.metadata.get("key") != "":  # "": not for people
                yield from configurations(hints[field.name], f"{place}.{field.name}".lstrip("."))
    for inner in typing.get_args(kind):
        yield from configurations(inner, f"{place}.NAME" if typing.get_origin(kind) is dict else place)


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    """Every link and anchor leads somewhere; every page is in the navigation."""
    # Not --quiet: what is not said is not counted either.
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "<code>clip_norm</code>" in (tmp_path / "reference" / "sweep-file.html").read_text()
    assert "<!-- settings" not in (tmp_path / "reference" / "sweep-file.html").read_text()


def test_every_setting_of_a_sweep_file_is_in_the_reference(generate: ModuleType) -> None:
    """With a word on what it means."""
    text = page(generate, "reference/sweep-file.md")
    owners = list(configurations(SweepFile))
    assert len(owners) > 12
    for owner, place in owners:
        section = text.partition(f"\n## {place or 'The file'}\n")[2].partition("\n## ")[0]
        assert "\n".join(generate.settings_lines(owner, place)) in section, place
        comments = generate.field_comments(owner)
        assert all(comments[field.name] for field in dataclasses.fields(owner)), (owner, comments)


def test_every_key_of_terry_yaml_is_in_the_reference(generate: ModuleType) -> None:
    text = page(generate, "reference/terry-yaml.md")
    keys = [key for kind in (config.File, PolicyFile, *GROUPS.values()) for key in all_keys(kind)]
    assert len(keys) > 40
    for key in {key.rpartition(".")[2] for key in keys}:
        assert f"{key}:" in text or f"`{key}`" in text, key


def test_every_verb_and_option_is_in_the_reference(generate: ModuleType) -> None:
    """In the order of the help."""
    text = page(generate, "reference/verbs.md")
    for verb in VERBS:
        assert f"## {verb.name}\n" in text
        for parameter in verb.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[0] in text, (verb.name, parameter.opts)


def test_what_the_python_reference_shows_is_marked_as_public() -> None:
    """In `__all__` of its module; views are reached by what returns them."""
    shown = re.findall(r"^<!-- api: ([\w.]+):(\w+) -->$", (DOCS / "reference" / "python.md").read_text(), re.MULTILINE)
    assert len(shown) >= 6
    for module, name in shown:
        if not module.startswith("terry.logs.view"):
            assert name in importlib.import_module(module).__all__, f"{module}.{name}"


def test_a_setting_says_what_it_takes(generate: ModuleType) -> None:
    """Key, kind, default, meaning, the choices with theirs; a link to settings of its own."""
    text = page(generate, "reference/sweep-file.md")
    assert "| `epochs` | whole number | `10` | passes over the training data |" in text
    assert "| `model` | [settings](#runmodel) |  | the network |" in text
    assert "<br>`bf16`: bfloat16 autocast" in text
    assert "| `every` | number or text | `60 s` |" in text


# the pages as programs: tests/integration/test_documentation.py runs them


def test_blocks_of_a_page() -> None:
    """Files, commands with their output, cells; what is not to be run is left out."""
    text = (
        '```yaml title="a.yaml"\nname: a\n```\n\n```console\n$ one\nsays\n$ two \\\n  more\n```\n\n<!-- not run -->\n'
        "```sh\nreboot\n```\n1. list\n\n   ```sh\n   three\n   ```\n\n```text\nno\n```\n"
    )
    found = blocks(text)
    assert [(b.language, b.title, b.line, b.text) for b in found if b.language != "console"] == [
        ("yaml", "a.yaml", 2, ["name: a"]),
        ("sh", "", 19, ["three"]),
    ]
    assert found[1].commands == [Command("one", ["says"]), Command("two \\\n  more")]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a  1.25 3m12s 5.7k", "a 2.5   42s 830"),
        ("cells-0001 running", "cells-0002 running"),
        ("one\n...\nthree", "one\ntwo\ntwo\nthree"),
        ("...", ""),
        ("x\n⠤⠤⠤", "x\n⡇⠤⠤"),
    ],
)
def test_output_agrees_but_for_what_may_differ(shown: str, printed: str) -> None:
    """Numbers, durations, spaces, curves."""
    assert agrees(shown.splitlines(), printed.splitlines())


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("3 new jobs", "3 jobs"), ("a", ""), ("", "a"), ("a\n...", "b"), ("a\nb", "b\na"), ("...\nz", "x\ny")],
)
def test_output_that_does_not_agree(shown: str, printed: str) -> None:
    """Words, and the order of lines."""
    assert not agrees(shown.splitlines(), printed.splitlines())


def test_what_a_network_writes_is_counted_only() -> None:
    """Its words differ from one kind of CPU to another."""
    assert blocks("<!-- words vary -->\n```console\n$ sample\n```\n")[0].varies
    assert agrees(["the whale"], ["a sea"], varies=True)
    assert not agrees(["the whale"], ["a sea", "of oil"], varies=True)


def test_a_reader_may_wait() -> None:
    """Where a person would have been slower."""
    assert [(b.language, b.text) for b in blocks("<!-- until: test -e x -->\n")] == [("until", ["test -e x"])]


def test_folders_are_shown_as_a_readers(tmp_path: Path) -> None:
    """Not as those of the node that ran it."""
    assert like_page(f"wrote {tmp_path}/a.png  \n", tmp_path) == ["wrote /home/ahab/terry/a.png"]


def test_every_page_that_is_run_has_something_to_run() -> None:
    """A block in a language of its own would be passed over in silence."""
    known = {"yaml", "console", "sh", "python", "text", "mermaid"}
    for path in DOCS.rglob("*.md"):
        languages = [
            line.strip()[3:].split()[0]
            for line in path.read_text().splitlines()
            if line.strip()[3:] and line.strip().startswith("```")
        ]
        assert set(languages) <= known, (path, languages)
    assert isinstance(blocks((DOCS / "first.md").read_text())[0], Block)
