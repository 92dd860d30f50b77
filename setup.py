"""Builds the compiled kernels (models/kernels) where a C compiler is. Where none is, the install goes on without them.

All else stands in pyproject.toml. The library is called by ctypes: it knows nothing of Python's or torch's version, so
neither headers of Python are needed to build it, nor one wheel for each Python.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path(__file__).parent / "models" / "kernels"


def _library() -> ModuleType:
    """models/kernels/library.py, which needs nothing but the standard library."""
    spec = importlib.util.spec_from_file_location("library", FOLDER / "library.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    """One plain library, under the name that library.py looks for."""

    def get_ext_filename(self, fullname: str) -> str:
        """Without the version of Python in it."""
        return str(Path(*fullname.split("."))) + ".so"


class Wheel(bdist_wheel):
    """For any Python 3 on this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """(Python, ABI, platform)."""
        return "py3", "none", super().get_tag()[2]


def _extension() -> Extension:
    """Flags come last, behind what an environment asks for: without them the bits would not be the same everywhere."""
    exact = ["-std=gnu11", "-O3", "-fno-fast-math", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
    return Extension(
        "terry.models.kernels._kernels",
        sources=[str(path.relative_to(Path(__file__).parent)) for path in sorted(FOLDER.glob("*.c"))],
        depends=[str(path.relative_to(Path(__file__).parent)) for path in sorted(FOLDER.glob("*.h"))],
        define_macros=[("SOURCES", f'"{_library().sources_sha256(FOLDER)}"')],
        extra_compile_args=[*exact, "-fPIC", "-g0", "-Wno-psabi"],
        libraries=["pthread", "m"],
        optional=True,
    )


KNOWN = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")

setup(ext_modules=[_extension()] if KNOWN else [], cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel})
