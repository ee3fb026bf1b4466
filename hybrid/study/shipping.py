"""Shipping: what the models that ship do otherwise than those that graded them, fitted on fewer rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hybrid.metrics.means import mean_interval
from hybrid.metrics.summary import Interval
from hybrid.routing.engine import Policy, replay
from hybrid.routing.table import Floats
from hybrid.study.graded import Graded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybrid.routing.table import Rows
    from hybrid.tiers.calibration import Again

LITTLE = 0.005  # of the texts, or of the answers: less is not worth a line


@dataclass(frozen=True, slots=True)
class Shipping:
    """What changes on the way from the models that answered the tune rows to those that ship.

    A tune row is answered by a model that was fitted on the other folds; what ships is fitted on all of them, and is a
    little surer and more often right. Both answer the same test rows here, which neither was fitted on.

    Parameters
    ----------
    n_rows
        Test rows.
    escalation, accuracy, cost_per_1000
        Shipped minus graded, paired on these rows: shares, and USD.
    graded_accuracy
        Accuracy on these rows with the models that graded.

    Notes
    -----
    What `Recommendation.optimism` is the sum of: accuracy on tune minus `graded_accuracy`, which is the luck of
    choosing and of the draw, and minus `accuracy`, which is the learning curve.
    """

    n_rows: int
    escalation: Interval
    accuracy: Interval
    cost_per_1000: Interval
    graded_accuracy: float

    @property
    def matters(self) -> bool:
        """Whether it is surely something, and not little."""
        return any((i.low > 0 or i.high < 0) and abs(i.value) >= LITTLE for i in (self.escalation, self.accuracy))

    @property
    def words(self) -> str:
        """Say it in a line."""
        return (
            "The models that ship are fitted on all tune rows, those that answered the tune rows on a part of them. On "
            f"the same {self.n_rows:,} test rows they send on {_points(self.escalation, 'texts')} and give "
            f"{_points(self.accuracy, 'right answers')}."
        )


def _points(i: Interval, what: str) -> str:
    """Return a change of a share, ``2.1 points fewer texts (0.9 to 3.4)``."""
    if i.low <= 0 <= i.high:
        return f"as many {what}, as far as can be told ({_signed(i.low)} to {_signed(i.high)} points)"
    low, high = sorted((abs(i.low), abs(i.high)))
    which = "fewer" if i.value < 0 else "more"
    return f"{100 * abs(i.value):.1f} points {which} {what} ({100 * low:.1f} to {100 * high:.1f})"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def shipping(policy: Policy, on: Graded, again: Mapping[str, tuple[Again, ...]], test: Rows) -> Shipping | None:
    """Compare what a policy does with the models that ship and with those that graded.

    Parameters
    ----------
    on
        Test rows with the answers of the policy's tiers.
    again
        By tier name, what the folds' models say of all test rows; see `hybrid.study.evidence.Recording`.
    test
        These rows' numbers in the data set, ascending.

    Returns
    -------
    Shipping or None
        None where no tier of the policy was fitted here, or there is no row. The learned confidence of other tiers,
        and gates that were trained after the fit, are as they ship on both sides.
    """
    own = {j: again[name] for j, name in enumerate(policy.names) if again.get(name)}
    if not own or not len(on) or len(policy.tiers) < 2:
        return None
    at, times = np.searchsorted(test, on.rows), min(map(len, own.values()))
    sums = np.zeros((3, len(on)))
    for k in range(times):
        label, confidence = on.predictions.label.copy(), on.predictions.confidence.copy()
        for j, said in own.items():
            label[:, j], confidence[:, j] = said[k].label[at], said[k].confidence[at]
        graded = replay(policy, replace(on.predictions, label=label, confidence=confidence))
        sums += graded.asked[:, -1], graded.label == on.truth, graded.cost
    mean, shipped = sums / times, on.outcomes(policy)
    sent, right = (
        mean_interval(after - before, groups=on.groups, least=-1.0, most=1.0)  # what was not seen may still come
        for after, before in ((shipped.asked[:, -1], mean[0]), (shipped.label == on.truth, mean[1]))
    )
    cost: Floats = 1000 * (shipped.cost - mean[2])
    return Shipping(len(on), sent, right, mean_interval(cost, groups=on.groups), float(mean[1].mean()))
