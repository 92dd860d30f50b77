"""One source, many processors: the same bits, and no step beyond an array.

bits.c runs random cases of every operation on arrays of exactly the sizes that the border demands, and hashes what they
leave. Here a few of them; it takes any number.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from terry.models.kernels import library

HERE = Path(__file__).parent
FLAGS = ("-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
#: First cases, by number: all five kinds of them.
CASES = 30

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are those of x86-64"),
    pytest.mark.timeout(900),
]


def build(folder: Path, compiler: str, *flags: str) -> Path:
    """The program, made of the kernels' own sources."""
    program = folder / f"bits-{compiler}"
    sources = [*sorted(map(str, library._FOLDER.glob("*.c"))), str(HERE / "bits.c")]
    command = [compiler, *FLAGS, *flags, f"-I{library._FOLDER}", *sources, "-o", str(program), "-lpthread", "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    return program


def outcome(*command: str) -> str | None:
    """The hash; None where this processor has no such level."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return None
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(tmp_path_factory.mktemp("native"), "gcc", "-O3"))


@pytest.fixture(scope="module")
def expected(native: str) -> str | None:
    return outcome(native, "0", "0", str(CASES), "1")


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_and_threads(native: str, expected: str | None, level: int, threads: int) -> None:
    found = outcome(native, str(level), "0", str(CASES), str(threads))
    if found is None:
        pytest.skip("this processor has no such level")
    assert found == expected


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="no cross compiler for 64-bit Arm")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="no qemu-user")
def test_64_bit_arm(tmp_path: Path, expected: str | None) -> None:
    program = build(tmp_path, "aarch64-linux-gnu-gcc", "-O3", "-static")
    assert outcome("qemu-aarch64", str(program), "0", "0", str(CASES), "1") == expected


def test_no_step_beyond_an_array_and_nothing_undefined(tmp_path: Path) -> None:
    sanitizers = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = str(build(tmp_path, "gcc", *sanitizers))
    for level, threads in ((0, 1), (1, 2), (2, 1)):
        outcome(program, str(level), "0", str(CASES), str(threads))


@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_nothing_is_read_that_was_not_written(native: str) -> None:
    """At the level that valgrind knows: AVX-512 it does not."""
    outcome("valgrind", "-q", "--error-exitcode=1", native, "1", "0", "10", "1")
