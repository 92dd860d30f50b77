"""`simulate`: how long a sweep, or a trace of jobs, would take on a cluster that need not exist."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import ExitCode, Session, print_json, print_lines
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.simulation.engine import Arrival, SimulationOutcome, World
    from terry.cluster.simulation.traces import Nodes


#: A device on which different jobs crashed is drained until a person takes it back: here after so long (seconds).
_UNDRAINED_AFTER_S = 3600.0


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--nodes", "nodes", metavar="NxG", multiple=True, required=True, help="128x8: 128 nodes of 8 GPUs.")
@click.option("--duration", metavar="TIME", help="Of a run: '20 min', or a range '10 min..2 h'.")
@click.option("--policy", "policy_file", metavar="FILE", type=click.Path(path_type=Path), help="A terry.yaml to try.")
@click.option("--crash-every", metavar="TIME", help="Mean time of running between two crashes of a job.")
@click.option("--node-fails-every", metavar="TIME", help="Mean time between two deaths of a node.")
@click.option("--seed", metavar="N", type=int, default=1, help="Another seed, other crashes.")
@click.pass_obj
def simulate(
    current: Session,
    file: Path,
    overrides: tuple[str, ...],
    *,
    nodes: tuple[str, ...],
    duration: str | None,
    policy_file: Path | None,
    crash_every: str | None,
    node_fails_every: str | None,
    seed: int,
) -> int:
    """Play a sweep through on a cluster that need not exist.

    \b
    FILE is a sweep file, or a trace of jobs (*.csv: submitted, seconds, user, gpus ...; Helios, Alibaba).
    Scheduler and state machine are the real ones, the policy is the workspace's. Runs take as long as
    finished runs of the sweep in this workspace did, else `--duration`.
    Example: terry-cluster simulate sweep.yaml --nodes 4x8:A100 --nodes old=2x4:V100@0.5 --duration 20min..2h
    """
    from terry.cluster.client.simulating import document_of, policy_of
    from terry.cluster.simulation.engine import Simulation, World
    from terry.cluster.simulation.traces import nodes_of

    cluster = nodes_of(nodes)
    world = World(
        devices=cluster.devices,
        speeds=cluster.speeds,
        crash_every_s=_time(crash_every, "--crash-every"),
        node_fails_every_s=_time(node_fails_every, "--node-fails-every"),
        undrain_after_s=_UNDRAINED_AFTER_S,
        seed=seed,
    )
    arrivals = _arrivals(current, file, overrides, cluster, duration, seed)
    simulation = Simulation(world, arrivals, policy_of(current.workspace, policy_file))
    outcome = simulation.run(_progress(len(arrivals)))
    if current.as_json:
        print_json(document_of(outcome))
    else:
        print_lines(_lines(outcome, world))
    return ExitCode.FAILED if outcome.unplaced or outcome.failed else ExitCode.DONE


def _time(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    from terry.cluster.config.words import seconds

    try:
        value = seconds(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
    if not value:
        raise UserError(f"{option} must be more than 0")
    return value


def _arrivals(
    current: Session, file: Path, overrides: tuple[str, ...], cluster: Nodes, duration: str | None, seed: int
) -> list[Arrival]:
    from terry.cluster.simulation.traces import read_trace

    if file.suffix.lower() == ".csv":
        if overrides or duration:
            raise UserError("a trace says itself what ran how long: give no KEY=VALUE and no --duration with it")
        return read_trace(file)
    from terry.cluster.client.simulating import sweep_arrivals

    if not file.is_file():
        raise UserError(f"there is no file {file}; give a sweep file or a trace (*.csv)")
    return sweep_arrivals(current.workspace, file, overrides, cluster, _range(duration) if duration else None, seed)


def _range(text: str) -> tuple[float, float]:
    low, separator, high = text.partition("..")
    first = _time(low, "--duration")
    last = _time(high, "--duration") if separator else first
    assert first is not None
    assert last is not None
    if last < first:
        raise UserError(f"--duration: {high.strip()} is less than {low.strip()}")
    return first, last


def _progress(jobs: int) -> Any:
    """Says on a terminal how far the play is."""
    if not sys.stderr.isatty():
        return None

    def tick(seconds: float, ended: int) -> None:
        sys.stderr.write(f"\r{ended:,} of {jobs:,} jobs ended; day {seconds / 86400:.1f}  ")
        if ended >= jobs - 1:
            sys.stderr.write("\n")
        sys.stderr.flush()

    return tick


# what is told


def _lines(outcome: SimulationOutcome, world: World) -> list[str]:
    from terry.cluster.client.simulating import document_of
    from terry.logs.format import duration, plural

    document = document_of(outcome)
    nodes = len({device.node for device in world.devices})
    wait = document["wait_s"]
    lines = [
        f"{plural(outcome.jobs, 'job')} on {plural(nodes, 'node')}: {outcome.completed:,} completed"
        + (f", {outcome.failed:,} failed" if outcome.failed else "")
        + (f", {len(outcome.unplaced):,} or more never ran" if outcome.unplaced else ""),
        f"  makespan     {duration(outcome.makespan_s)}",
        f"  waiting      median {duration(wait['median'])}, 95% under {duration(wait['p95'])}, "
        f"longest {duration(wait['most'])}",
    ]
    for kind, use in document["utilisation"].items():
        if use["whole"]:
            busy = use["while_jobs_waited"]
            rest = "" if busy is None else f", {busy:.1%} while jobs waited for one"
            noun = "GPUs" if kind == "gpu" else "CPU cores"
            lines.append(f"  {noun:<12} {use['whole']:.1%} of {use['devices']:g} in use on average{rest}")
    lines += [f"  restarts     {outcome.restarts:,}"] if outcome.restarts else []
    lines += [f"  preempted    {plural(outcome.preempted, 'time')}"] if outcome.preempted else []
    lines += [f"  nodes died   {plural(outcome.node_deaths, 'time')}"] if outcome.node_deaths else []
    if outcome.drained:
        lines.append(f"  drained      {plural(outcome.drained, 'device')}, each given back after 1 h as by a person")
    users = [entry for entry in document["device_hours"] if entry["hours"]]
    if len({entry["user"] for entry in users}) > 1:
        most = sorted(users, key=lambda entry: -entry["hours"])[:10]
        mean = {entry["user"]: duration(entry["mean"]) for entry in document["user_wait_s"]}
        for name, hours, kind in ((entry["user"], entry["hours"], entry["kind"]) for entry in most):
            lines.append(f"  {name:<12} {hours:,.1f} {kind}-hours, waited {mean[name]} on average")
    plan = document["planning_ms"]
    lines.append(f"  planning     {plan['median']:.2f} ms a turn, 99% under {plan['p99']:.2f} ms")
    return lines + [f"  never ran    {job_id}: {why}" for job_id, why in list(outcome.unplaced.items())[:5]]
