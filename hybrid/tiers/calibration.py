"""Calibration: raw scores → probabilities of being right.

A classifier's logits get one temperature (`Calibrator`); its top probability, and a confidence that any other tier
states about itself, then the best of several rising lines by held-out log loss (`ConfidenceCalibrator`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, minimize, minimize_scalar
from scipy.special import expit, logit, softmax, xlogy

from hybrid.routing.table import Bools, Floats, Labels

# Confidences are rounded so that the last bits, which differ between machines, never decide at a threshold.
DECIMALS = 9
GRADERS = 3  # folds whose models answer the test rows as well
MAX_ROWS = 20_000  # more rows do not move one parameter, they only cost time


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Divide logits by a temperature; above 1 it makes a model less sure, below 1 surer.

    Parameters
    ----------
    temperature
        Of all classes' probabilities.
    top
        What the probability of the answer means, where a line fits better than that alone; None: as it is.

    Notes
    -----
    A weight and a shift for each class (vector scaling) is not offered: it changes answers, which calibration is not
    to do, and held out it made the probability of the answer no better on any of three sets (log loss gained: sample
    −.009 ± .007, HEADLINES .000 ± .001, BANKING77 .000 ± .001).

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks.
    """

    temperature: float = 1.0
    top: ConfidenceCalibrator | None = None

    def probabilities(self, logits: Floats) -> Floats:
        """Return calibrated probabilities, shape ``(n_rows, n_classes)``, rows summing to 1."""
        scaled: Floats = softmax(logits / self.temperature, axis=1)
        return scaled

    def confidence(self, probabilities: Floats) -> Floats:
        """Return how likely the most probable class of each row is right, shape ``(n_rows,)``."""
        best: Floats = probabilities.max(axis=1)
        return best if self.top is None else self.top.apply(best)

    def plain(self) -> dict[str, Any]:
        """Return the fields as what JSON can hold; `from_plain` reads it back."""
        return {"temperature": self.temperature, "top": None if self.top is None else self.top.plain()}

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> Calibrator:
        """Build the calibrator that `plain` described, to the last digit; without a line where none is named."""
        top = fields.get("top")
        return cls(float(fields["temperature"]), None if top is None else ConfidenceCalibrator.from_plain(top))


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


class Again(NamedTuple):
    """What a fold's model, fitted on fewer rows than the one that ships, says of the test rows, ascending.

    Parameters
    ----------
    label, confidence
        Shape ``(n_test,)`` each.
    probabilities
        Calibrated as that fold's rows are, shape ``(n_test, n_classes)``; None where there are none.
    """

    label: Labels
    confidence: Floats
    probabilities: Floats | None = None

    @classmethod
    def of(cls, logits: Floats, calibrator: Calibrator) -> Again:
        """Calibrate logits, shape ``(n_test, n_classes)``."""
        probabilities = calibrator.probabilities(logits)
        confidence = np.round(calibrator.confidence(probabilities), DECIMALS)
        return cls(probabilities.argmax(axis=1), confidence, probabilities)


class CrossCalibrated(NamedTuple):
    """What comes of calibrating every row by rows other than itself.

    Parameters
    ----------
    calibrator
        The one that ships: of all tune rows.
    probabilities
        Shape ``(n_rows, n_classes)``: of a fold's rows by the other folds' temperature, of test rows by the shipped.
    confidence
        Of the most probable class, likewise, shape ``(n_rows,)``.
    by_fold
        The calibrator of each fold's rows.
    """

    calibrator: Calibrator
    probabilities: Floats
    confidence: Floats
    by_fold: dict[int, Calibrator]


def cross_calibrated(logits: Floats, truth: Labels, fold: Labels) -> CrossCalibrated:
    """Calibrate every row by a temperature and a line that it had no part in.

    Parameters
    ----------
    logits
        Shape ``(n_rows, n_classes)``.
    fold
        Number of the fold a row is held out in, -1 for test rows.
    """
    tune, right = fold >= 0, logits.argmax(axis=1) == truth
    shipped, method = fit_calibrator(logits[tune], truth[tune]), ""
    probabilities, confidence, by_fold = np.empty_like(logits), np.empty(len(logits)), {}
    for f in (-1, *np.unique(fold[tune])):
        rows = tune & (fold != f) if f >= 0 else tune
        own = fit_calibrator(logits[rows], truth[rows]) if f >= 0 else shipped
        if rows.any():
            said = own.probabilities(logits[rows]).max(axis=1)
            if f < 0:
                method = _best_line(said, right[rows])
            own = replace(own, top=_METHODS[method](*_thinned(said, right[rows])) if method else None)
        if f < 0:
            shipped = own
        else:
            by_fold[int(f)] = own
        probabilities[fold == f] = own.probabilities(logits[fold == f])
        confidence[fold == f] = own.confidence(probabilities[fold == f])
    return CrossCalibrated(shipped, probabilities, confidence, by_fold)


def _thinned(said: Floats, right: Bools) -> tuple[Floats, Floats]:
    step = max(1, -(-len(said) // MAX_ROWS))
    return said[::step], right[::step].astype(np.float64)


def _best_line(said: Floats, right: Bools) -> str:
    """Return which line to lay through a classifier's own probabilities; none, "", where they are as good as any."""
    said, hit = _thinned(said, right)
    if len(said) < LEAST_FOR_A_LINE or np.ptp(hit) == 0 or np.ptp(said) == 0:
        return ""
    fold = np.random.default_rng(0).permutation(len(said)) % FOLDS
    losses = {"": _log_loss(said, hit)}
    losses |= {name: _held_out_log_loss(_METHODS[name], said, hit, fold) for name in LINES}
    return _simplest(losses)


def _simplest(losses: Mapping[str, Floats]) -> str:
    """Return the first method, of those from simple to flexible, that is not surely worse than the best of them.

    Surely: by more than one standard error of the paired difference.

    References
    ----------
    Breiman et al. 1984, Classification and Regression Trees (the one standard error rule).
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    for name, loss in losses.items():
        worse = loss - losses[best]
        if worse.mean() <= worse.std() / np.sqrt(len(worse)):
            return name
    return best


LINES = ("temperature", "beta", "isotonic", "venn_abers")  # from simple to flexible
LEAST_FOR_A_LINE = 200  # rows; fewer give a classifier's temperature no second
BLOCKS = 300  # of rows that Venn-Abers keeps apart
CORNERS = 100  # of its line
MIN_ROWS = 10  # fewer say nothing about the shape of a confidence
FOLDS = 5  # of the held-out log loss
EPSILON = 1e-6  # confidences nearer to 0 or 1 are not told apart on the logit scale


@dataclass(frozen=True, slots=True)
class ConfidenceCalibrator:
    """Turn what a tier says about itself into the probability that it is right, in plain numbers.

    All shapes are increasing, so that no two rows change places: a temperature (and a shift) on the logit; beta, which
    stretches the two ends apart; isotonic steps joined by straight lines through their centres; and Venn-Abers, which
    asks at each confidence what the steps would be were one more answer right, or wrong. Confidence 0 stands for a
    failed answer and stays 0; nan stands for an answer that was not asked and stays nan.

    Parameters
    ----------
    method
        ``temperature``, ``beta``, ``isotonic``, ``venn_abers`` or ``constant``.
    temperature, shift
        ``logit(calibrated) = logit(said) / temperature + shift``.
    powers
        Of beta: ``logit(calibrated) = powers[0] · ln(said) − powers[1] · ln(1 − said) + shift``.
    said, meant
        The corners of the isotonic line, or of Venn-Abers': confidences as said, rising, and what they mean.
    constant
        Share of right answers; what ``constant`` returns.
    informative
        False where the tier's confidence tells nothing about being right (``constant`` is then the method).
    log_loss
        Held-out log loss of each method that was tried; empty where there were too few rows to try.
    reason
        Why this method, in a sentence for the screen.

    References
    ----------
    Platt 1999; Guo et al. 2017; Zadrozny & Elkan 2002; Oron & Flournoy 2017, Centered Isotonic Regression;
    Kull, Silva Filho & Flach 2017, Beta calibration; Vovk & Petej 2014, Venn-Abers Predictors.
    """

    method: str = "temperature"
    temperature: float = 1.0
    shift: float = 0.0
    said: tuple[float, ...] = ()
    meant: tuple[float, ...] = ()
    constant: float = 0.5
    informative: bool = True
    log_loss: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    powers: tuple[float, float] = (1.0, 1.0)

    def apply(self, confidence: Floats) -> Floats:
        """Return the probability of being right for each confidence, same shape, in [0, 1].

        Examples
        --------
        >>> ConfidenceCalibrator(temperature=2.0).apply(np.array([0.0, 0.5, 0.9, np.nan])).tolist()
        [0.0, 0.5, 0.75, nan]
        """
        confidence = np.asarray(confidence, dtype=np.float64)
        if self.method == "temperature":
            calibrated = expit(_logit(confidence) / self.temperature + self.shift)
        elif self.method == "beta":
            sure, unsure = _logs(confidence)
            calibrated = expit(self.powers[0] * sure - self.powers[1] * unsure + self.shift)
        elif self.method in ("isotonic", "venn_abers"):
            calibrated = np.interp(confidence, self.said, self.meant)
        else:
            calibrated = np.full(confidence.shape, self.constant)
        calibrated = np.where(confidence > 0, calibrated, 0.0)
        result: Floats = np.where(np.isnan(confidence), np.nan, calibrated)
        return result

    def plain(self) -> dict[str, Any]:
        """Return the fields as what JSON can hold; `from_plain` reads it back."""
        fields = asdict(self)
        return {
            **fields,
            "said": list(self.said),
            "meant": list(self.meant),
            "powers": list(self.powers),
            "log_loss": dict(self.log_loss),
        }

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> ConfidenceCalibrator:
        """Build the calibrator that `plain` described, to the last digit."""
        pairs = tuple((str(k), float(v)) for k, v in fields["log_loss"].items())
        several = {name: tuple(fields[name]) for name in ("said", "meant", "powers") if name in fields}
        return cls(**{**fields, **several, "log_loss": pairs})


def fit_confidence_calibrator(confidence: Floats, right: Bools, *, seed: int = 0) -> ConfidenceCalibrator:
    """Choose a line by held-out log loss, the simplest of those that are as good, and fit the choice on all rows.

    Parameters
    ----------
    confidence
        As the tier said it, in [0, 1], shape ``(n_rows,)``; rows with nan (not asked) or 0 (failed) are left out.
    right
        Whether the answer was right, shape ``(n_rows,)``.
    seed
        Of the folds.

    Returns
    -------
    ConfidenceCalibrator
        A ``constant`` with ``informative=False`` where no method predicts better than the share of right
        answers does, where all confidences or all verdicts are the same, or below `MIN_ROWS` rows.

    Examples
    --------
    A tier that always claims 0.99 and is right in three of four rows:

    >>> fitted = fit_confidence_calibrator(np.full(40, 0.99), np.arange(40) % 4 > 0)
    >>> fitted.method, fitted.informative, round(float(fitted.apply(np.array([0.99]))[0]), 2)
    ('constant', False, 0.74)
    """
    usable = np.flatnonzero(np.nan_to_num(np.asarray(confidence, dtype=np.float64)) > 0)
    usable = usable[:: max(1, -(-len(usable) // MAX_ROWS))]
    said, hit = np.asarray(confidence, dtype=np.float64)[usable], np.asarray(right, dtype=np.float64)[usable]
    flat = _fit_constant(said, hit)
    if len(said) < MIN_ROWS:
        return replace(flat, reason=f"Only {len(said)} answers: too few to say what this confidence means.")
    if np.ptp(said) == 0:
        return replace(flat, reason="Every answer claims the same confidence: it carries no information.")
    if np.ptp(hit) == 0:
        what = "right" if hit[0] else "wrong"
        return replace(flat, reason=f"Every answer is {what}: nothing to tell sure from unsure by.")

    fold = np.random.default_rng(seed).permutation(len(said)) % FOLDS
    by_row = {name: _held_out_log_loss(fit, said, hit, fold) for name, fit in _METHODS.items()}
    losses = {name: float(loss.mean()) for name, loss in by_row.items()}
    best = min(losses, key=lambda name: losses[name])  # the first of equals: the simplest
    if best != "constant":
        best = _simplest({name: by_row[name] for name in LINES})
    fitted = replace(_METHODS[best](said, hit), constant=flat.constant, log_loss=tuple(losses.items()))
    if best == "constant":
        reason = (
            f"Held-out log loss {losses['constant']:.3f} without this confidence, {losses['temperature']:.3f} with "
            "temperature: it carries no information about being right."
        )
        return replace(fitted, reason=reason)
    others = ", ".join(f"{losses[name]:.3f} with {WORDS[name]}" for name in LINES if name != best)
    return replace(fitted, reason=f"Held-out log loss {losses[best]:.3f} with {WORDS[best]}, against {others}.")


def cross_fitted(confidence: Floats, right: Bools, fold: Labels, *, seed: int = 0) -> Floats:
    """Calibrate each row by a calibrator that was fitted on the other folds only.

    Parameters
    ----------
    confidence, right
        As in `fit_confidence_calibrator`, shape ``(n_rows,)``.
    fold
        Any integers, shape ``(n_rows,)``; rows with equal ones are held out together.

    Returns
    -------
    Floats
        Shape ``(n_rows,)``. With one fold only there is nothing to fit on: the confidences as they were said.
    """
    calibrated = np.array(confidence, dtype=np.float64)
    folds = np.unique(fold)
    if len(folds) < 2:
        return calibrated
    for held_out in folds:
        own = fold == held_out
        calibrated[own] = fit_confidence_calibrator(confidence[~own], right[~own], seed=seed).apply(confidence[own])
    return calibrated


def _logit(confidence: Floats) -> Floats:
    found: Floats = logit(np.clip(confidence, EPSILON, 1 - EPSILON))
    return found


def _logs(confidence: Floats) -> tuple[Floats, Floats]:
    clipped = np.clip(confidence, EPSILON, 1 - EPSILON)
    return np.log(clipped), np.log1p(-clipped)


def _log_loss(p: Floats, hit: Floats) -> Floats:
    p = np.clip(p, EPSILON, 1 - EPSILON)
    found: Floats = -(xlogy(hit, p) + xlogy(1 - hit, 1 - p))
    return found


def _held_out_log_loss(fit: _Fit, said: Floats, hit: Floats, fold: Labels) -> Floats:
    """Return each row's log loss under a line that was fitted on the other folds."""
    losses = np.empty(len(said))
    for held_out in range(FOLDS):
        own = fold == held_out
        losses[own] = _log_loss(fit(said[~own], hit[~own]).apply(said[own]), hit[own])
    return losses


def _fit_constant(said: Floats, hit: Floats) -> ConfidenceCalibrator:
    share = (float(hit.sum()) + 1) / (len(hit) + 2)  # Laplace: never a certain 0 or 1
    return ConfidenceCalibrator("constant", constant=share, informative=False)


def _fit_temperature(said: Floats, hit: Floats) -> ConfidenceCalibrator:
    x = _logit(said)

    def log_loss(parameters: Floats) -> tuple[float, Floats]:
        slope = np.exp(parameters[0])  # positive: the order of rows stays
        z = slope * x + parameters[1]
        gap = expit(z) - hit
        # a light pull towards 1 and 0 keeps separable rows finite; it weighs as much as one row
        loss = np.sum(np.logaddexp(0, z) - hit * z) + 0.5 * np.sum(parameters**2)
        return float(loss) / len(x), (np.array([slope * gap @ x, gap.sum()]) + parameters) / len(x)

    found = minimize(log_loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-4.0, 4.0), (-15.0, 15.0)])
    return ConfidenceCalibrator("temperature", temperature=float(np.exp(-found.x[0])), shift=float(found.x[1]))


def _fit_beta(said: Floats, hit: Floats) -> ConfidenceCalibrator:
    sure, unsure = _logs(said)

    def log_loss(parameters: Floats) -> tuple[float, Floats]:
        a, b, shift = parameters
        z = a * sure - b * unsure + shift
        gap, off = expit(z) - hit, parameters - START
        # as light a pull to what was said as a temperature has
        loss = np.sum(np.logaddexp(0, z) - hit * z) + 0.5 * off @ off
        return float(loss) / len(said), (np.array([gap @ sure, -gap @ unsure, gap.sum()]) + off) / len(said)

    found = minimize(log_loss, START, jac=True, method="L-BFGS-B", bounds=[(0.0, 50.0), (0.0, 50.0), (-15.0, 15.0)])
    a, b, shift = (float(x) for x in found.x)
    return ConfidenceCalibrator("beta", shift=shift, powers=(a, b))


def _fit_venn_abers(said: Floats, hit: Floats) -> ConfidenceCalibrator:
    distinct, inverse, count = np.unique(said, return_inverse=True, return_counts=True)
    ends = np.unique(np.linspace(0, len(distinct), min(BLOCKS, len(distinct)) + 1).astype(np.intp))
    weight = np.add.reduceat(count, ends[:-1]).astype(np.float64)
    at = np.add.reduceat(distinct * count, ends[:-1]) / weight
    share = np.add.reduceat(np.bincount(inverse, hit), ends[:-1]) / weight
    corners = np.unique(np.linspace(0, len(at) - 1, CORNERS).astype(np.intp))
    meant = []
    for i in corners:
        ends_of_it = []
        for answer in (0.0, 1.0):  # one more at this confidence, wrong or right
            more, own = weight.copy(), share.copy()
            own[i] = (share[i] * weight[i] + answer) / (weight[i] + 1)
            more[i] += 1
            ends_of_it.append(isotonic_regression(own, weights=more).x[i])
        wrong, right = ends_of_it
        meant.append(right / (1 - wrong + right))
    rising = np.maximum.accumulate(np.array(meant))
    return ConfidenceCalibrator("venn_abers", said=tuple(at[corners].tolist()), meant=tuple(rising.tolist()))


def _fit_isotonic(said: Floats, hit: Floats) -> ConfidenceCalibrator:
    distinct, inverse, weight = np.unique(said, return_inverse=True, return_counts=True)
    steps = isotonic_regression(np.bincount(inverse, hit) / weight, weights=weight)
    starts = steps.blocks[:-1]
    mass = np.add.reduceat(weight.astype(float), starts)
    centre = np.add.reduceat(distinct * weight, starts) / mass
    least = 1 / (len(said) + 2)  # a pure step is not certainty
    meant = np.clip(steps.x[starts], least, 1 - least)
    return ConfidenceCalibrator("isotonic", said=tuple(centre.tolist()), meant=tuple(meant.tolist()))


START = np.array([1.0, 1.0, 0.0])  # beta that changes nothing
WORDS = {"temperature": "temperature", "beta": "beta", "isotonic": "isotonic", "venn_abers": "Venn-Abers"}
_Fit = Callable[[Floats, Floats], ConfidenceCalibrator]
_METHODS: dict[str, _Fit] = {
    "constant": _fit_constant,
    "temperature": _fit_temperature,
    "beta": _fit_beta,
    "isotonic": _fit_isotonic,
    "venn_abers": _fit_venn_abers,
}
