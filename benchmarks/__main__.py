"""All benchmarks, or those that are named, one after another; what they measure goes into RESULTS.md.

    python -m benchmarks [NAME…] [--into FILE] [--list]

Each has a place of its own in the file, between `<!-- measured: NAME -->` and `<!-- end of NAME -->`: it is replaced by
the date, the machine, its load before and after, the command and what the command printed. What people wrote around it
stays. A benchmark that fails changes nothing, and the others still run; exit code 1 then. All of them take hours.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from terry.cluster.files import durable
from terry.cluster.host import hardware as node_probe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One of them."""

    title: str  #: of its section, where the file has none yet
    module: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """As a person types it."""
        return " ".join(["python", "-m", f"benchmarks.{self.module}", *self.arguments])


#: In the order in which they run: what is quick first.
BENCHMARKS = {
    "submit": Benchmark(title="Submitting and looking", module="submit"),
    "watch": Benchmark(title="The dashboard", module="watch"),
    "journal": Benchmark(title="The queue's core", module="journal"),
    "sampling": Benchmark(title="Sampling", module="sampling"),
    "eta": Benchmark(title="ETA", module="eta"),
    "seeds": Benchmark(title="Error bars", module="seeds"),
    "export": Benchmark(title="Export to MLflow", module="export"),
    "peers": Benchmark(title="Many short trainings, beside what people use instead", module="peers"),
    "small-jobs": Benchmark(title="The first seconds, and small jobs", module="small_jobs"),
    "recovery": Benchmark(title="Recovery, beside Ray Tune", module="recovery"),
    "data-prep": Benchmark(title="Data preparation", module="data_prep"),
    "data-prep-memory": Benchmark(
        title="Data preparation: memory", module="data_prep", arguments=("--memory-mb", "1000")
    ),
    "simulation": Benchmark(title="The scheduler of a large lab, simulated", module="simulation"),
    "agents": Benchmark(title="Many agents", module="agents"),
    "soak": Benchmark(title="Thousands of tiny real jobs", module="soak"),
    "kernels": Benchmark(title="Kernels, beside torch", module="kernels"),
    "training": Benchmark(title="Training, beside plain PyTorch", module="training"),
    "ensemble": Benchmark(title="Ensembles", module="ensemble"),
    "power-cuts": Benchmark(title="A thousand power cuts", module="power_cuts"),
    "two-heads": Benchmark(title="Two heads that start at once", module="two_heads"),
    "footprint": Benchmark(title="What a job leaves on disk", module="footprint"),
    "chaos": Benchmark(title="The chaos run", module="chaos"),
}


def placed(page: str, name: str, title: str, text: str) -> str:
    """The page with the text at the benchmark's place; a section is added at the end where there is none."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{text.strip()}\n{end}"
    before, found, rest = page.partition(begin)
    if not found:
        return f"{page.rstrip()}\n\n## {title}\n\n{block}\n"
    _, closed, after = rest.partition(end)
    if not closed:
        raise ValueError(f"{begin} has no {end}")
    return f"{before}{block}{after}"


def measured(benchmark: Benchmark) -> str | None:
    """Run it: when, where, how, and what it printed; None where it failed."""
    before, begun = os.getloadavg()[0], time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *benchmark.arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    took, load = time.monotonic() - begun, f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
    where = f"{node_probe.cpu_model()}, {node_probe.cpu_cores()} cores, Python {platform.python_version()}"
    return f"{date.today()}, {where}; `{benchmark.command}`, {took:.0f} s; load {load}.\n\n{done.stdout}"  # noqa: DTZ011


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="those to run; left out: all")
    parser.add_argument("--into", type=Path, default=RESULTS, help="the file that is written; default: RESULTS.md")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    options = parser.parse_args()
    if options.list:
        print(*(f"{name:18} {each.command}" for name, each in BENCHMARKS.items()), sep="\n")
        return 0
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed = []
    for name in options.names or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name].command}", file=sys.stderr, flush=True)
        text = measured(BENCHMARKS[name])
        if text is None:
            failed.append(name)
            continue
        page = options.into.read_text(encoding="utf-8") if options.into.exists() else "# What was measured\n"
        durable.write_bytes(options.into, placed(page, name, BENCHMARKS[name].title, text).encode(), mode=0o644)
    print(f"failed: {', '.join(failed)}" if failed else f"all in {options.into}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
