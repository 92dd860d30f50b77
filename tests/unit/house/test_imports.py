"""Nothing imports in a circle: no module and no package, imports inside functions and for type checkers included."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOTS = ("terry.cluster", "terry.jobs", "terry.logs", "terry.models", "terry.data_prep")

Graph = Mapping[str, frozenset[str]]


@cache
def imports() -> Graph:
    """Module -> what it imports of ours."""
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    return {module: frozenset(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def merged(graph: Graph, name: Callable[[str], str]) -> Graph:
    """The graph of what modules are parts of."""
    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        found.setdefault(name(module), set()).update(name(other) for other in others)
    return {module: frozenset(others - {module}) for module, others in found.items()}


def circles(graph: Graph) -> Iterator[tuple[str, ...]]:
    """What is left when all that imports nothing of the rest has been taken away, again and again, from both sides."""
    left = {module: set(others) for module, others in graph.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        gone = {module for module, others in left.items() if not others & left.keys() or module not in imported}
        if not gone:
            break
        left = {module: others - gone for module, others in left.items() if module not in gone}
    if left:
        yield tuple(sorted(left))


def package(module: str) -> str:
    """`terry.cluster.cli.main` is part of `terry.cluster.cli`."""
    return ".".join(module.split(".")[:3])


@pytest.mark.parametrize("name", [str, package], ids=["modules", "packages"])
def test_nothing_imports_in_a_circle(name: Callable[[str], str]) -> None:
    """What two parts of a circle share belongs into a third."""
    assert list(circles(merged(imports(), name))) == []


def test_a_circle_is_found() -> None:
    """The search itself: a circle behind a tail, and a tail behind a circle."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert list(circles({module: frozenset(others) for module, others in graph.items()})) == [("b", "c")]


CONTRACTS = {
    contract["name"]: contract
    for contract in tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}


@pytest.mark.parametrize(
    ("contract", "others"),
    [
        ("Only the actors import Ray", {"terry.cluster.actors"}),
        (
            "The runner knows nothing of jobs, models, data or views; only a person's side does",
            {"terry.cluster.cli", "terry.cluster.api", "terry.cluster.client"},
        ),
    ],
)
def test_a_new_package_is_named_in_each_contract(contract: str, others: set[str]) -> None:
    """What is forbidden to all but a few is forbidden to a package that comes new, too."""
    named = {name for name in CONTRACTS[contract]["source_modules"] if name.startswith("terry.cluster.")} | others
    assert named == {package(module) for module in imports() if module.startswith("terry.cluster.")}


def test_exceptions_are_few() -> None:
    """Each one is a hole in the design."""
    assert sum(len(contract.get("ignore_imports", ())) for contract in CONTRACTS.values()) <= 2
