"""Calibration: raw scores → probabilities of being right, by one temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from hybrid.predictions import Floats, Labels

MAX_ROWS = 20_000  # more rows do not move one parameter, they only cost time


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Divide logits by a temperature; above 1 it makes a model less sure, below 1 surer.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks.
    """

    temperature: float = 1.0

    def probabilities(self, logits: Floats) -> Floats:
        """Return calibrated probabilities, shape ``(n_rows, n_classes)``, rows summing to 1."""
        scaled: Floats = softmax(logits / self.temperature, axis=1)
        return scaled


def fit_calibrator(logits: Floats, truth: Labels) -> Calibrator:
    """Find the temperature with the smallest log loss on held-out logits.

    Parameters
    ----------
    logits
        Shape ``(n_rows, n_classes)``, of rows that the model was not fitted on; -inf for a class that it never saw.
    truth
        Class codes, shape ``(n_rows,)``. Rows whose class the model never saw are left out.

    Returns
    -------
    Calibrator
        With temperature 1 where no row is left.

    Examples
    --------
    Three of four right at even odds: log(3) is the honest logit, so a claimed 2·log(3) is halved.

    >>> sure = 2 * np.log(3)
    >>> logits = np.array([[sure, 0.0]] * 4)
    >>> round(fit_calibrator(logits, np.array([0, 0, 0, 1])).temperature, 3)
    2.0
    """
    step = -(-len(truth) // MAX_ROWS) if len(truth) else 1
    logits, truth = logits[::step], truth[::step]
    own = logits[np.arange(len(truth)), truth]
    usable = np.isfinite(own)
    if not usable.any():
        return Calibrator()
    logits, own = logits[usable], own[usable]
    top = logits.max(axis=1)
    gaps, own = logits - top[:, None], own - top  # whatever the temperature, the greatest exponential is 1

    def log_loss(log_temperature: float) -> float:
        t = np.exp(log_temperature)
        return float(np.mean(np.log(np.exp(gaps / t).sum(axis=1)) - own / t))

    best = minimize_scalar(log_loss, bounds=(np.log(0.01), np.log(100.0)), method="bounded", options={"xatol": 1e-5})
    return Calibrator(float(np.exp(best.x)))
