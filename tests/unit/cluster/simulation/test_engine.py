"""The played cluster: exact where the answer is known, sound where it is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from terry.cluster.core.model import DeviceKind, JobState, Resources
from terry.cluster.core.policy import Policy, Preemption
from terry.cluster.core.state_document import validate
from terry.cluster.errors import UserError
from terry.cluster.simulation.engine import Arrival, Simulation, SimulationOutcome, World
from terry.cluster.simulation.traces import made_up_job, nodes_of, read_trace

GPU = Resources(gpus=1)


def arrivals(*seconds: float, at_s: float = 0.0, owner: str = "ann", **job: object) -> list[Arrival]:
    return [
        Arrival(
            at_s=at_s,
            job=made_up_job(f"{owner}-{at_s:g}-{i}", "s", **{"resources": GPU, "owner": owner, **job}),  # type: ignore[arg-type]
            seconds=s,
        )
        for i, s in enumerate(seconds)
    ]


def play(nodes: str, jobs: list[Arrival], policy: Policy | None = None, **world: object) -> SimulationOutcome:
    """Validates the state after each turn."""
    given = World(devices=nodes_of([nodes]).devices, **world)  # type: ignore[arg-type]
    return Simulation(given, jobs, policy, probe=lambda s: validate(s.state)).run()


def test_four_equal_jobs_on_two_gpus_take_twice_as_long_as_one() -> None:
    outcome = play("1x2", arrivals(100, 100, 100, 100), start_s=2.0)
    assert (outcome.completed, outcome.failed, outcome.makespan_s) == (4, 0, 204.0)
    assert sorted(outcome.waits_s.values()) == [0, 0, 102, 102]
    assert outcome.used_s == {(DeviceKind.GPU, "ann"): 408.0}
    assert outcome.contended_used_s[DeviceKind.GPU] == outcome.contended_there_s[DeviceKind.GPU] == 204.0


def test_what_nobody_waits_for_is_not_contended() -> None:
    outcome = play("1x2", [*arrivals(10), *arrivals(10, at_s=50.0)])
    assert outcome.makespan_s == 60.0
    assert outcome.contended_there_s == {}


def test_a_fast_model_takes_less_time() -> None:
    world = nodes_of(["1x1:A100@2"])
    assert Simulation(World(devices=world.devices, speeds=world.speeds), arrivals(100)).run().makespan_s == 50.0


def test_a_crash_costs_what_was_done_since_the_last_checkpoint() -> None:
    calm = play("1x1", arrivals(*[1000.0] * 20))
    rough = play("1x1", arrivals(*[1000.0] * 20), crash_every_s=400.0, checkpoint_s=50.0)
    assert calm.makespan_s == 20_000.0
    assert rough.completed == 20
    assert rough.restarts > 20
    waited = 50.0 * rough.restarts + 300.0 * rough.restarts  # at most: lost work and back-off
    assert 20_000.0 < rough.makespan_s < 20_000.0 + waited
    assert rough == replace(
        play("1x1", arrivals(*[1000.0] * 20), crash_every_s=400.0, checkpoint_s=50.0), plan_s=rough.plan_s
    )


def test_nodes_die_and_come_back_and_all_jobs_get_done() -> None:
    jobs = arrivals(*[3000.0] * 24)
    outcome = play("4x2", jobs, node_fails_every_s=4000.0, node_back_after_s=500.0)
    assert outcome.node_deaths > 2
    assert outcome.completed == 24


def test_a_job_that_nothing_could_hold_is_named_and_the_play_ends() -> None:
    jobs = [*arrivals(10), *arrivals(10, owner="bob", resources=Resources(gpus=1, device="H100"))]
    outcome = play("1x1", jobs, node_fails_every_s=1000.0)
    assert outcome.completed == 1
    assert outcome.unplaced == {"bob-0-0": "waits for a GPU: none online matches device 'H100'"}


def test_preemption_lets_the_important_first_and_loses_nothing() -> None:
    jobs = [*arrivals(1000.0), *arrivals(100.0, at_s=50.0, owner="bob", priority=9)]
    calm = play("1x1", jobs)
    keen = play("1x1", jobs, Policy(preemption=Preemption(after_s=10.0)))
    assert calm.ends_s == {"ann-0-0": 1000.0, "bob-50-0": 1100.0}
    assert keen.preempted == 1
    assert keen.ends_s == {"bob-50-0": 165.0, "ann-0-0": 1100.0}, "5 s to leave, and nothing is done twice"


def test_longest_first_shortens_the_whole() -> None:
    """A long one was submitted last; of each kind one has run before."""
    jobs = [
        replace(a, job=replace(a.job, labels={"size": "large" if a.seconds > 100 else "small"}))
        for a in arrivals(100, 1000, 100, 100, *[100] * 20, 1000)
    ]
    assert play("1x2", jobs).makespan_s < play("1x2", jobs, Policy(longest_first=False)).makespan_s


def test_users_have_equal_shares_while_both_want_all() -> None:
    rng = random.Random(3)
    greedy = arrivals(*(rng.uniform(50, 400) for _ in range(300)), owner="ann")
    modest = arrivals(*(rng.uniform(50, 400) for _ in range(60)), owner="bob")
    shares = {}

    def probe(simulation: Simulation) -> None:
        if "share" not in shares and simulation.now_s > 1500.0:
            used = simulation.used_s()
            shares["share"] = used[DeviceKind.GPU, "bob"] / used.total()

    Simulation(World(devices=nodes_of(["1x8"]).devices), [*greedy, *modest], probe=probe).run()
    assert shares["share"] == pytest.approx(0.5, abs=0.03)


def test_shares_over_a_day_are_as_the_weights_say_within_two_per_cent() -> None:
    rng = random.Random(4)
    jobs = [job for owner in ("ann", "bob", "eve", "zoe") for job in arrivals(*_minutes(rng, 700), owner=owner)]
    shares: dict[str, float] = {}

    def probe(simulation: Simulation) -> None:
        if simulation.now_s >= 86_400.0 and not shares:
            used = simulation.used_s()
            shares.update({owner: seconds / used.total() for (_, owner), seconds in used.items()})

    world = World(devices=nodes_of(["2x4"]).devices)
    Simulation(world, jobs, Policy(user_weights={"zoe": 2.0}), probe=probe).run()
    assert shares == pytest.approx({"ann": 0.2, "bob": 0.2, "eve": 0.2, "zoe": 0.4}, rel=0.02)


def _minutes(rng: random.Random, count: int) -> list[float]:
    return [rng.uniform(300, 1500) for _ in range(count)]


def test_a_play_is_the_same_each_time_and_another_seed_makes_another() -> None:
    def played(seed: int) -> tuple[dict[str, float], int, int]:
        rng = random.Random(9)
        jobs = [*arrivals(*_minutes(rng, 40)), *arrivals(*_minutes(rng, 20), owner="bob", priority=5)]
        rough = {"crash_every_s": 2000.0, "node_fails_every_s": 4000.0, "seed": seed}
        outcome = play("2x2", jobs, Policy(preemption=Preemption(after_s=30.0)), **rough)
        return outcome.ends_s, outcome.events, outcome.node_deaths

    assert played(1) == played(1)
    assert played(1) != played(2)


def test_random_worlds_stay_sound() -> None:
    for seed in range(4):
        rng = random.Random(seed)
        jobs = [
            Arrival(
                at_s=float(at),
                job=made_up_job(
                    f"j-{i}",
                    rng.choice("ab"),
                    rng.choice([GPU, Resources(gpus=0.25), Resources(cpus=4), Resources(gpus=0.5, exclusive=True)]),
                    owner=rng.choice(["ann", "bob"]),
                    priority=rng.choice([0, 0, 5]),
                    labels={"n": rng.choice("xyz")},
                ),
                seconds=rng.expovariate(1 / 300),
            )
            for i, at in enumerate(sorted(rng.uniform(0, 3000) for _ in range(60)))
        ]
        policy = Policy(preemption=Preemption(after_s=30.0) if seed % 2 else None, aging_s=600.0)
        outcome = play("2x2", jobs, policy, crash_every_s=1500.0, node_fails_every_s=5000.0, seed=seed, turn_s=0.2)
        assert outcome.completed == 60, f"seed {seed}"


# input


def test_nodes_as_people_write_them() -> None:
    found = nodes_of(["2x2", "new=1x1:NVIDIA H100@3.5", "4x0"])
    gpus = [d for d in found.devices if d.kind is DeviceKind.GPU]
    assert [d.id for d in gpus] == ["node001:0", "node001:1", "node002:0", "node002:1", "new001:0"]
    assert len(found.devices) == 5 + 7
    assert found.speeds == {"NVIDIA H100": 3.5}


@pytest.mark.parametrize("text", ["8", "x8", "2x", "-1x8", "0x8", "2x4@fast", "2x4:A@0", "99999x99999", "a b=1x1"])
def test_what_names_no_nodes(text: str) -> None:
    with pytest.raises(UserError):
        nodes_of([text])
    with pytest.raises(UserError, match="same names"):
        nodes_of(["a=1x1", "a=2x1"])


HELIOS = """job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1,ann,vc1,1,1,1,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:41:01,2020-06-10 04:55:09,36848,0
2,bob,vc2,4,16,1,FAILED,2020-06-09 18:41:27,2020-06-09 18:41:27,2020-06-09 18:45:36,249,0
3,bob,vc2,0,4,1,COMPLETED,2020-06-09 18:40:58,2020-06-09 18:41:27,2020-06-09 18:45:36,249,0
"""
ALIBABA = """name,cpu_milli,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
openb-pod-0022,4000,1,220,,BE,Running,100,400,130
openb-pod-0035,16000,1,1000,G3,LS,Running,110,200,110
openb-pod-0036,16000,1,1000,V100M16|V100M32,LS,Pending,110,200,
"""


def test_public_traces_are_read_as_published(tmp_path: Path) -> None:
    (tmp_path / "helios.csv").write_text(HELIOS)
    found = read_trace(tmp_path / "helios.csv")
    assert [(a.at_s, a.seconds, a.job.owner, a.job.sweep) for a in found[:2]] == [
        (0.0, 249.0, "bob", "vc2"),
        (3.0, 36848.0, "ann", "vc1"),
    ]
    assert [a.job.resources for a in found] == [Resources(cpus=4), *[Resources(gpus=1)] * 5]
    (tmp_path / "alibaba.csv").write_text(ALIBABA)
    first, second = read_trace(tmp_path / "alibaba.csv")
    assert (first.at_s, first.seconds, first.job.resources) == (0.0, 270.0, Resources(gpus=0.22))
    assert (second.at_s, second.seconds, second.job.resources) == (10.0, 90.0, Resources(gpus=1, device="G3"))


def test_a_trace_of_ones_own(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("submitted,seconds,user,gpus,priority,memory_gb\n5,10,ann,0.5,-3,12\n0,20,bob,,,\n")
    second, first = read_trace(trace)[1], read_trace(trace)[0]
    assert (first.job.resources, first.at_s, first.job.owner) == (Resources(cpus=1), 0.0, "bob")
    assert (second.at_s, second.job.priority, second.memory_bytes) == (5.0, -3, 12 * 10**9)
    outcome = Simulation(World(devices=nodes_of(["1x1"]).devices), read_trace(trace)).run()
    assert outcome.makespan_s == 20.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "t.csv:1: a trace needs the columns `submitted` and `seconds`; this one has: a, b"),
        ("", "this one has: nothing"),
        ("submitted,seconds\n1,x\n", "t.csv:2: seconds must be a number, not 'x'"),
        ("submitted,seconds\nsoon,1\n", "t.csv:2: submitted must be seconds, or a date and time, not 'soon'"),
        ("submitted,seconds\n1,-1\n", "t.csv:2: seconds cannot be -1"),
        ("submitted,seconds\n1,0\n", "no job of it ran for any time"),
        ('submitted,seconds\n1,1\n1,"2\n', "t.csv:3: this is not CSV"),
        ("submitted,seconds\nnan,1\n", "t.csv:2: submitted cannot be nan: it is in seconds"),
        ("submitted,seconds\n1770000000000,1\n", "t.csv:2: submitted cannot be 1770000000000: it is in seconds"),
        ("submitted,seconds\n1,1e11\n", "t.csv:2: seconds cannot be 1e11"),
        ("submitted,start_time,end_time\n0,0,1e10\n", "t.csv:2: end_time cannot be 1e+10 s after the begin"),
        ("submitted,seconds,gpus\n1,1,1e11\n", "t.csv:2: gpus cannot be 1e11"),
        ("submitted,seconds,priority\n1,1,0.5\n", "t.csv:2: priority must be a whole number, not '0.5'"),
        ("submitted,seconds,user\n1,1\n", "t.csv:2: has another number of values"),
        ("submitted,seconds\n1,1,ann\n", "t.csv:2: has another number of values"),
    ],
)
def test_a_bad_trace_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_trace(tmp_path / "t.csv")
    assert said in str(error.value)


def test_no_state_but_the_known_ones_is_left() -> None:
    simulation = Simulation(World(devices=nodes_of(["1x1"]).devices), arrivals(1, 2, 3))
    simulation.run()
    assert {record.state for record in simulation.state.jobs.values()} == {JobState.COMPLETED}
    assert not simulation.state.on_device
