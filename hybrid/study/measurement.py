"""Measurement: what a policy does on one side of the split, on the rows that its own tiers answered."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.metrics.curve import Curve
from hybrid.metrics.rows import Inspection
from hybrid.metrics.summary import Baselines, PairedDifference, Summary
from hybrid.routing.engine import Outcomes, Policy, Threshold
from hybrid.study.graded import Graded, alone


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a policy does on one side of the split: on the rows that its own tiers answered.

    Parameters
    ----------
    policy, side
        What was measured, and where.
    graded
        The rows, and everything else that can be measured on them.
    cheap
        The tier of the policy that the others are measured against.
    """

    policy: Policy
    side: str
    graded: Graded
    cheap: str

    @property
    def n_rows(self) -> int:
        """Rows that it was measured on; 0 where no row has every answer."""
        return len(self.graded)

    @property
    def n_side(self) -> int:
        """Rows of that side, answered or not."""
        return self.graded.n_side

    @property
    def summary(self) -> Summary:
        """Accuracy, escalation rate, cost and latency, each with its interval.

        Raises
        ------
        StudyError
            If there is not a single row.
        """
        return self.graded.summary(self.policy)

    @property
    def outcomes(self) -> Outcomes:
        """What was decided about every row."""
        return self.graded.outcomes(self.policy)

    @property
    def inspection(self) -> Inspection:
        """The decisions beside the truth and the cheap tier's answers."""
        return self.graded.inspection(self.policy, cheap=self.cheap)

    @property
    def baselines(self) -> Baselines:
        """The policy's tiers alone, and the oracle between its cheap tier and its last."""
        return self.graded.baselines(self.policy, cheap=self.cheap, strong=self.policy.names[-1])

    @property
    def gain(self) -> PairedDifference:
        """The policy against its cheap tier alone."""
        cheap = next(t for t in self.policy.tiers if t.name == self.cheap)
        return self.graded.gain(self.policy, alone(cheap))

    def curve(self, line: Threshold) -> Curve:
        """The policy over one of its thresholds."""
        return self.graded.curve(self.policy, line)
