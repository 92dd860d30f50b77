"""What watches a training: first loss, NaN and infinity, spikes, weights that hardly move or jump, an idle device.

All but the exact search for NaN looks at the device only where the trainer synchronises with it anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from terry.models.errors import NotFinite
from terry.models.language_model import LanguageModel

#: The first loss may differ from ln(vocabulary) by this share of it.
FIRST_LOSS_TOLERANCE = 0.1
#: A record's loss this much above the running mean is a spike.
SPIKE = 1.3
#: A loss this many times ln(vocabulary) is no better than a guess: something is far off.
HOPELESS = 1.1
#: Records before losses and update ratios are judged: the first steps are restless.
SETTLED = 5
#: Sound lengths of an update relative to the weights: about 1e-3.
RATIO_RANGE = (1e-4, 1e-2)
#: A device less busy than this is reported, once.
IDLE = 0.5


class Guard:
    """Judges numbers; returns what a person should be told. Each kind of warning is given once per tensor."""

    def __init__(self, vocabulary_size: int) -> None:
        self._expected = math.log(vocabulary_size)
        self._mean = 0.0
        self._records = 0
        self._reported: set[str] = set()
        self._idle_reported = False  # no part of the memory that is saved: two equal runs may differ in it

    def first_loss(self, loss: float) -> list[str]:
        """An untrained model should be as good as a uniform guess."""
        if abs(loss - self._expected) <= FIRST_LOSS_TOLERANCE * self._expected:
            return []
        return [
            f"the first loss is {number(loss)}; an untrained model should have about ln(vocabulary) = "
            f"{self._expected:.3f}: initial weights are too large, or the data repeats itself"
        ]

    def record(self, step: int, loss: float, ratios: Mapping[str, float], *, share: float = 1.0) -> list[str]:
        """A record's mean loss, and update ratios by parameter.

        share: the learning rate as a part of the one that was set. Where warm-up or a schedule made it smaller, small
        updates are meant to be.
        """
        self._records += 1
        settled = self._records > SETTLED
        found = []
        if settled and loss > SPIKE * self._mean:
            found.append(f"step {step}: the loss jumped to {number(loss)} from {number(self._mean)}")
        self._mean = loss if self._records == 1 else 0.9 * self._mean + 0.1 * loss
        if settled:
            hopeless = loss > HOPELESS * self._expected
            found += self._worse_than_a_guess(step, loss) if hopeless else []
            # What is thrown far off hardly moves either, and needs no higher rate.
            found += self._outside(step, ratios, least=0.0 if hopeless else RATIO_RANGE[0] * share)
        return found

    def _worse_than_a_guess(self, step: int, loss: float) -> list[str]:
        if not self._first_time("hopeless"):
            return []
        return [
            f"step {step}: the loss is {number(loss)}, worse than a uniform guess, ln(vocabulary) = "
            f"{self._expected:.3f}: a lower learning rate or smaller initial weights may help"
        ]

    def _outside(self, step: int, ratios: Mapping[str, float], *, least: float) -> list[str]:
        """Tensors whose updates are too small or too large, those together that are so for the first time."""
        low, high = RATIO_RANGE
        slow = [name for name, ratio in ratios.items() if ratio < least and self._first_time(f"slow {name}")]
        fast = [name for name, ratio in ratios.items() if ratio > high and self._first_time(f"fast {name}")]
        found = []
        for names, wrong, advice in (
            (slow, f"below {low:g}", "it hardly learns; a higher learning rate may help"),
            (fast, f"above {high:g}", "it jumps; a lower learning rate may help"),
        ):
            if names:
                listed = ", ".join(f"{name} ({ratios[name]:.1e})" for name in names)
                found.append(f"step {step}: update by weight is {wrong} (1e-3 is healthy) in {listed}: {advice}")
        return found

    def utilisation(self, share: float | None, device: str) -> list[str]:
        """How busy the device is."""
        if share is None or share >= IDLE or self._records <= SETTLED or self._idle_reported:
            return []
        self._idle_reported = True
        return [f"{device} is busy {share:.0%} of the time: the batches are small, or others hold this process up"]

    def _first_time(self, key: str) -> bool:
        """Whether this is not told yet."""
        if key in self._reported:
            return False
        self._reported.add(key)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Its memory, plain JSON."""
        return {"mean": self._mean, "records": self._records, "told": sorted(self._reported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with this memory."""
        self._mean, self._records = float(state["mean"]), int(state["records"])
        self._reported = set(state["told"])


def number(loss: float) -> str:
    """A loss for a person: three digits after the point, the magnitude alone where it is absurd."""
    return f"{loss:.3f}" if abs(loss) < 1e6 else f"{loss:.2e}"


def lengths(tensors: list[Tensor]) -> Tensor:
    """Euclidean lengths of tensors, one array; nothing is synchronised."""
    return torch.stack(torch._foreach_norm(tensors))


def update_ratios(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """|after - before| / |before| by name. Only tensors with two axes; one of zeros only has no ratio."""
    names = [name for name, tensor in before.items() if tensor.ndim > 1]
    if not names:
        return {}
    old = [before[name] for name in names]
    change = torch._foreach_sub([after[name].detach() for name in names], old)
    ratios = (lengths(list(change)) / lengths(old)).tolist()
    return {name: ratio for name, ratio in zip(names, ratios, strict=True) if math.isfinite(ratio)}


def require_finite(kind: str, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Raise NotFinite for the first tensor, by order, that holds NaN or infinity. Synchronises once.

    kind: what they are, "gradient" or "parameter"; step: the step that made them, from 1.
    """
    if not tensors:
        return
    sums = torch._foreach_norm(list(tensors.values()), 1)
    if all(math.isfinite(value) for value in torch.stack(sums).tolist()):
        return
    for name, tensor in tensors.items():
        wrong = ~torch.isfinite(tensor)
        count = int(wrong.sum())
        if count:
            value = tensor[wrong][0].item()
            text = f"step {step}: the {kind} of {name} holds {value} ({count} of {tensor.numel()} entries)"
            raise NotFinite(text, step=step, tensor=name)


def require_finite_losses(first_step: int, losses: Sequence[float], name: str = "loss") -> None:
    """Raise NotFinite for the first loss that is NaN or infinite; `first_step`: of the first one, from 1."""
    for step, loss in enumerate(losses, first_step):
        if not math.isfinite(loss):
            raise NotFinite(f"step {step}: the {name} is {loss}", step=step, tensor=name)


@contextmanager
def watch_layers(model: LanguageModel, step: Callable[[], int]) -> Iterator[None]:
    """Within it, a layer whose outputs are not finite raises NotFinite."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, result: require_finite("output", step(), {name: result[0].detach()})

    handles = [layer.register_forward_hook(hook(f"layers.{i}")) for i, layer in enumerate(model.layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Utilisation:
    """How busy the device was between two calls: a GPU by its driver's counter, a CPU by the time this process had."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def share(self) -> float | None:
        """From 0 to 1; None where the driver does not tell."""
        if self._device.type == "cuda":
            return self._gpu()
        wall, cpu = time.perf_counter(), time.process_time()
        spent = (cpu - self._cpu) / max(wall - self._wall, 1e-9) / torch.get_num_threads()
        self._wall, self._cpu = wall, cpu
        return min(spent, 1.0)

    def _gpu(self) -> float | None:
        import pynvml

        try:
            return torch.cuda.utilization(self._device) / 100
        except (ImportError, RuntimeError, pynvml.NVMLError):  # no NVML here: the run itself is none the worse
            return None
