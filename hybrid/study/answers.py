"""LLM answers: the replies that were recorded become a calibrated tier beside the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.routing.table import Answers, Bools, Floats, Rows, Tier
from hybrid.study.evidence import Recording, spread
from hybrid.tiers.calibration import ConfidenceCalibrator, cross_fitted, fit_confidence_calibrator
from hybrid.tiers.llm.examples import Examples
from hybrid.tiers.llm.questions import GATE, LLMSettings
from hybrid.tiers.llm.replies import GateSaid, Reply
from hybrid.tiers.llm.tier import LLMTier, as_answers, raw_confidence


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredLLM:
    """An LLM tier and what it said about each row; nan where it was not asked.

    Parameters
    ----------
    replies
        By row, in the LLM's own words: a gate's reasoning and difficulty, or why a row was refused or failed.
    """

    tier: Tier
    model: LLMTier
    answers: Answers
    replies: Mapping[int, Reply]

    @property
    def n_answered(self) -> int:
        """Rows that it was asked about, those that it refused and those that failed included."""
        return len(self.replies)

    def gate_said(self, row: int) -> GateSaid | None:
        """Return the tier, reasoning and difficulty that a gate gave for a row; None where it gave none."""
        reply = self.replies.get(row)
        return None if reply is None else self.model.gate_said(reply)

    @property
    def key(self) -> str:
        """Tell these answers from any other."""
        digest = hashlib.sha256(repr(self.model.settings).encode())
        for values in (self.answers.label, self.answers.confidence, self.answers.cost, self.answers.latency):
            digest.update(values.tobytes())
        return digest.hexdigest()


def answered(
    settings: LLMSettings, recording: Recording, rows: Rows, replies: Sequence[Reply | None], *, cheap: str
) -> AnsweredLLM:
    """Calibrate an LLM's replies on the tune rows, and lay them beside the rows.

    A tune row's confidence comes of a calibrator fitted on the other folds, a test row's of the one that ships.

    Parameters
    ----------
    rows, replies
        What was asked about, and what came back; None where nothing did yet.
    cheap
        The tier that a gate judges: its score is calibrated to the chance that this one is right.
    """
    dataset, fold = recording.dataset, recording.split.fold
    got = [(int(i), r) for i, r in zip(rows, replies, strict=True) if r is not None]
    at = np.array([i for i, _ in got], dtype=np.intp)
    said = [r for _, r in got]
    raw = raw_confidence(settings, said)
    bare = as_answers(settings, dataset.classes, said, raw, usual=0.5)
    judged = (
        recording.predictions.label[at, recording.predictions.index(cheap)] if settings.role == GATE else bare.label
    )
    right = judged == dataset.truth[at]
    tune = fold[at] >= 0
    calibrator, calibrated = _calibrate(raw, right, fold[at], tune)
    usual = _usual(right, tune, raw)
    answers = as_answers(settings, dataset.classes, said, calibrated, usual=usual)
    bank = None
    if settings.examples and dataset.texts is not None:
        shown = recording.split.tune
        bank = Examples(tuple(dataset.texts[shown]), tuple(dataset.classes[c] for c in dataset.truth[shown]))
    without = tuple(sorted({name for r in said for name in r.without}))
    model = LLMTier(settings, dataset.classes, calibrator, usual, bank, without)
    price = round(float(answers.cost.mean()), 12) if len(got) else 0.0
    tier = Tier(settings.name, "gate" if settings.role == GATE else "llm", price=price)
    return AnsweredLLM(tier, model, spread(answers, at, dataset.n_rows), dict(got))


def _calibrate(raw: Floats, right: Bools, fold: np.ndarray, tune: Bools) -> tuple[ConfidenceCalibrator | None, Floats]:
    known = ~np.isnan(raw)
    if not (known & tune).any():
        return None, raw
    shipped = fit_confidence_calibrator(raw[tune], right[tune])
    calibrated = shipped.apply(raw)
    calibrated[tune] = cross_fitted(raw[tune], right[tune], fold[tune])
    return shipped, calibrated


def _usual(right: Bools, tune: Bools, raw: Floats) -> float:
    """Return the accuracy on tune of the replies that say nothing of themselves; of all, where there are none."""
    mute = tune & np.isnan(raw)
    usable = mute if mute.any() else tune & (raw > 0)
    return round(float(right[usable].mean()), 9) if usable.any() else 0.5
