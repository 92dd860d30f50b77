"""The command line starts fast: nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("ray", "torch", "submitit", "matplotlib", "numpy", "polars", "rich", "yaml", "omegaconf", "psutil", "pydantic")


def imported(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import terry.cluster.cli.main",
        "from terry.cluster.cli.main import run; run(['--help'])",
        "from terry.cluster.cli.main import run; run(['-w', '/nonexistent', 'status'])",
        "from terry.cluster import Workspace; Workspace.open('/nonexistent').jobs()",
        "import terry.cluster.client.reader, terry.logs.text.status, terry.logs.text.story, terry.logs.records.results",
    ],
)
def test_leaves_heavy_modules_out(code: str) -> None:
    """Also while it shows help, and all that `status` needs."""
    assert not imported(code) & set(HEAVY)


def test_help_needs_little_of_our_own() -> None:
    """What reads a workspace is imported where one is read."""
    ours = {m for m in imported("import terry.cluster.cli.main") if m.startswith("terry.cluster.")}
    rooms = {module.split(".")[2] for module in ours}
    assert rooms <= {"cli", "core", "errors", "files", "host"}
    assert {m for m in ours if m.startswith("terry.cluster.files.")} <= {
        "terry.cluster.files.links",
        "terry.cluster.files.paths",
    }


def test_help_of_every_verb() -> None:
    """Each verb says what it does; those that take names show an example."""
    from terry.cluster.cli.main import VERBS, run

    for verb in VERBS:
        assert verb.name is not None
        assert run([verb.name, "--help"]) == 0
        summary = verb.get_short_help_str(80)
        assert summary.endswith((".", "?")) or "..." not in summary, f"{verb.name}: {summary}"
