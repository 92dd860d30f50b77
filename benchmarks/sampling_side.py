"""One side of `benchmarks.sampling`'s turns: draws tokens from a GRU. Arguments: side, units, vocabulary, rows.

SIDE: ours (the package that is installed, this one or an earlier build), jax (jit, a batch that always stays full).
Each line on its input is a number of tokens to draw at least; answered by CPU seconds and seconds a token.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

END, LENGTH = 1, 20


def of_ours(units: int, vocabulary: int, at_once: int) -> Callable[[int], int]:
    """Texts of about 20 words, each by numbers of its own."""
    import math

    import torch

    from terry.models.config import ModelConfig
    from terry.models.ensemble import Ensemble
    from terry.models.language_model import LanguageModel

    try:
        from terry.models.sample_text import Sampler, Shape
    except ImportError:  # before it had that name
        from terry.models.sampling import Sampler, Shape  # type: ignore[import-not-found, no-redef]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(cell="gru", hidden_size=units, embedding_size=units), vocabulary)
    with torch.no_grad():
        model.output_bias[END] = math.log(vocabulary / LENGTH)
    sampler, turn = Sampler(Ensemble([model.eval()])), 0
    shape = Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}), max_words=400)

    def take(tokens: int) -> int:
        nonlocal turn
        turn += 1
        texts = sampler.draw(shape, max(1, tokens // LENGTH), seed=turn, batch_size=at_once)
        return sum(text.drawn for text in texts)

    return take


def of_jax(units: int, vocabulary: int, at_once: int) -> Callable[[int], int]:
    """float32; all rows go on for ever, so that none is computed in vain."""
    import os

    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    import jax
    import numpy as np
    from jax import numpy as jnp

    draw = np.random.default_rng(1)
    shapes = {"e": (vocabulary, units), "w": (units, 3 * units), "u": (units, 3 * units), "o": (units, vocabulary)}
    w: dict[str, Any] = {
        name: jnp.asarray(draw.uniform(-0.1, 0.1, shape).astype(np.float32)) for name, shape in shapes.items()
    }

    def step(w: Any, h: Any, token: Any, key: Any) -> tuple[Any, Any, Any]:
        x, g = w["e"][token] @ w["w"], h @ w["u"]
        r, z = (jax.nn.sigmoid(x[:, i * units : (i + 1) * units] + g[:, i * units : (i + 1) * units]) for i in (0, 1))
        n = jnp.tanh(x[:, 2 * units :] + r * g[:, 2 * units :])
        h = n + z * (h - n)
        key, mine = jax.random.split(key)
        scores = h @ w["o"]
        sums = jnp.exp(scores - scores.max(1, keepdims=True)).cumsum(1)
        wanted = jax.random.uniform(mine, (at_once, 1)) * sums[:, -1:]
        return h, jax.vmap(lambda row, at: jnp.searchsorted(row, at, side="right")[0])(sums, wanted), key

    jitted = jax.jit(step, donate_argnums=(1, 2, 3))
    h, token, key = jnp.zeros((at_once, units)), jnp.full(at_once, END), jax.random.key(1)

    def take(tokens: int) -> int:
        nonlocal h, token, key
        steps = max(1, tokens // at_once)
        for _ in range(steps):
            h, token, key = jitted(w, h, token, key)
            np.asarray(token)  # someone must see whether a text has ended
        return steps * at_once

    return take


def main() -> None:
    """Serve turns."""
    side, *numbers = sys.argv[1:5]
    take = {"ours": of_ours, "jax": of_jax}[side](*map(int, numbers))
    for line in sys.stdin:
        cpu, clock = time.process_time(), time.perf_counter()
        drawn = take(int(line))
        print((time.process_time() - cpu) / drawn, (time.perf_counter() - clock) / drawn, flush=True)


if __name__ == "__main__":
    main()
