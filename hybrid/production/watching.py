"""Watching: what a decision log says of a bundle, day by day, beside what was promised; and whether it changed."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hybrid.data.foreign import shown
from hybrid.errors import HybridError
from hybrid.metrics.drift import ALARM, FAR, POINTS, STEADY, WATCH
from hybrid.metrics.intervals import Interval, wilson
from hybrid.metrics.sequential import asymptotic_sequence, change, distance, luck_of, places, together
from hybrid.production.bundle import Bundle
from hybrid.production.reference import FEATURES, Counts, Reference, watched
from hybrid.routing.table import CHUNK, NONE, NONE_LABEL, UNKNOWN, Bools, Floats, Labels, Predictions, Rows

YEARLY = 0.05  # chance of a false alarm in a year of daily looks, all streams together
STREAMS = ("escalation", "confidence", "classes", "texts")
MOST = 1e9  # USD, and seconds, of one decision
LATEST = 253_402_300_799.0  # seconds since 1970: the last that is a date
HINT = 10.0  # evidence from which on a stream is watched


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """The decisions of one bundle in a log, from old to new; arrays of shape ``(n,)``.

    Parameters
    ----------
    at
        Seconds since 1970, UTC.
    day
        Number of its day among `days`.
    label, llm
        Class codes: what the policy decided, and what the LLM said in shadow mode.
    said
        What every asked tier said, shape ``(n, n_tiers)``.
    review
        Chance with which it was to be drawn for a review; 0 where it was not drawn.
    digits
        Of the texts, shape ``(n, n_features)``; no column where the log has none.
    """

    at: Floats
    day: Rows
    days: tuple[datetime.date, ...]
    ids: tuple[str, ...]
    texts: pa.ChunkedArray  # None where only hashes are kept
    modes: frozenset[str]
    label: Labels
    llm: Labels
    tier: Rows
    cost: Floats
    latency: Floats
    fallback: Bools
    said: Predictions
    review: Floats
    digits: Labels

    def __len__(self) -> int:
        return len(self.at)

    def text(self, row: int) -> str | None:
        """Return a text; None where the log keeps none."""
        found: str | None = self.texts[int(row)].as_py()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One number a day.

    Parameters
    ----------
    name
        What it is.
    values
        Of each day, shape ``(n_days,)``.
    total
        Of all days.
    promised
        What the bundle measured; None where it says nothing.
    low, high
        Where 95 of 100 days with as many texts would lie, if production were as promised; nan where that is not known.
    """

    name: str
    values: Floats
    total: float
    promised: Interval | None
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Whether something about the texts has changed.

    Parameters
    ----------
    name
        One of `STREAMS`.
    level
        ``steady``, ``watch`` or ``alarm``.
    reason
        Why, in a sentence.
    wealth
        Natural log of the evidence at the end of each day; empty where there is nothing to compare with.
    size
        How far it is now from before, as a share; nan where nothing is to be seen.
    since
        The day from which on the change shows best; None where there is none.
    """

    name: str
    level: str
    reason: str
    wealth: Floats
    size: float = float("nan")
    since: datetime.date | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """What a log says of a bundle."""

    title: str
    n: int
    days: tuple[datetime.date, ...]
    per_day: Rows
    series: tuple[Series, ...]
    streams: tuple[Stream, ...]
    alpha: float
    fallbacks: float
    modes: frozenset[str]

    @property
    def level(self) -> str:
        """The worst of the streams' levels."""
        return max((s.level for s in self.streams), key=(STEADY, WATCH, ALARM).index)

    @property
    def explained(self) -> str:
        """Say what an alarm means."""
        return (
            f"An alarm needs evidence of {1 / self.bar:,.0f} to 1 and a change that matters. If nothing changes, in at "
            f"most {self.alpha:.0%} of the years any of the {len(STREAMS)} goes off, however often one looks."
        )

    @property
    def bar(self) -> float:
        """Level of one stream."""
        return self.alpha / len(STREAMS)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "bundle": self.title,
            "decisions": self.n,
            "level": self.level,
            "alarm_level_a_year": self.alpha,
            "days": [d.isoformat() for d in self.days],
            "decisions_a_day": self.per_day.tolist(),
            "fallbacks": self.fallbacks,
            "series": {
                s.name: {
                    "total": _or_none(s.total),
                    "promised": None
                    if s.promised is None
                    else {"value": s.promised.value, "low": s.promised.low, "high": s.promised.high},
                    "values": [_or_none(v) for v in s.values],
                    "band": [[_or_none(a), _or_none(b)] for a, b in zip(s.low, s.high, strict=True)],
                }
                for s in self.series
            },
            "streams": {
                s.name: {
                    "level": s.level,
                    "reason": s.reason,
                    "evidence": [float(np.exp(min(w, 700.0))) for w in s.wealth],
                    "size": _or_none(s.size),
                    "since": None if s.since is None else s.since.isoformat(),
                }
                for s in self.streams
            },
        }


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def bundles_in(log: pa.Table) -> dict[str, int]:
    """Return how many decisions each bundle made, by its digest, the one that decided last first."""
    found: dict[str, int] = {}
    for digest in reversed(log["bundle"].to_pylist()):
        found[digest] = found.get(digest, 0) + 1
    return found


def decisions_of(log: pa.Table, bundle: Bundle, digest: str) -> Decisions:
    """Return a bundle's decisions in a log.

    Raises
    ------
    HybridError
        If there is none, or they name tiers that the bundle does not have.
    """
    rows = log.filter(pa.compute.equal(log["bundle"], digest)).sort_by("at")
    if not len(rows):
        others = ", ".join(f"{name} ({n:,} decisions)" for name, n in list(bundles_in(log).items())[:5])
        raise HybridError(f"The log has no decision of this bundle ({digest}); it has those of {others or 'none'}.")
    try:
        return _read(rows, bundle)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        why = shown(repr(error))
        raise HybridError(
            f"The log's decisions of {digest} do not fit the bundle ({why}). Copy the log again."
        ) from error


def _read(rows: pa.Table, bundle: Bundle) -> Decisions:
    names, classes = bundle.policy.names, bundle.config.classes
    code = {NONE_LABEL: NONE} | {name: i for i, name in enumerate(classes)}
    tiers = {name: j for j, name in enumerate(names)}
    said = Predictions.unasked(bundle.policy.tiers, classes, len(rows))
    at = _floats(rows["at"], most=LATEST)
    if np.isnan(at).any() or any(rows[name].null_count for name in ("id", "mode", "tier", "trace")):
        raise ValueError("a value is missing")
    first = 0
    for batch in rows.select(["trace"]).to_batches(max_chunksize=CHUNK):
        traces = [json.loads(trace) for trace in batch["trace"].to_pylist()]
        if any(len(trace) > len(names) for trace in traces):
            raise ValueError("more tiers than there are")
        cells = [(first + k, step) for k, trace in enumerate(traces) for step in trace]
        first += len(traces)
        row = np.array([k for k, _ in cells], dtype=np.intp)
        column = np.array([tiers[step["tier"]] for _, step in cells], dtype=np.intp)
        said.label[row, column] = [code.get(step["label"], UNKNOWN) for _, step in cells]
        for name, most in (("confidence", 1.0), ("cost", MOST), ("latency", MOST)):
            getattr(said, name)[row, column] = _within(np.array([step[name] for _, step in cells], dtype=float), most)
    days, day = np.unique((at // 86_400).astype(np.int64), return_inverse=True)
    epoch = datetime.date(1970, 1, 1)
    wanted = len(bundle.reference.texts) if bundle.reference is not None else 0
    told = [d for d in rows["features"].to_pylist() if d and len(d) == wanted]
    digits = np.zeros((len(rows), 0), dtype=np.int64)
    if wanted and len(told) == len(rows):
        signs = np.frombuffer("".join(told).encode("ascii"), dtype=np.uint8).reshape(len(rows), wanted)
        digits = np.minimum(signs - np.uint8(ord("0")), 9).astype(np.int64)

    def coded(column: str) -> Labels:
        return np.array([code.get(name, UNKNOWN) for name in rows[column].to_pylist()], dtype=np.int64)

    return Decisions(
        at,
        day.astype(np.intp),
        tuple(epoch + datetime.timedelta(days=int(d)) for d in days),
        tuple(rows["id"].to_pylist()),
        rows["text"],
        frozenset(rows["mode"].unique().to_pylist()),
        coded("label"),
        coded("llm_label"),
        np.array([tiers[name] for name in rows["tier"].to_pylist()], dtype=np.intp),
        _floats(rows["cost"]),
        _floats(rows["latency"]),
        np.array(rows["fallback"].to_pylist(), dtype=bool),
        said,
        np.nan_to_num(_floats(rows["review"], most=1.0)),
        digits,
    )


def _floats(column: pa.ChunkedArray, *, most: float = MOST) -> Floats:
    """Return numbers from 0 on; nan where there is none."""
    return _within(np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64), most)


def _within(values: Floats, most: float) -> Floats:
    if (values < 0).any() or (values > most).any():
        raise ValueError(f"a number is not in [0, {most:g}]")
    return values


def watch(decisions: Decisions, bundle: Bundle, *, title: str, alpha: float = YEARLY) -> Watch:
    """Compare production with what a bundle promised.

    Parameters
    ----------
    alpha
        Chance that any stream raises an alarm in a year of daily looks although nothing has changed. Each of `STREAMS`
        has its equal part.

    Raises
    ------
    HybridError
        If `alpha` is no chance.
    """
    if not 0 < alpha < 1:
        raise HybridError(f"The alarm level is {alpha:g}: it must be between 0 and 1. Percent? Divide by 100.")
    return Watch(
        title,
        len(decisions),
        decisions.days,
        np.bincount(decisions.day, minlength=len(decisions.days)),
        _series(decisions, bundle),
        tuple(_stream(name, decisions, bundle, alpha / len(STREAMS)) for name in STREAMS),
        alpha,
        float(decisions.fallback.mean()),
        decisions.modes,
    )


def promised(evidence: Any, *names: str) -> Interval | None:
    """Return a number of a bundle's evidence, of test where that has any, else of tune."""
    for side in ("test", "tune", "production"):
        found: Any = evidence
        for name in ("metrics", side, *names):
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, int | float) and not isinstance(found, bool):
            return Interval(float(found), float(found), float(found))
        if isinstance(found, dict) and all(isinstance(found.get(k), int | float) for k in ("value", "low", "high")):
            return Interval(float(found["value"]), float(found["low"]), float(found["high"]))
    return None


def _series(d: Decisions, bundle: Bundle) -> tuple[Series, ...]:
    n = np.bincount(d.day, minlength=len(d.days)).astype(np.float64)

    def daily(values: Floats | Bools) -> Floats:
        sums: Floats = np.bincount(d.day, values.astype(np.float64), len(d.days)) / n
        return sums

    asked = d.said.asked
    found = [
        _share(
            "escalation",
            daily(asked[:, -1]),
            float(asked[:, -1].mean()),
            promised(bundle.evidence, "escalation_rate"),
            n,
        )
    ]
    price = promised(bundle.evidence, "cost_per_1000")
    spread = np.sqrt(np.maximum(daily(d.cost**2) - daily(d.cost) ** 2, 0.0) / np.maximum(n, 1)) * 1000 * 1.96
    low, high = _around(price, spread, spread)
    found.append(
        Series("cost per 1,000", 1000 * daily(d.cost), 1000 * float(d.cost.mean()), price, np.maximum(low, 0.0), high)
    )
    none = np.full(len(n), np.nan)
    for name, q in (("latency p50", 0.5), ("latency p95", 0.95)):
        each = np.array([np.quantile(part, q) for part in np.split(d.latency, np.cumsum(n.astype(np.int64))[:-1])])
        told = promised(bundle.evidence, name.replace(" ", "_"))
        found.append(Series(name, each, float(np.quantile(d.latency, q)), told, none, none))
    reach = bundle.evidence.get("metrics")
    for side in ("test", "tune"):
        told_reach = reach.get(side) if isinstance(reach, dict) else None
        shares = told_reach.get("reach") if isinstance(told_reach, dict) else None
        if isinstance(shares, list) and len(shares) == asked.shape[1]:
            break
    for j, name in enumerate(bundle.policy.names):
        value = shares[j] if isinstance(shares, list) and len(shares) == asked.shape[1] else None
        told = Interval(value, value, value) if isinstance(value, int | float) else None
        found.append(Series(f"asked {name}", daily(asked[:, j]), float(asked[:, j].mean()), told, none, none))
    return tuple(found)


def _share(name: str, values: Floats, total: float, told: Interval | None, n: Floats) -> Series:
    value = 0.0 if told is None else told.value
    low, high = wilson(value * n, n)
    return Series(name, values, total, told, *_around(told, value - low, high - value))


def _around(told: Interval | None, below: Floats, above: Floats) -> tuple[Floats, Floats]:
    """Return where a day's number lies if the promise is true: the day's own luck, and that of the promise."""
    if told is None:
        return np.full(len(below), np.nan), np.full(len(below), np.nan)
    return (
        told.value - np.hypot(below, told.value - told.low),
        told.value + np.hypot(above, told.high - told.value),
    )


def cost_verdict(d: Decisions, bundle: Bundle) -> str | None:
    """Say whether texts cost more than was promised; None where that cannot be told, or they do not."""
    price = promised(bundle.evidence, "cost_per_1000")
    now = asymptotic_sequence(1000 * d.cost)
    if price is None or not now.low > price.high:
        return None
    return (
        f"A thousand texts cost ${now.value:.4g} (at least ${now.low:.4g}, at all times with 95 %), and the bundle "
        f"measured ${price.value:.4g} (up to ${price.high:.4g})."
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """A stream in categories, and the rows of the decisions that it is made of."""

    codes: Labels
    rows: Rows
    counts: Counts


def _codes(name: str, d: Decisions, bundle: Bundle, reference: Reference) -> list[_Stream]:
    everything = np.arange(len(d))
    if name == "escalation":
        return [_Stream(d.said.asked[:, -1].astype(np.int64), everything, reference.escalation)]
    if name == "confidence":
        sure = d.said.confidence[:, bundle.policy.names.index(watched(bundle.policy))]
        rows = np.flatnonzero(~np.isnan(sure))
        return [_Stream(reference.confidence.code(sure[rows]), rows, reference.confidence)]
    if name == "classes":
        return (
            [] if reference.classes is None else [_Stream(reference.groups_of(d.label), everything, reference.classes)]
        )
    n = d.digits.shape[1]
    return [
        _Stream(np.minimum(d.digits[:, k], len(c.counts) - 1), everything, c) for k, c in enumerate(reference.texts[:n])
    ]


def _stream(name: str, d: Decisions, bundle: Bundle, alpha: float) -> Stream:
    reference = bundle.reference
    none = np.zeros(0)
    if reference is None:
        why = "the bundle has none, as those of before version 0.2; export it again"
        return Stream(name, STEADY, f"No reference for {name}: {why}.", none)
    parts = _codes(name, d, bundle, reference)
    if not parts:
        why = "the log has no numbers of texts" if reference.texts else "the bundle was made without texts"
        return Stream(name, STEADY, f"No reference for {name}: {why}.", none)
    luck = luck_of(d.ids)
    found = []
    for part in parts:
        p = places(part.codes, np.array(part.counts.counts), luck[part.rows])
        found.append(change(p, d.day[part.rows], n_looks=len(d.days), cuts=part.counts.cuts()))
    wealth = together(np.stack([f.wealth for f in found]))
    strongest = int(np.argmax([f.wealth[-1] for f in found]))
    over = np.flatnonzero(wealth >= np.log(1 / alpha))
    if not len(over) and wealth[-1] < np.log(HINT):
        return Stream(name, STEADY, "No change that chance does not explain.", wealth)
    at = int(over[0]) if len(over) else len(d.days) - 1
    strongest = int(np.argmax([f.wealth[at] for f in found]))
    start = int(found[strongest].start[at])
    size, what = _size(name, parts[strongest], d, start)
    if name == "texts":
        what = f"{FEATURES[strongest]}: {what}"
    since = d.days[start]
    if not len(over):
        odds = np.exp(wealth[-1])
        return Stream(
            name, WATCH, f"{what} since {since}; the evidence is {odds:,.0f} to 1, not enough yet.", wealth, size, since
        )
    enough = POINTS if name == "escalation" else FAR
    said = f"{what} since {since}, beyond doubt on {d.days[at]}"
    if size < enough:
        return Stream(name, WATCH, f"{said}: real, but less than {enough:.0%}, which is small.", wealth, size, since)
    return Stream(name, ALARM, f"{said}.", wealth, size, since)


def _size(name: str, part: _Stream, d: Decisions, start: int) -> tuple[float, str]:
    """Return how far a stream is from what was before, as a share and in words."""
    late = d.day[part.rows] >= start
    before = np.array(part.counts.counts) + np.bincount(part.codes[~late], minlength=len(part.counts.counts))
    now = part.codes[late]
    if name == "escalation":
        was, is_now = before[1] / before.sum(), float(now.mean())
        return abs(is_now - was), f"{is_now:.1%} of the texts go to the last tier, where it was {was:.1%},"
    far = distance(now, before)
    return far, f"{far:.0%} of the texts would have to be others to look as before,"


def summary_lines(found: Watch, *, cost: str | None) -> list[str]:
    """Return a watch in lines for the terminal."""
    days = f"{found.days[0]} to {found.days[-1]}" if len(found.days) > 1 else str(found.days[0])
    said = [f"{found.title}: {found.n:,} decisions, {days}; {found.level.upper()}"]
    for s in found.series:
        told = "" if s.promised is None else f", promised {_number(s.name, s.promised)}"
        outside = int(np.sum((s.values < s.low) | (s.values > s.high)))
        band = f"; {outside} of {len(s.values)} days outside the band" if np.isfinite(s.low).any() else ""
        said.append(f"  {s.name} {_number(s.name, Interval(s.total, s.total, s.total))}{told}{band}")
    if found.fallbacks:
        said.append(
            f"  {found.fallbacks:.2%} of the decisions fell back on the surest answer, as a tier could not be asked"
        )
    said += [f"  {s.name}: {s.level}. {s.reason}" for s in found.streams]
    if cost:
        said.append(f"  cost: {cost}")
    return [*said, f"  {found.explained}"]


def _number(name: str, i: Interval) -> str:
    form = {"cost per 1,000": "${:.4g}", "latency p50": "{:.3g} s", "latency p95": "{:.3g} s"}.get(name, "{:.1%}")
    value = form.format(i.value)
    return value if i.low == i.high else f"{value} ({form.format(i.low)} to {form.format(i.high)})"
