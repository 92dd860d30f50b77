"""The house: what is shipped, and what is imported when."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("cluster", "data_prep", "jobs", "logs", "models")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tracked sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*FOLDERS, "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(source / name)], check=True)
    for built in source.rglob("*.so"):  # by an editable install
        built.unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_module_below_terry(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        f"terry/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    built = {"terry/models/kernels/_kernels.so"} if shutil.which("cc") or shutil.which("gcc") else set()
    assert shipped == sources | built
    assert len(sources) > 50


def test_the_wheel_brings_no_module_with_a_common_name(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"terry"}


def test_the_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "terry-cluster = terry.cluster.cli.main:run" in wheel.read(entry_points).decode()


@pytest.mark.parametrize(
    "module", ["terry.cluster.cli.main", "terry.jobs.sweeps.spec", "terry.models.config", "terry.data_prep.config"]
)
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", script]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.split()
    assert module in found
    assert not {"ray", "torch", "submitit", "matplotlib", "numpy", "polars", "tensorboard"} & set(found)


def test_type_checkers_see_the_folders_by_their_import_names() -> None:
    for folder in FOLDERS:
        assert (ROOT / ".typing" / "terry" / folder).resolve() == (ROOT / folder).resolve()


# what is imported, and what is declared


def declared(extra: str | None = None) -> set[str]:
    """Distributions that pyproject.toml names: those that Terry needs, or those of an extra and of what it includes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    found: set[str] = set()
    for line in lines:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line).groups()  # type: ignore[union-attr]
        found |= set().union(*(declared(each) for each in extras.split(","))) if extras else {canonical(name)}
    return found


def canonical(name: str) -> str:
    """A distribution's name as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: str) -> dict[str, str]:
    """Distributions that the modules of these folders import, each with one of those modules."""
    providers, found = packages_distributions(), {}
    ours = {"terry", "tests", *(path.stem for path in (ROOT / "tests" / "helpers").glob("*.py"))}
    ours |= {path.stem for path in (ROOT / "benchmarks").glob("*.py")} | {"benchmarks"}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.split(".")[0] for name in names} - ours - sys.stdlib_module_names:
                for distribution in providers.get(name, [name]):
                    found[canonical(distribution)] = str(path.relative_to(ROOT))
    return found


def test_what_is_imported_is_declared() -> None:
    found = imported(*FOLDERS)
    optional = set().union(*map(declared, ("mlflow", "pandas", "search", "wandb")))
    assert {name: path for name, path in found.items() if name not in declared() | optional} == {}


def test_what_is_declared_is_imported() -> None:
    """A dependency that no shipped module imports is an extra, or nothing."""
    assert declared() - set(imported(*FOLDERS)) == set()


def test_what_tests_import_is_declared() -> None:
    found = imported("tests", "docs")
    assert {name: path for name, path in found.items() if name not in declared() | declared("dev")} == {}
