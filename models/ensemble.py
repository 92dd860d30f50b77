"""Several language models with one vocabulary as one: their predictions averaged, in log space.

The arithmetic mean of probabilities is the usual one (Zaremba et al. 2014, section 4.1). By Jensen's inequality its
perplexity is never above the geometric mean of the members' perplexities. The geometric mean of probabilities, scaled
to sum to 1 (a product of experts, Hinton 2002), trusts a member that finds a token impossible.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from terry.models.averages import Average
from terry.models.errors import ConfigError
from terry.models.evaluate import Evaluation, on_device
from terry.models.language_model import LanguageModel, ModelState
from terry.models.protocols import BatchLike

#: States of all members.
EnsembleState = tuple[ModelState, ...]

#: Logits that are held at once: 256 rows of 8,000 stay in a CPU's cache.
_LOGITS = 256 * 8_000
#: What is kept of a text between members that take turns in memory, where all probabilities must be: so many numbers.
_KEPT = 1 << 26


class Ensemble:
    """Predicts the mean of its members' predictions. One member alone is an ensemble, too.

    members: models with one vocabulary, on one device, set to evaluation (no dropout). weights: how much each member
    counts, above 0, scaled here to sum to 1; left out: all alike. Raises ConfigError.
    """

    def __init__(
        self,
        members: Sequence[LanguageModel],
        *,
        average: Average = Average.arithmetic,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.members = tuple(members)
        self.average = Average(average)
        self.weights = scaled_weights(weights, len(self.members))
        sizes = sorted({member.vocabulary_size for member in self.members})
        if len(sizes) > 1:
            raise ConfigError(f"members of an ensemble must share one vocabulary; theirs have {sizes} tokens")
        known = {member.vocabulary_sha256 for member in self.members} - {""}
        if len(known) > 1:
            raise ConfigError(
                f"members of an ensemble must share one vocabulary; theirs are {len(known)} different ones of "
                f"{sizes[0]} tokens"
            )
        for member in self.members:
            member.eval()

    @property
    def vocabulary_size(self) -> int:
        """Tokens to choose from."""
        return self.members[0].vocabulary_size

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].output_bias.device

    def initial_state(self, batch: int) -> EnsembleState:
        """Zeros for `batch` rows."""
        return tuple(member.initial_state(batch) for member in self.members)

    @torch.no_grad()
    def log_probabilities(self, inputs: Tensor, state: EnsembleState) -> tuple[Tensor, EnsembleState]:
        """inputs (batch, time) int64 -> log of the mean probabilities (batch, time, vocabulary), state afterwards."""
        found, after = [], []
        for member, before in zip(self.members, state, strict=True):
            hidden, last = member(inputs, before)
            found.append(member.logits(hidden).log_softmax(-1))
            after.append(last)
        return mean_log_probabilities(torch.stack(found), self.weights, self.average), tuple(after)


def scaled_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Weights that sum to 1. Raises ConfigError."""
    if not count:
        raise ConfigError("an ensemble needs at least one member")
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise ConfigError(f"{len(given)} weights for {count} members")
    if not all(0 < weight < math.inf for weight in given):
        raise ConfigError(f"the weights of members must be more than 0, not {given}")
    total = math.fsum(given)
    return tuple(weight / total for weight in given)


def weights_by_loss(losses: Sequence[float]) -> tuple[float, ...]:
    """Weights in proportion to 1 / perplexity, exp(-loss): losses are the members' on the validation data, in nats."""
    best = min(losses)
    return scaled_weights([math.exp(best - loss) for loss in losses], len(losses))


def mean_log_probabilities(log_p: Tensor, weights: Sequence[float], average: Average) -> Tensor:
    """Log of the weighted mean over the first axis: (members, ..., vocabulary) -> (..., vocabulary).

    Nothing leaves log space, so probabilities far below the smallest float take part.
    """
    shape = (-1,) + (1,) * (log_p.dim() - 1)
    share = torch.tensor(weights, dtype=log_p.dtype, device=log_p.device).reshape(shape)
    if average is Average.arithmetic:
        return torch.logsumexp(log_p + share.log(), 0)
    return (log_p * share).sum(0).log_softmax(-1)


# evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleReport:
    """What single members and their averages make of one text."""

    #: each member alone
    members: tuple[Evaluation, ...]
    #: the ensemble of the first member, of the first two, ..., of all
    first: tuple[Evaluation, ...]

    @property
    def ensemble(self) -> Evaluation:
        """All members together."""
        return self.first[-1]

    @property
    def mean_perplexity(self) -> float:
        """Arithmetic mean of the members' perplexities."""
        return math.fsum(member.perplexity for member in self.members) / len(self.members)

    @property
    def gain(self) -> float:
        """By what share the ensemble's perplexity is below the members' mean."""
        return 1 - self.ensemble.perplexity / self.mean_perplexity


#: Gives a member, read from the disk for instance.
Opener = Callable[[], LanguageModel]


def evaluate_members(
    openers: Sequence[Opener],
    batches: Callable[[], Iterable[BatchLike]],
    *,
    average: Average = Average.arithmetic,
    weights: Sequence[float] | None = None,
    at_once: int | None = None,
    before_batch: Callable[[int], None] = lambda _: None,
) -> EnsembleReport:
    """Perplexity of each member, and of the ensembles of the first 1, 2, ... N of them.

    batches: gives the text anew each time it is called. at_once: so many members are held in memory; left out: all,
    and then the text is read once. With fewer it is read once for each group (arithmetic mean: only the targets' log
    probabilities are kept between groups), or in blocks for which the members are opened in turn (geometric mean, which
    needs all probabilities). The figures are the same. `before_batch` is called with the batches done so far, and may
    raise. Raises ConfigError for bad weights, ValueError where no target counts.
    """
    shares = scaled_weights(weights, len(openers))
    size = max(1, min(at_once or len(openers), len(openers)))
    places = [range(i, min(i + size, len(openers))) for i in range(0, len(openers), size)]
    groups = _Groups(openers, places)
    rule = _Arithmetic(shares) if average is Average.arithmetic else _Geometric(shares)
    state: dict[int, ModelState] = {}
    done = 0
    for block in _blocks(batches, whole=average is Average.arithmetic or len(places) == 1, groups=groups):
        kept: dict[int, Tensor] = {}
        for place, models in groups.in_turn():
            for i, batch in enumerate(block()):
                before_batch(done)
                done += 1
                _one_batch(rule, batch, i, kept, dict(zip(place, models, strict=True)), state)
                if place.stop == len(openers):
                    del kept[i]
    return rule.report()


class _Groups:
    """Members that are in memory together; a single group is opened once."""

    def __init__(self, openers: Sequence[Opener], places: list[range]) -> None:
        self._openers, self._places = openers, places
        self._single: list[LanguageModel] | None = None

    def in_turn(self) -> Iterator[tuple[range, list[LanguageModel]]]:
        """(numbers of the members, the members) of each group; the one before is given up first."""
        for place in self._places:
            yield place, self.open(place)

    def open(self, place: range) -> list[LanguageModel]:
        """The members of one group."""
        if len(self._places) > 1:
            return [self._openers[k]().eval() for k in place]
        if self._single is None:
            self._single = [self._openers[k]().eval() for k in place]
        return self._single

    def vocabulary_size(self) -> int:
        """Of the first member."""
        return self._openers[0]().vocabulary_size


def _blocks(
    batches: Callable[[], Iterable[BatchLike]], *, whole: bool, groups: _Groups
) -> Iterator[Callable[[], Iterable[BatchLike]]]:
    """The text in parts for which all groups take their turns."""
    if whole:
        yield batches
        return
    vocabulary = groups.vocabulary_size()
    source = iter(batches())
    for first in source:
        count = max(1, _KEPT // (first.inputs.numel() * vocabulary))
        block = [first, *itertools.islice(source, count - 1)]
        yield lambda block=block: block  # type: ignore[misc]


@torch.no_grad()
def _one_batch(
    rule: _Arithmetic | _Geometric,
    batch: BatchLike,
    number: int,
    kept: dict[int, Tensor],
    models: dict[int, LanguageModel],
    state: dict[int, ModelState],
) -> None:
    """Let each of the models read the batch."""
    so_far = kept.pop(number, None)
    for k, model in models.items():
        inputs, targets, mask = on_device(batch, model.output_bias.device)
        if batch.reset or k not in state:
            state[k] = model.initial_state(len(inputs))
        hidden, state[k] = model(inputs, state[k])
        chosen = slice(None) if mask is None else mask.flatten()
        so_far = rule.add(k, so_far, model, hidden.flatten(0, 1)[chosen], targets.flatten()[chosen])
    assert so_far is not None
    kept[number] = so_far


class _Rule:
    """Sums of losses, filled batch by batch, member by member in their order."""

    def __init__(self, shares: tuple[float, ...]) -> None:
        self._shares = shares
        self._upto = tuple(math.fsum(shares[: k + 1]) for k in range(len(shares)))
        self._single = [0.0] * len(shares)
        self._first = [0.0] * len(shares)
        self._tokens = [0] * len(shares)

    def _count(self, k: int, single: Tensor, mean: Tensor) -> None:
        """Log probabilities of a batch's targets by member k, and by the ensemble up to it; float64."""
        self._single[k] -= float(single.sum())
        self._first[k] -= float(mean.sum())
        self._tokens[k] += len(single)

    def report(self) -> EnsembleReport:
        """All of it."""
        if not self._tokens[0]:
            raise ValueError("there is nothing to evaluate: no target counts")
        singles = zip(self._single, self._tokens, strict=True)
        firsts = zip(self._first, self._tokens, strict=True)
        return EnsembleReport(
            members=tuple(Evaluation(total=total, tokens=tokens) for total, tokens in singles),
            first=tuple(Evaluation(total=total, tokens=tokens) for total, tokens in firsts),
        )


class _Arithmetic(_Rule):
    """Needs of the members before only the log of the sum of their weighted probabilities of the targets."""

    def add(self, k: int, so_far: Tensor | None, model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
        """hidden (rows, size), targets (rows,) -> log of the sum up to member k, (rows,) float64."""
        single = target_log_probabilities(model, hidden, targets)
        mine = single + math.log(self._shares[k])
        total = mine if so_far is None else torch.logaddexp(so_far.to(mine.device), mine)
        # The first sum is that of one member: kept exact, so that an ensemble of one is the member itself.
        self._count(k, single, single if so_far is None else total - math.log(self._upto[k]))
        return total


class _Geometric(_Rule):
    """Needs the weighted sum of the members' log probabilities of all tokens, to scale the product to 1."""

    def add(self, k: int, so_far: Tensor | None, model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
        """hidden (rows, size), targets (rows,) -> weighted sum up to member k, (rows, vocabulary)."""
        log_p = model.logits(hidden).log_softmax(-1)
        single = _chosen(log_p, targets)
        total = log_p.mul_(self._shares[k])
        if so_far is not None:
            total += so_far.to(total.device)
        self._count(k, single, single if so_far is None else _chosen((total / self._upto[k]).log_softmax(-1), targets))
        return total


def target_log_probabilities(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log probability of each target, (rows,) float64, for outputs (rows, size); logits only of a few rows at once."""
    rows = max(1, _LOGITS // model.vocabulary_size)
    parts = []
    for begin in range(0, len(hidden), rows):
        logits = model.logits(hidden[begin : begin + rows])
        chosen = _chosen(logits, targets[begin : begin + rows])
        parts.append(chosen - torch.logsumexp(logits, 1).double())
    return torch.cat(parts) if parts else hidden.new_empty(0, dtype=torch.float64)


def _chosen(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(1, targets.unsqueeze(1)).squeeze(1).double()


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The average of several snapshots' weights (Izmailov et al. 2018), summed in float64. Raises ConfigError."""
    if not states:
        raise ConfigError("an average of weights needs at least one snapshot")
    names = states[0].keys()
    if any(state.keys() != names for state in states):
        raise ConfigError("only weights of one model can be averaged: these have different names")
    return {name: torch.stack([s[name].double() for s in states]).mean(0).to(states[0][name].dtype) for name in names}
