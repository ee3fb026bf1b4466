"""Checking: the numbers of a loaded bundle fit together, before any of them decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from hybrid.data.limits import NAME
from hybrid.errors import BundleError
from hybrid.production.archive import AGAIN
from hybrid.routing.table import Floats
from hybrid.tiers.calibration import LINES, ConfidenceCalibrator
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.confidence import SIGNALS, LearnedConfidence
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.gate import TrainedGate
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.rules import Rules
from hybrid.tiers.scope import EmbeddingScope, WordScope

DEPTH = 12
AROUND = 100  # characters that we put around a name that was given, as "trained gate for …"


def check_model(name: str, model: object, n_classes: int) -> None:
    """Refuse a model whose numbers are not finite, or do not fit each other and the classes.

    Raises
    ------
    BundleError
        The message names the tier and the number.
    """
    for where, value in _numbers(name, model):
        _check_finite(where, value)
        if where.endswith(".temperature") and not value > 0:
            _refuse(f"{where} = {value} must be above 0")
    for part in (model, getattr(model, "fast", None), getattr(model, "embedding", None), getattr(model, "model", None)):
        top = getattr(getattr(part, "calibrator", None), "top", None)
        if top is not None:
            _check_line(name, top)
    match model:
        case Rules():
            _check_rules(name, model, n_classes)
        case TrainedGate():
            _check_words(name, model.model, 2)
        case FastClassifier():
            _check_words(name, model, n_classes)
        case EmbeddingClassifier():
            _check_linear(name, model.weights, model.bias, n_classes)
        case WordScope() | EmbeddingScope():
            _check_scope(name, model)
        case AveragedClassifier():
            _check_words(name, model.fast, n_classes)
            _check_linear(name, model.embedding.weights, model.embedding.bias, n_classes)


def check_llm(name: str, model: LLMTier) -> None:
    """Refuse an LLM tier whose settings, calibration or examples cannot be right.

    Raises
    ------
    BundleError
        The message names the tier and the value.
    """
    for where, value in _numbers(name, model):
        _check_finite(where, value)
    if model.settings.name != name:
        _refuse(f"{name} is an LLM that calls itself {model.settings.name!r}")
    if not 0 <= model.usual <= 1:
        _refuse(f"{name}.usual = {model.usual} must be in [0, 1]")
    if model.calibrator is not None:
        _check_line(name, model.calibrator)
    if model.examples is not None and not set(model.examples.labels) <= set(model.classes):
        _refuse(f"{name} shows examples of a class that the policy does not have")


def _check_line(name: str, line: ConfidenceCalibrator) -> None:
    said, meant = np.array(line.said), np.array(line.meant)
    if line.method not in (*LINES, "constant"):
        _refuse(f"{name}: nothing here calibrates by {line.method!r}")
    if line.method == "temperature" and not line.temperature > 0:
        _refuse(f"{name}.temperature = {line.temperature} must be above 0")
    if line.method == "beta" and not (len(line.powers) == 2 and min(line.powers) >= 0):
        _refuse(f"{name}: its calibration has the powers {line.powers}, and two of 0 or more are needed")
    by_corners = line.method in ("isotonic", "venn_abers")
    if by_corners and (said.ndim != 1 or len(said) < 1 or said.shape != meant.shape):
        _refuse(f"{name}: its calibration has {said.size} points on one axis and {meant.size} on the other")
    if (np.diff(said) < 0).any() or ((meant < 0) | (meant > 1)).any() or not 0 <= line.constant <= 1:
        _refuse(f"{name}: its calibration is no rising line within [0, 1]")


def check_confidence(name: str, model: LearnedConfidence, n_classes: int) -> None:
    """Refuse a learned confidence whose numbers are not finite, or do not fit each other and the classes.

    Raises
    ------
    BundleError
        The message names the tier.
    """
    for where, value in _numbers(name, replace(model, reader=None)):
        _check_finite(where, value)
    if model.reader is not None:
        check_model(f"{name}.reader", model.reader, n_classes)
    codes = (*model.levels, *model.shapes)
    if not set(model.signals) <= set(SIGNALS) or len(model.knots) != len(model.signals):
        _refuse(f"{name}: its confidence rests on {', '.join(map(str, model.signals))}, which is not known here")
    if not all(type(c) is int and 0 <= c < n_classes for c in codes):
        _refuse(f"{name}: its confidence knows a label that is the code of no class")
    if model.weights.shape != (model.n_columns,) or (model.reader is None and set(model.signals) - {SIGNALS[0]}):
        _refuse(f"{name}: the numbers of its confidence do not fit each other")


def check_names(what: str, names: Sequence[str]) -> None:
    """Refuse names that repeat, are empty, or cannot be written."""
    if len(set(names)) < len(names):
        _refuse(f"policy.json: {next(n for n in names if names.count(n) > 1)!r} stands twice among the {what}")
    if not all(map(str.strip, names)):
        _refuse(f"policy.json: a name among the {what} is empty")
    if max(map(len, names), default=0) > (most := NAME.value() + AROUND):
        _refuse(
            f"policy.json: a name among the {what} has more than {most:,} characters; whoever runs this can raise that "
            f"with {NAME.variable}"
        )


def _check_rules(name: str, model: Rules, n_classes: int) -> None:
    for rule in model.rules:
        counts = all(type(n) is int for n in (rule.label, rule.hits, rule.correct))
        if not counts or not isinstance(rule.phrase, str) or not 0 <= rule.label < n_classes:
            _refuse(f"{name}: the rule {rule.phrase!r} has the label {rule.label!r}, which is the code of no class")
        if not (0 <= rule.correct <= rule.hits and 0 <= rule.confidence <= 1):
            _refuse(
                f"{name}: the rule {rule.phrase!r} is right {rule.correct} of {rule.hits} times at a confidence of "
                f"{rule.confidence}, which cannot be"
            )


def _check_words(name: str, model: FastClassifier, n_classes: int) -> None:
    n = len(model.terms)
    if len(set(model.terms)) < n:
        _refuse(f"{name}: a term stands twice")
    if model.idf.shape != (n,) or (model.idf < 0).any():
        _refuse(f"{name}: {n} terms have inverse document frequencies of shape {model.idf.shape}, or below 0")
    if model.weights.shape[:1] != (n,):
        _refuse(f"{name}: {n} terms have weights of shape {model.weights.shape}")
    _check_linear(name, model.weights, model.bias, n_classes)


def _check_linear(name: str, weights: Any, bias: Any, n_classes: int) -> None:
    if weights.ndim != 2 or weights.shape[1] != n_classes or bias.shape != (n_classes,):
        _refuse(f"{name}: weights of shape {weights.shape} and a bias of shape {bias.shape} for {n_classes} classes")
    if not np.isfinite(bias).any():
        _refuse(f"{name}: no class can ever be its answer")


def _check_scope(name: str, model: WordScope | EmbeddingScope) -> None:
    far = model.distances
    if far.ndim != 1 or not len(far) or (np.diff(far) < 0).any() or far[0] < 0 or far[-1] > 2:
        _refuse(f"{name}: its distances are no rising numbers within [0, 2]")
    if isinstance(model, WordScope):
        if len(set(model.terms)) < len(model.terms) or (model.idf < 0).any() or model.unseen < 0:
            _refuse(f"{name}: a word stands twice, or weighs less than nothing")
    elif model.known.ndim != 2 or not len(model.known):
        _refuse(f"{name}: known texts of shape {model.known.shape}")


def _numbers(where: str, value: object, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Walk through every number of a model, each with its place."""
    if depth > DEPTH:
        _refuse(f"{where} is nested too deeply")
    if isinstance(value, float | np.ndarray | np.generic):
        yield where, value
    elif is_dataclass(value):
        for f in fields(value):
            if not f.name.startswith("_") and f.name != "log_loss":  # what it derives, or only shows, decides nothing
                yield from _numbers(f"{where}.{f.name}", getattr(value, f.name, None), depth + 1)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _numbers(f"{where}.{key}", each, depth + 1)
    elif isinstance(value, list | tuple):
        for each in value:
            if not isinstance(each, str):
                yield from _numbers(where, each, depth + 1)


def _check_finite(where: str, value: Floats | float) -> None:
    last = where.rpartition(".")[2]
    held = np.asarray(value)
    if held.dtype.kind not in "fiub":
        _refuse(f"{where} is no number")
    finite = np.isfinite(held)
    if last == "bias" and held.dtype.kind == "f":
        finite |= np.isneginf(held)  # of a class that was never seen
    if not finite.all():
        _refuse(f"{where} holds a number that is not finite")
    if last in ("latency", "price") and (held < 0).any():
        _refuse(f"{where} = {value} must be 0 or more")


def _refuse(what: str) -> None:
    raise BundleError(f"The bundle is damaged: {what}. {AGAIN}")
