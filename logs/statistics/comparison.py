"""Are two configurations different, by how much, how surely, and how many seeds would tell? Pure.

Scores of the same seeds are compared seed by seed (a paired t-test), others by Welch's t-test, which lets the spreads
differ. The tests are a few lines around scipy's distributions, since importing `scipy.stats` takes a second;
the tests of this module hold them against it. Where a test has no meaning (one value, no spread at all) there is no p,
and words instead: scipy gives 0 or NaN there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from terry.logs.statistics.summary import spread, student_quantile

#: A difference is called one if luck alone would show it in fewer cases than this.
ALPHA = 0.05
#: How often a difference that is there should be found.
POWER = 0.8
#: No advice beyond this.
MOST_SEEDS = 10_000
#: Differences that differ by less than this part of the values differ by rounding alone.
_ROUNDING = 1e-12
#: A difference of so many standard errors is found whatever the degrees of freedom (98% with one).
_CERTAIN = 30.0


class ComparisonVerdict(StrEnum):
    """What may be said of a second configuration beside a first."""

    LOWER = "lower"
    HIGHER = "higher"
    UNDECIDED = "undecided"  #: the seeds that are there do not tell them apart
    UNKNOWN = "unknown"  #: nothing is known of the spread, so nothing can be said


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The second's mean minus the first's."""

    first: str
    second: str
    n: tuple[int, int]
    difference: float | None = None
    low: float | None = None  #: of its 95% interval, not corrected for several comparisons
    high: float | None = None
    p: float | None = None  #: two-sided; of one comparison
    p_corrected: float | None = None  #: by Holm, over all comparisons that were made
    paired: bool = False
    degrees: float | None = None
    noise: float | None = None  #: of one seed: of paired differences, or both sides' together
    verdict: ComparisonVerdict = ComparisonVerdict.UNKNOWN
    comparisons: int = 1  #: how many were made together
    seeds_needed: int | None = None  #: a side, to find a difference of this size in 80 of 100 cases; None: beyond reach
    why: str = ""  #: in words, where there is no p


def compare(
    first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str], *, comparisons: int = 1
) -> Difference:
    """Compare scores by seed (or by any name that tells runs apart).

    comparisons: how many were or will be looked at together; p is multiplied by it (Bonferroni), which is right for one
    comparison picked out of many. For a whole table see `compare_all`.
    """
    found = _test(first, second, names)
    return _judge(found, None if found.p is None else min(1.0, found.p * comparisons), comparisons)


def compare_all(
    first: Mapping[str, float], others: Sequence[tuple[str, Mapping[str, float]]], name: str
) -> list[Difference]:
    """Each of the others beside the first, corrected together by Holm's method (Holm 1979)."""
    found = [_test(first, scores, (name, other)) for other, scores in others]
    corrected = holm([difference.p for difference in found])
    return [_judge(each, p, len(found)) for each, p in zip(found, corrected, strict=True)]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected so that the chance of any false one among all stays below the level; None stays None.

    None counts as a comparison all the same: it was made.
    """
    order = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    reached = 0.0
    for rank, (p, i) in enumerate(order):
        reached = max(reached, min(1.0, p * (len(values) - rank)))
        corrected[i] = reached
    return corrected


def seeds_needed(effect: float, *, paired: bool, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Seeds a side that find a difference of `effect` standard deviations of noise; None beyond MOST_SEEDS.

    For pairs the noise is that of the differences. Exact, by the non-central t distribution (Cohen 1988, chapter 2).
    """
    if not effect > 0.0 or _power(effect, MOST_SEEDS, paired=paired, alpha=alpha) < power:
        return None
    low, high = 1, 2  # `low` is too few, `high` is doubled until it is enough
    while _power(effect, high, paired=paired, alpha=alpha) < power:
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        enough = _power(effect, middle, paired=paired, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(effect: float, n: int, *, paired: bool, alpha: float) -> float:
    from scipy.special import nctdtr, stdtrit

    if n < 2:
        return 0.0
    degrees, shift = (n - 1, effect * math.sqrt(n)) if paired else (2 * n - 2, effect * math.sqrt(n / 2))
    if shift > _CERTAIN:
        return 1.0
    bound = float(stdtrit(degrees, 1 - alpha / 2))
    # Of the far tail scipy 1.17 gives NaN from a shift of about 8 on; from 5 on it is below 3e-7.
    wrong_side = float(nctdtr(degrees, shift, -bound)) if shift < 5.0 else 0.0
    return 1.0 - float(nctdtr(degrees, shift, bound)) + wrong_side


def _test(first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str]) -> Difference:
    """The t-test that fits; no p where it would have no meaning."""
    one, other = _finite(first), _finite(second)
    n = (len(one), len(other))
    if not one or not other:
        empty = names[0] if not one else names[1]
        return Difference(first=names[0], second=names[1], n=n, why=f"{empty} has no finite value")
    difference = math.fsum(other.values()) / n[1] - math.fsum(one.values()) / n[0]
    plain = Difference(first=names[0], second=names[1], n=n, difference=difference)
    if one.keys() == other.keys() and len(one) > 1:
        return _paired(plain, [other[seed] - one[seed] for seed in one], [*one.values(), *other.values()])
    return _welch(plain, list(one.values()), list(other.values()))


def _paired(plain: Difference, apart: list[float], values: list[float]) -> Difference:
    n = len(apart)
    noise = spread(apart)
    if not noise or noise <= _ROUNDING * max(map(abs, values)):
        return replace(plain, paired=True, noise=0.0, why=_same_apart(plain))
    return _with_p(replace(plain, paired=True), noise=noise, error=noise / math.sqrt(n), degrees=n - 1)


def _same_apart(plain: Difference) -> str:
    if not plain.difference:
        return "both gave the same values: the same run repeated is no evidence"
    return "each seed differs by exactly as much: the seed seems to change nothing, so nothing is known of the noise"


def _welch(plain: Difference, one: list[float], other: list[float]) -> Difference:
    n, spreads = plain.n, (spread(one), spread(other))
    if min(n) < 2:
        alone = " and ".join(name for name, k in zip((plain.first, plain.second), n, strict=True) if k < 2)
        return replace(plain, why=f"one seed of {alone}: nothing is known of its noise")
    parts = [(sd or 0.0) ** 2 / k for sd, k in zip(spreads, n, strict=True)]
    if not all(spreads):
        still = plain.first if not spreads[0] else plain.second
        return replace(plain, noise=0.0, why=f"all seeds of {still} gave the same value: a repeated run is no evidence")
    # Welch 1947; the degrees of freedom by Satterthwaite 1946.
    degrees = sum(parts) ** 2 / sum(part**2 / (k - 1) for part, k in zip(parts, n, strict=True))
    noise = math.sqrt(sum((sd or 0.0) ** 2 for sd in spreads) / 2)
    return _with_p(plain, noise=noise, error=math.sqrt(sum(parts)), degrees=degrees)


def _with_p(plain: Difference, *, noise: float, error: float, degrees: float) -> Difference:
    from scipy.special import stdtr

    assert plain.difference is not None
    half = student_quantile(degrees) * error
    p = 2.0 * float(stdtr(degrees, -abs(plain.difference) / error))
    return replace(
        plain,
        low=plain.difference - half,
        high=plain.difference + half,
        p=p,
        degrees=degrees,
        noise=noise,
    )


def _judge(found: Difference, corrected: float | None, comparisons: int) -> Difference:
    """What may be said at the level ALPHA, and how many seeds would tell."""
    if found.p is None or corrected is None or found.difference is None or not found.noise:
        return replace(found, comparisons=comparisons)
    verdict = ComparisonVerdict.UNDECIDED
    if corrected < ALPHA:
        verdict = ComparisonVerdict.LOWER if found.difference < 0 else ComparisonVerdict.HIGHER
    needed = seeds_needed(abs(found.difference) / found.noise, paired=found.paired, alpha=ALPHA / comparisons)
    return replace(found, p_corrected=corrected, verdict=verdict, comparisons=comparisons, seeds_needed=needed)


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}
