"""LLM tier: settings, examples and calibration together; what a bundle stores, and production asks with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybrid.routing.table import UNKNOWN, Answers, Floats
from hybrid.tiers.calibration import DECIMALS, ConfidenceCalibrator
from hybrid.tiers.llm.examples import Examples
from hybrid.tiers.llm.questions import GATE, LLMSettings
from hybrid.tiers.llm.replies import OK, GateSaid, Reply, read_gate


@dataclass(frozen=True, slots=True, eq=False)
class LLMTier:
    """An LLM as it was measured.

    Parameters
    ----------
    classes
        In the order of their codes.
    calibrator
        From the probability of the label's tokens (a gate: from its score) to that of being right; None where no
        answer came with one.
    usual
        Confidence of an answer without a probability: the accuracy on tune.
    examples
        To put before a text; None where the settings want none.
    without
        Parameters that the model refused when it was measured: production does not try them.
    """

    settings: LLMSettings
    classes: tuple[str, ...]
    calibrator: ConfidenceCalibrator | None = None
    usual: float = 0.5
    examples: Examples | None = None
    without: tuple[str, ...] = ()

    def request(self, text: str) -> dict[str, Any]:
        """Return the body of the request about a text."""
        near = self.examples.nearest(text, self.settings.examples) if self.examples else []
        return self.settings.request(text, self.classes, near)

    def check(self, content: str) -> str:
        """Return what a reply's words are worth: ``ok``, or what is wrong with them."""
        return self.settings.check(content, self.classes)

    def answers(self, replies: Sequence[Reply]) -> Answers:
        """Turn replies into calibrated answers; what cannot be used is `UNKNOWN` with confidence 0, at its cost."""
        raw = raw_confidence(self.settings, replies)
        calibrated = raw if self.calibrator is None else self.calibrator.apply(raw)
        return as_answers(self.settings, self.classes, replies, calibrated, usual=self.usual)

    def gate_said(self, reply: Reply) -> GateSaid | None:
        """Return the tier, reasoning and difficulty in a gate's reply; None where it gave none, or is no gate."""
        usable = self.settings.role == GATE and reply.kind == OK
        return read_gate(reply.content, self.settings.tiers) if usable else None


def raw_confidence(settings: LLMSettings, replies: Sequence[Reply]) -> Floats:
    """Return what each reply says of itself, shape ``(n_replies,)``; nan where it says nothing, 0 where it failed."""
    if settings.role == GATE:
        gates = [read_gate(r.content, settings.tiers) if r.kind == OK else None for r in replies]
        return np.array([0.0 if g is None else g.score for g in gates], dtype=np.float64)
    said = [(np.nan if r.probability is None else max(r.probability, 1e-9)) if r.kind == OK else 0.0 for r in replies]
    return np.array(said, dtype=np.float64)


def as_answers(
    settings: LLMSettings, classes: Sequence[str], replies: Sequence[Reply], confidence: Floats, *, usual: float
) -> Answers:
    """Turn replies into answers.

    Parameters
    ----------
    confidence
        Calibrated, shape ``(n_replies,)``; nan where a reply has none and gets the `usual` one.
    """
    names = list(classes)
    ok = np.array([r.kind == OK for r in replies], dtype=bool)
    codes = [settings.read(r.content, names) if r.kind == OK and settings.role != GATE else UNKNOWN for r in replies]
    sure: Floats = np.where(ok, np.where(np.isnan(confidence), usual, confidence), 0.0)
    rounded: Floats = np.round(sure, DECIMALS)
    return Answers(
        np.array(codes, dtype=np.int64),
        rounded,
        np.array([cost_of(settings, r) for r in replies], dtype=np.float64),
        _latencies(replies),
    )


def _latencies(replies: Sequence[Reply]) -> Floats:
    """Return the seconds of each reply; one that came in a batch gets the median of the others, 0 if there are none."""
    known = [r.latency for r in replies if r.latency is not None]
    usual = float(np.median(known)) if known else 0.0
    return np.array([usual if r.latency is None else r.latency for r in replies], dtype=np.float64)


def cost_of(settings: LLMSettings, reply: Reply) -> float:
    """Return USD for a reply; a failed call before it that may have been charged counts as much again."""
    return (1 + reply.lost) * settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
