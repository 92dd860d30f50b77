"""The house: what is shipped, and what is imported when."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("cluster", "data_prep", "jobs", "logs", "models")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tracked sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(source / name)], check=True)
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
    assert shipped == sources
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
