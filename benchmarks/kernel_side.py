"""One side of `benchmarks.kernels`, trained by turns. Arguments: side, then what a shape there has, then threads.

Run by its path, so that other builds and environments can be sides. SIDE: kernels, torch, compile (a Trainer; where
there is no choice of kernels yet, as it is), plain (torch.nn), jax (jit, lax.scan, optax; rows projected once where
that pays). Each line on its input is a number of steps; answered by the CPU seconds and the seconds that they took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

#: So often must a row be looked up on average to be projected once for all.
REPEATED = 4


def tokens(vocabulary: int) -> np.ndarray:
    """As often as words are."""
    weights = 1 / np.arange(1, vocabulary + 1)
    return np.random.default_rng(1).choice(vocabulary, size=100_000, p=weights / weights.sum()).astype(np.uint16)


def batches(vocabulary: int, rows: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Inputs and targets (steps, rows), and whether the state begins anew; round and round."""
    found = tokens(vocabulary)
    length = len(found) // rows
    data = found[: length * rows].reshape(rows, length)
    for begin in cycle(range(0, length - 1 - steps, steps)):
        window = np.ascontiguousarray(data[:, begin : begin + steps + 1].T)
        yield window[:-1], window[1:], begin == 0


def of_trainer(
    kernels: str, cell: str, units: int, vocabulary: int, rows: int, steps: int, optimizer: str, threads: int
) -> Callable[[int], None]:
    """This package's own training loop, guards and all."""
    from terry.data_prep.batches import StreamBatches
    from terry.models.config import ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
    from terry.models.protocols import Hooks
    from terry.models.trainer import Trainer

    class Turn(Hooks):
        until = step = 0

        def progress(self, step: int, *_: object) -> None:
            self.step = step

        def should_stop(self) -> bool:
            return self.step >= self.until

    turn, how = Turn(), {"kernels": kernels} if hasattr(TrainingConfig, "kernels") else {}
    if how:
        from terry.models.config import Kernels

        how = {"kernels": Kernels.torch, "compile": True} if kernels == "compile" else {"kernels": Kernels(kernels)}
    data = StreamBatches(tokens(vocabulary), batch_size=rows, bptt=steps)
    rate = 0.1 if optimizer == "sgd" else 1e-3
    trainer = Trainer(
        ModelConfig(cell=cell, hidden_size=units, embedding_size=units),
        OptimizerConfig(name=Optimizer(optimizer), lr=rate),
        TrainingConfig(epochs=10**6, threads=threads, **how), vocabulary, data, None, "cpu", turn,
    )  # fmt: skip

    def take(count: int) -> None:
        turn.until = turn.step + count
        trainer.run()

    return take


def of_plain(
    cell: str, units: int, vocabulary: int, rows: int, steps: int, optimizer: str, threads: int
) -> Callable[[int], None]:
    """torch.nn's module, cross-entropy and fused optimizer."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    embedding, output = nn.Embedding(vocabulary, units), nn.Linear(units, vocabulary)
    recurrent = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](units, units)
    weights = [*embedding.parameters(), *recurrent.parameters(), *output.parameters()]
    moves: torch.optim.Optimizer = torch.optim.SGD(weights, lr=0.1, fused=True)
    if optimizer == "adam":
        moves = torch.optim.Adam(weights, lr=1e-3, fused=True)
    data, state = batches(vocabulary, rows, steps), None

    def take(count: int) -> None:
        nonlocal state
        for _ in range(count):
            x, y, fresh = next(data)
            outputs, after = recurrent(embedding(torch.from_numpy(x.astype(np.int64))), None if fresh else state)
            state = tuple(part.detach() for part in after) if cell == "lstm" else after.detach()
            targets = torch.from_numpy(y.astype(np.int64)).reshape(-1)
            loss = functional.cross_entropy(output(outputs).view(-1, vocabulary), targets)
            moves.zero_grad(set_to_none=True)
            loss.backward()
            moves.step()

    return take


def step_of_jax(cell: str, w: Any, state: Any, x: Any) -> tuple[Any, Any]:
    """One step in time of one layer, from the projected input (rows, gates x units): the state after it, the output."""
    import jax
    from jax import numpy as jnp

    h = state[0] if cell == "lstm" else state
    g, units = h @ w["recurrent"], h.shape[1]
    if cell == "rnn":
        after = jnp.tanh(x + g)
        return after, after
    if cell == "gru":
        r, z = jax.nn.sigmoid(x[:, : 2 * units] + g[:, : 2 * units]).reshape(-1, 2, units).swapaxes(0, 1)
        n = jnp.tanh(x[:, 2 * units :] + r * (g[:, 2 * units :] + w["inner"]))
        after = n + z * (h - n)
        return after, after
    i, f, a, o = jnp.split(x + g, 4, 1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(a)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def of_jax(
    cell: str, units: int, vocabulary: int, rows: int, steps: int, optimizer: str, threads: int
) -> Callable[[int], None]:
    """The whole step jitted, its memory given away."""
    import os

    one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
    os.environ["XLA_FLAGS"], os.environ["JAX_PLATFORMS"] = one, "cpu"
    if threads == 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    import jax
    import optax
    from jax import numpy as jnp

    gates, draw = {"rnn": 1, "gru": 3, "lstm": 4}[cell], np.random.default_rng(1)

    def uniform(bound: float, *shape: int) -> Any:
        return jnp.asarray(draw.uniform(-bound, bound, shape).astype(np.float32))

    bound = units**-0.5
    weights = {
        "embedding": uniform(0.1, vocabulary, units), "inputs": uniform(bound, units, gates * units),
        "recurrent": uniform(bound, units, gates * units), "bias": uniform(bound, gates * units),
        "inner": uniform(bound, units), "output": uniform(0.1, units, vocabulary), "last": jnp.zeros(vocabulary),
    }  # fmt: skip

    def loss_of(w: Any, x: Any, y: Any, state: Any) -> tuple[Any, Any]:
        if rows * steps >= REPEATED * vocabulary:
            projected = (w["embedding"] @ w["inputs"] + w["bias"])[x]
        else:
            projected = w["embedding"][x] @ w["inputs"] + w["bias"]
        state, outputs = jax.lax.scan(lambda s, p: step_of_jax(cell, w, s, p), state, projected)
        scores = outputs.reshape(-1, units) @ w["output"] + w["last"]
        chosen = jnp.take_along_axis(scores, y.reshape(-1, 1), 1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=1) - chosen).mean(), state

    moves = optax.adam(1e-3) if optimizer == "adam" else optax.sgd(0.1)

    def whole(w: Any, memory: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        (_, after), gradient = jax.value_and_grad(loss_of, has_aux=True)(w, x, y, state)
        change, memory = moves.update(gradient, memory, w)
        return optax.apply_updates(w, change), memory, after

    jitted = jax.jit(whole, donate_argnums=(0, 1, 2))

    def zeros() -> Any:
        return (jnp.zeros((rows, units)), jnp.zeros((rows, units))) if cell == "lstm" else jnp.zeros((rows, units))

    data, memory, state = batches(vocabulary, rows, steps), moves.init(weights), zeros()

    def take(count: int) -> None:
        nonlocal weights, memory, state
        for _ in range(count):
            x, y, fresh = next(data)
            state = zeros() if fresh else state
            weights, memory, state = jitted(weights, memory, state, x.astype(np.int32), y.astype(np.int32))
        jax.block_until_ready(weights)

    return take


def main() -> None:
    """Serve turns."""
    side, cell, *numbers, optimizer = sys.argv[1:8]
    threads = int(sys.argv[8])
    units, vocabulary, rows, steps = map(int, numbers)
    given = (cell, units, vocabulary, rows, steps, optimizer, threads)
    makers: dict[str, Callable[..., Callable[[int], None]]] = {"plain": of_plain, "jax": of_jax}
    take = makers[side](*given) if side in makers else of_trainer({"kernels": "native"}.get(side, side), *given)
    for line in sys.stdin:
        cpu, clock = time.process_time(), time.perf_counter()
        take(int(line))
        print(time.process_time() - cpu, time.perf_counter() - clock, flush=True)


if __name__ == "__main__":
    main()
