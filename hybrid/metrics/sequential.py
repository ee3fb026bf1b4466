"""Sequential: evidence that may be looked at every day, because it is valid at any time of looking.

A test that is repeated every day until it says "changed" says so sooner or later although nothing did. Here evidence is
a bet's wealth: against a true hypothesis no bet is expected to gain, so the chance that the wealth ever reaches
``1 / α`` is at most α (Ville 1939), however often it is looked at and whenever one stops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from hybrid.errors import TierError
from hybrid.metrics.intervals import LEVEL, Interval
from hybrid.routing.table import CHUNK, Floats, Labels, Rows

# what is staked, as shares of the most that cannot lose everything; the wealth is the mean over them
STAKES = np.geomspace(0.001, 0.95, 24)
HALVINGS = 40  # of the range in which the end of an interval is looked for
SEASON = 366  # looks after which starts are counted anew: an alarm level is one of a year of daily looks
AT_FIRST = 0.5  # of the stake is on the first look as the one where the change came
BELIEFS = (10.0, 100.0, 1_000.0, 10_000.0)  # how little a change may be: rows that uniform shares are worth beforehand
PARTS = 10  # of the range of p-values that are told apart
FROM = 100  # values from which on an asymptotic interval is given


def evidence_above(values: Floats, mean: float, *, low: float = 0.0, weights: Floats | None = None) -> float:
    """Return the log of the evidence that a mean lies above `mean`: a bet against "it is at most this".

    Parameters
    ----------
    values
        At least `low`, in any order, shape ``(n,)``. Their expectation given what came before is what is tested, so
        it may move.
    weights
        In [0, 1], same shape: how much each value counts, known before it is seen; None: all alike.

    Returns
    -------
    float
        Natural log; with probability at least 1 − α it never reaches ``log(1 / α)`` where the mean is at most `mean`.

    References
    ----------
    Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting; Ville 1939.

    Examples
    --------
    Of 100 answers 95 right: strong evidence that more than 80 % are, none that more than 95 % are.

    >>> right = np.arange(100) < 95
    >>> round(evidence_above(right.astype(float), 0.8), 1), evidence_above(right.astype(float), 0.95) < 1
    (6.4, True)
    """
    return _wealth(*_counted(values, weights), mean, low)


def evidence_below(values: Floats, mean: float, *, high: float = 1.0, weights: Floats | None = None) -> float:
    """Return the log of the evidence that the mean of values that are at most `high` lies below `mean`."""
    return evidence_above(-np.asarray(values, dtype=np.float64), -mean, low=-high, weights=weights)


def mean_sequence(
    values: Floats, *, low: float = 0.0, high: float = 1.0, weights: Floats | None = None, level: float = LEVEL
) -> Interval:
    """Return the (weighted) mean of bounded values with an interval that holds at all times at once.

    Parameters
    ----------
    low, high
        What a value can be.
    weights
        See `evidence_above`.
    level
        Chance that the interval holds the mean at every time that it is looked at.

    Returns
    -------
    Interval
        From `low` to `high` where there is no value.

    References
    ----------
    Waudby-Smith & Ramdas 2024, section 4; Howard, Ramdas, McAuliffe & Sekhon 2021, Time-uniform, nonparametric,
    nonasymptotic confidence sequences.

    Examples
    --------
    Wider than the interval of a single look, which is 0.89 to 0.98 (Wilson):

    >>> found = mean_sequence((np.arange(100) < 95).astype(float))
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
    (0.95, 0.84, 0.99)
    """
    if not len(values):
        return Interval(float("nan"), low, high)
    value, weight, count = _counted(values, weights)
    mass = weight * count
    mean = float(mass @ value / mass.sum())
    bound = float(np.log(2 / (1 - level)))

    def end(side: Floats, least: float, from_mean: float) -> float:
        """Return the largest mean that a bet against "at most this" rules out."""
        out, within = least, from_mean
        if _wealth(side, weight, count, least + 1e-12, least) < bound:
            return least
        for _ in range(HALVINGS):
            middle = (out + within) / 2
            out, within = (middle, within) if _wealth(side, weight, count, middle, least) >= bound else (out, middle)
        return out

    return Interval(mean, end(value, low, mean), -end(-value, -high, -mean))


def _counted(values: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Return the distinct pairs of value and weight, and how often each occurs."""
    value = np.asarray(values, dtype=np.float64)
    weight = np.ones(len(value)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.size and not (weight.min() >= 0 and weight.max() <= 1):
        raise TierError("Weights must be in [0, 1]: divide them by the largest.")
    pairs, count = np.unique(np.stack([value, weight]), axis=1, return_counts=True)
    return pairs[0], pairs[1], count.astype(np.float64)


def _wealth(value: Floats, weight: Floats, count: Floats, mean: float, low: float) -> float:
    if not len(value) or mean <= low:
        return 0.0
    gains = np.log1p(np.multiply.outer(STAKES / (mean - low), weight * (value - mean)))
    return float(logsumexp(gains @ count) - np.log(len(STAKES)))


def asymptotic_sequence(values: Floats, *, level: float = LEVEL, best_at: int = 2_000) -> Interval:
    """Return the mean of values without a bound, with an interval for all times that holds the better the later.

    Parameters
    ----------
    best_at
        Number of values at which the interval is narrowest.

    Returns
    -------
    Interval
        Without ends (infinite) below `FROM` values.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Time-uniform central limit theory and asymptotic confidence
    sequences, theorem 2.2 and appendix on the choice of ρ.

    Examples
    --------
    The interval of one look would be ±0.044 wide here.

    >>> found = asymptotic_sequence(np.tile([0.0, 1.0, 2.0, 1.0], 250))
    >>> round(found.value, 2), round(found.half_width, 3)
    (1.0, 0.069)
    """
    n, alpha = len(values), 1 - level
    if n < FROM:
        return Interval(float(np.mean(values)) if n else float("nan"), -np.inf, np.inf)
    half, mean = float(np.std(values) * asymptotic_radius(n, alpha=alpha, best_at=best_at)), float(np.mean(values))
    return Interval(mean, mean - half, mean + half)


def asymptotic_radius(n: float | Floats, *, alpha: float, best_at: int) -> Floats:
    """Return how far `asymptotic_sequence` reaches from the mean after `n` values, in standard deviations."""
    rho2 = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / best_at
    scaled = np.asarray(n) * rho2 + 1
    found: Floats = np.sqrt(2 * scaled / (np.asarray(n) ** 2 * rho2) * np.log(np.sqrt(scaled) / alpha))
    return found


def places(codes: Labels, reference: Rows | Floats, luck: Floats) -> Floats:
    """Return where each value of a stream stands among the reference and all before it: conformal p-values.

    Parameters
    ----------
    codes
        Categories in order of time, shape ``(n,)``, in ``range(len(reference))``.
    reference
        How many values of each category came before the stream. Which category a value belongs to must not depend on
        the reference.
    luck
        Uniform on [0, 1), same shape, independent of the values: the place among equals.

    Returns
    -------
    p
        In [0, 1], same shape. As long as reference and stream are exchangeable (nothing has changed) they are
        independent and uniform, exactly, whatever the distribution and however short the reference.

    References
    ----------
    Vovk, Nouretdinov & Gammerman 2003, Testing exchangeability on-line; Vovk 2021, Testing randomness online.

    Examples
    --------
    Two of the highest category after a reference that hardly holds it:

    >>> places(np.array([2, 2]), np.array([5, 4, 0]), np.array([0.5, 0.5])).round(3).tolist()
    [0.95, 0.909]
    """
    seen = np.asarray(reference, dtype=np.float64).copy()
    found = np.empty(len(codes))
    for start in range(0, len(codes), CHUNK):
        part = codes[start : start + CHUNK]
        at = np.arange(len(part))
        hits = np.zeros((len(part), len(seen)))
        hits[at, part] = 1
        before = np.cumsum(hits, axis=0) - hits + seen
        below = np.cumsum(before, axis=1)
        same = before[at, part]
        found[start : start + CHUNK] = (below[at, part] - same + luck[start : start + CHUNK] * (same + 1)) / (
            below[:, -1] + 1
        )
        seen += hits.sum(axis=0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Evidence that a stream changed, at each look.

    Parameters
    ----------
    wealth
        Natural log of the evidence, shape ``(n_looks,)``.
    start
        The look from which on the change shows best, as of each look; same shape.
    """

    wealth: Floats
    start: Rows

    def crossed(self, alpha: float) -> int | None:
        """Return the first look at which the evidence reaches ``1 / alpha``; None where it never did."""
        over = self.wealth >= np.log(1 / alpha)
        return int(over.argmax()) if over.any() else None


def change(p_values: Floats, look: Rows, *, n_looks: int, cuts: Floats | None = None) -> Change:
    """Bet against uniform p-values from every look on, and return the evidence at the end of each look.

    A change may come at any look, so the stake is divided: half on the first (production is not what was labelled), the
    other half evenly on the 366 looks of a year.
    Each part bets on the shares of `PARTS` intervals that it has seen since, believing beforehand that the change is
    large, middling, small or tiny (Dirichlet mixtures, each with a quarter). After a year the stakes are laid anew.

    Parameters
    ----------
    p_values
        From `places`, shape ``(n,)``, in order of time.
    look
        At which look each is seen for the first time, same shape, rising, in ``range(n_looks)``.
    cuts
        Where the intervals end, rising, the last 1, shape ``(n_parts,)``; None: tenths. They must not depend on the
        p-values.

    Returns
    -------
    Change
        Where nothing changed, the chance that the evidence reaches ``1 / α`` at any look of a year is at most α.

    References
    ----------
    Vovk 2021, Testing randomness online; Ramdas, Grünwald, Vovk & Shafer 2023, Game-theoretic statistics and safe
    anytime-valid inference, on mixtures; Shin, Ramdas & Rinaldo 2024, E-detectors, on sums over starts.
    """
    ends = np.arange(1, PARTS + 1) / PARTS if cuts is None else cuts
    share = np.diff(ends, prepend=0.0)
    part = np.minimum(np.searchsorted(ends, p_values), len(ends) - 1)
    counts = np.bincount(look * len(ends) + part, minlength=n_looks * len(ends)).reshape(n_looks, len(ends))
    wealth, best = np.zeros(n_looks), np.arange(n_looks)
    for year in range(0, n_looks, SEASON):
        of_year = counts[year : year + SEASON]
        wealth[year : year + SEASON], best[year : year + SEASON] = _since_each(of_year, share)
        best[year : year + SEASON] += year
    return Change(wealth, best)


def _since_each(counts: Rows, share: Floats) -> tuple[Floats, Rows]:
    """Return the log wealth after each look of one year, and the start that has most of it."""
    sums = np.concatenate([np.zeros((1, counts.shape[1]), dtype=np.int64), np.cumsum(counts, axis=0)])
    wealth, best = np.zeros(len(counts)), np.zeros(len(counts), dtype=np.intp)
    # what a part adds by how often it was seen, and at last what all together take off: looked up, part behind part
    ends, weights = np.append(sums[-1], sums[-1].sum()) + 1, np.append(share, 1.0)
    start = np.cumsum(ends) - ends
    tables = [
        np.concatenate(
            [
                gammaln(belief * w + np.arange(n)) - gammaln(belief * w) - np.arange(n) * np.log(w)
                for n, w in zip(ends, weights, strict=True)
            ]
        )
        for belief in BELIEFS
    ]
    for now in range(len(counts)):
        seen = sums[now + 1] - sums[: now + 1]
        parts, n = start[:-1] + seen, start[-1] + seen.sum(axis=1)
        mixed = [table[parts].sum(axis=1) - table[n] for table in tables]
        each = logsumexp(mixed, axis=0) - np.log(len(BELIEFS))
        staked = np.full(now + 1, (1 - AT_FIRST) / SEASON)
        staked[0] += AT_FIRST
        wealth[now] = logsumexp(np.append(each, 0.0), b=np.append(staked, max(0.0, 1 - staked.sum())))
        best[now] = int(each.argmax())
    return wealth, best


def distance(codes: Labels, reference: Rows | Floats) -> float:
    """Return how far the shares of a stream's categories are from the reference's: half the sum of the differences.

    Examples
    --------
    >>> distance(np.array([0, 1, 1, 1]), np.array([50, 50]))
    0.25
    """
    seen = np.bincount(codes, minlength=len(reference)) / max(len(codes), 1)
    return float(np.abs(seen - np.asarray(reference) / np.sum(reference)).sum() / 2)


def together(wealths: NDArray[np.float64]) -> Floats:
    """Return the log of the mean of several evidences, each a row: valid however they hang together."""
    found: Floats = logsumexp(wealths, axis=0) - np.log(len(wealths))
    return found


def luck_of(ids: Sequence[str]) -> Floats:
    """Return a number in [0, 1) for each id, from its hash: the same whenever it is asked."""
    raw = b"".join(hashlib.blake2b(i.encode(), digest_size=4).digest() for i in ids)
    return np.frombuffer(raw, dtype=">u4").astype(np.float64) / 2**32
