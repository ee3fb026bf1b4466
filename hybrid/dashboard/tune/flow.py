"""Flow: of 100 texts, how many end where, as a bar and in words, at every place of a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import streamlit as st

from hybrid.dashboard.charts import BLUE, GREEN, ORANGE, PINK, SKY, YELLOW
from hybrid.metrics.curve import with_threshold
from hybrid.metrics.groups import Steps
from hybrid.metrics.lattice import locate
from hybrid.routing.engine import Outcomes, Policy, Threshold
from hybrid.routing.patterns import Ensemble, TriageEnsemble
from hybrid.routing.table import NEVER, TOP, Floats, Rows
from hybrid.study.graded import Graded

MIDDLE = (SKY, GREEN, PINK, YELLOW)


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Where texts end.

    Parameters
    ----------
    parts
        What is said of each part, such as ``stay with classifier``, from cheap to dear.
    share
        Of the texts, shape ``(n_parts, n_points)``.
    """

    parts: tuple[str, ...]
    share: Floats

    @property
    def targets(self) -> dict[str, str]:
        """CSS selectors of what is said of each part."""
        return {f"flow_{i}": f"[data-live=flow_{i}]" for i in range(len(self.parts))}

    def texts(self) -> dict[str, list[str]]:
        """Return what each part says at every point; the whole numbers add up to 100."""
        counts = _whole(100 * self.share)
        return {
            f"flow_{i}": [
                f"{'fewer than 1' if n == 0 and s > 0 else f'{n:.0f}'} {said}"
                for n, s in zip(counts[i], self.share[i], strict=True)
            ]
            for i, said in enumerate(self.parts)
        }

    def widths(self) -> dict[str, list[float]]:
        """Return how wide each part of the bar is at every point, in percent, by the part's CSS selector."""
        return {f"[data-flow='{i}']": np.round(100 * share, 2).tolist() for i, share in enumerate(self.share)}


def flow_of(on: Graded, policy: Policy) -> Flow:
    """Return where texts end under a policy, as a flow of one point."""
    ways = _ways(on.outcomes(policy))
    codes = _codes(ways)
    return Flow(tuple(_words(policy, c) for c in codes), np.array([[np.mean(ways == c)] for c in codes]))


def along(on: Graded, policy: Policy, line: Threshold, thresholds: Floats) -> Flow:
    """Return where texts end at each of these thresholds, ascending.

    A threshold decides about a row in one comparison, so where it ends when kept and when passed on tells everything.
    """
    kept, passed = (_ways(on.outcomes(_at(policy, (line, edge)))) for edge in (0.0, NEVER))
    codes, n = _codes(kept, passed), len(thresholds)
    place = np.searchsorted(thresholds, _gauge(on, policy, line), side="right")  # from here on it is passed
    share = []
    for c in codes:
        moved = np.bincount(place, (passed == c).astype(float) - (kept == c), minlength=n + 1)[:n]
        share.append((np.sum(kept == c) + np.cumsum(moved)) / len(kept))
    on_it = _at(policy, (line, NEVER))  # a threshold that is off is on where it is drawn over
    return Flow(tuple(_words(on_it, c) for c in codes), np.array(share))


def over(on: Graded, policy: Policy, lines: Sequence[Threshold], levels: Sequence[Floats]) -> Flow:
    """Return where texts end at each pair of levels of two thresholds: the second's row by row, as a surface has it."""
    one, two = lines
    at = {
        (a, b): _ways(on.outcomes(_at(policy, (one, NEVER if a else 0.0), (two, NEVER if b else 0.0))))
        for a in (0, 1)
        for b in (0, 1)
    }
    x, y = (locate(ls, _gauge(on, policy, line)) for ls, line in zip(levels, lines, strict=True))
    n, m = len(levels[0]), len(levels[1])
    codes, share = _codes(*at.values()), []
    for c in codes:
        end = {corner: (ways == c).astype(float) for corner, ways in at.items()}
        first, second = end[1, 0] - end[0, 0], end[0, 1] - end[0, 0]
        steps = Steps((end[0, 0], first, second, end[1, 1] - end[1, 0] - second), (x, y), (m, n))
        tables = [steps.table(*added) for added in steps.events(np.arange(len(x)))]
        share.append(np.sum(tables, axis=0).ravel() / len(x))
    return Flow(tuple(_words(policy, c) for c in codes), np.array(share))


def _at(policy: Policy, *values: tuple[Threshold, float]) -> Policy:
    for line, value in values:
        policy = with_threshold(policy, line.name, line.index, value)
    return policy


def _gauge(on: Graded, policy: Policy, line: Threshold) -> Floats:
    return np.nan_to_num(on.gauge(_at(policy, (line, 0.0)), line), nan=0.0)  # on, where it is off


def _ways(o: Outcomes) -> Rows:
    """Return which tiers each row was answered by, those that score apart, as a number with a bit for each."""
    answering = np.array([not t.scores for t in o.policy.tiers])
    found: Rows = (o.asked & answering) @ (1 << np.arange(len(answering)))
    return found


def _codes(*ways: Rows) -> list[int]:
    """Return the ways that occur, from cheap to dear: those that end early first."""
    return sorted({int(w) for some in ways for w in np.unique(some)})


def _words(policy: Policy, way: int) -> str:
    """Return what is said of the texts that were answered in one way."""
    names = [n for i, n in enumerate(policy.names) if way >> i & 1]
    if not names:
        return "are set aside as out of scope"
    last, pattern = names[-1], policy.pattern
    if next(t for t in policy.tiers if t.name == last).picks_from:
        return f"are picked from {TOP} by a person"
    if len(policy.own) == 1:
        return f"are answered by {last}"
    if policy.to_person and names == [last] and last == policy.names[-1] and not pattern.gate_first:
        return f"go straight to {last}, out of scope"
    if isinstance(pattern, TriageEnsemble) and len(names) > 1:
        return f"go to a vote of {', '.join(names)}"
    if isinstance(pattern, Ensemble) and (pattern.agreement is None or last != policy.names[-1]):
        return f"are decided by a vote of {', '.join(names)}"
    return f"{'go on to' if last == policy.names[-1] else 'stay with'} {last}"


def _whole(percent: Floats) -> Floats:
    """Round columns that add up to 100 so that they still do: the largest remainders are rounded up."""
    floor = np.floor(percent + 1e-9)
    left = np.round(100 - floor.sum(axis=0)).astype(int)
    rank = np.argsort(np.argsort(floor - percent, axis=0, kind="stable"), axis=0, kind="stable")
    found: Floats = floor + (rank < left)
    return found


def draw(flow: Flow, point: int = 0) -> None:
    """Draw the bar and its words at a point; the script of the draggable threshold moves both along."""
    flow = Flow(flow.parts, flow.share[:, point : point + 1])
    texts, widths, n = flow.texts(), [w for (w,) in flow.widths().values()], len(flow.parts)
    tints: list[str] = [BLUE, *MIDDLE[: max(0, n - 2)], ORANGE][:n] if n > 1 else [BLUE]
    bar = "".join(
        f"<span data-flow='{i}' style='width:{widths[i]}%;background:{tint}'></span>" for i, tint in enumerate(tints)
    )
    words = "".join(
        f"<span class='flow-part'><i style='background:{tint}'></i>"
        f"<span data-live='flow_{i}'>{escape(texts[f'flow_{i}'][0])}</span></span>"
        for i, tint in enumerate(tints)
    )
    st.html(f"<div class='flow-words'>Of 100 texts {words}</div><div class='flow-bar' aria-hidden='true'>{bar}</div>")
