"""Packing: a fitted model ↔ files of plain numbers and JSON, read back without running code."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.calibration import Calibrator
from hybrid.errors import BundleError
from hybrid.tiers import LocalModel
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.gate import HeuristicGate, TrainedGate
from hybrid.tiers.rules import Rule, Rules


def model_name(model: LocalModel | None) -> str:
    """Return what a bundle calls a kind of model; ``external`` where it holds none."""
    match model:
        case None:
            return "external"
        case Rules():
            return "rules"
        case FastClassifier():
            return "classifier"
        case TrainedGate():
            return "trained_gate"
        case HeuristicGate():
            return "heuristic_gate"


def pack(name: str, model: LocalModel) -> dict[str, bytes]:
    """Return a model's files by name; a model without numbers has none."""
    match model:
        case Rules():
            rules = {"rules": [asdict(r) for r in model.rules], "latency": model.latency}
            return {"rules.json": json.dumps(rules, indent=1).encode()}
        case HeuristicGate():
            return {}
        case TrainedGate():
            return {f"{name}.npz": _pack_classifier(model.model)}
        case FastClassifier():
            return {f"{name}.npz": _pack_classifier(model)}


def unpack(name: str, files: Mapping[str, bytes]) -> LocalModel:
    """Return the model that `pack` took apart.

    Raises
    ------
    BundleError, KeyError, ValueError, OSError
        If a file is missing or damaged.
    """
    match name:
        case "rules":
            stored = json.loads(files["rules.json"])
            return Rules(tuple(Rule(**r) for r in stored["rules"]), stored["latency"])
        case "classifier":
            return _unpack_classifier(files["classifier.npz"])
        case "trained_gate":
            return TrainedGate(_unpack_classifier(files["trained_gate.npz"]))
        case "heuristic_gate":
            return HeuristicGate()
    raise BundleError(f"policy.json: nothing here is called {name!r}. Upgrade hybrid-tuner or export again.")


def _pack_classifier(model: FastClassifier) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(
        out,
        terms=np.frombuffer("\n".join(model.terms).encode(), dtype=np.uint8),  # a term holds no line break
        idf=model.idf,
        weights=model.weights,
        bias=model.bias,
        temperature=np.array(model.calibrator.temperature),
        latency=np.array(model.latency),
    )
    return out.getvalue()


def _unpack_classifier(content: bytes) -> FastClassifier:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:  # plain numbers: loading runs no code
        stored: dict[str, NDArray[Any]] = dict(arrays)
    return FastClassifier(
        tuple(stored["terms"].tobytes().decode().split("\n")),
        stored["idf"],
        stored["weights"],
        stored["bias"],
        Calibrator(float(stored["temperature"])),
        float(stored["latency"]),
    )
