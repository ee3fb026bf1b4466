"""Axes: where a threshold stands on a chart: as it is, stretched near 1, or by the share of texts that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.metrics.curve import Curve
from hybrid.routing.table import NEVER, Floats

PLAIN, STRETCHED, KEPT = "Confidence", "Stretched near 1", "Share kept"
NAMES = (PLAIN, STRETCHED, KEPT)
TICKS = (0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99999)


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Where thresholds stand, from left to right in ascending order on each axis.

    Parameters
    ----------
    name
        One of `NAMES`.
    curve
        Over the threshold of this axis.
    """

    name: str
    curve: Curve

    @property
    def plain(self) -> bool:
        """Whether a place on the axis is the threshold itself."""
        return self.name == PLAIN

    def position(self, threshold: Floats | Sequence[float]) -> Floats:
        """Return coordinates: ``t``, ``−log10(1 − t)``, or the share of rows below ``t``; shape as given."""
        t = np.asarray(threshold, dtype=float)
        if self.name == KEPT:
            below: Floats = 1 - self.curve.kept[self.curve.at(t)]
            return below
        return t if self.plain else -np.log10(np.maximum(1 - t, self._closest()))

    def _closest(self) -> float:
        """Half the gap between 1 and the greatest threshold below it: where 1 itself is drawn."""
        gaps = 1 - self.curve.threshold[self.curve.threshold < 1]
        return max(float(gaps.min()) / 2, 1e-6) if gaps.size else 0.5

    @property
    def range(self) -> tuple[float, float]:
        """Return the coordinates of the left and the right end."""
        if self.name != STRETCHED:
            return 0.0, NEVER if self.plain else 1.0
        low, high = self.position([0.0, 1.0])
        return float(low), float(high)

    def ticks(self) -> dict[str, object]:
        """Return Plotly's settings of the ticks."""
        if self.plain:
            return {}
        if self.name == KEPT:
            return {"tickvals": np.linspace(0, 1, 6).tolist(), "ticktext": [f"{s:.0%}" for s in np.linspace(1, 0, 6)]}
        shown = [t for t in TICKS if 1 - t >= self._closest()]
        return {"tickvals": self.position(shown).tolist(), "ticktext": [f"{t:g}" for t in shown]}
