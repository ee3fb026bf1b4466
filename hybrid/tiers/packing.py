"""Packing: a fitted model ↔ files of plain numbers and JSON, read back without running code."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import BundleError, TierError
from hybrid.tiers import LocalModel
from hybrid.tiers.calibration import Calibrator
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.embedders import MODEL_PACKAGE, Embedder, EndpointEmbedder, MiniLM
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
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
        case EmbeddingClassifier():
            return "embedding"
        case AveragedClassifier():
            return "embedding_average"


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
        case EmbeddingClassifier():
            return _pack_embedding(name, model)
        case AveragedClassifier():
            own = {"temperature": model.calibrator.temperature, "latency": model.latency}
            return {
                f"{name}.json": json.dumps(own, indent=1).encode(),
                f"{name}_classifier.npz": _pack_classifier(model.fast),
                **_pack_embedding(f"{name}_embedding", model.embedding),
            }


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
        case "embedding":
            return _unpack_embedding(name, files)
        case "embedding_average":
            own = json.loads(files[f"{name}.json"])
            return AveragedClassifier(
                _unpack_classifier(files[f"{name}_classifier.npz"]),
                _unpack_embedding(f"{name}_embedding", files),
                Calibrator(float(own["temperature"])),
                float(own["latency"]),
            )
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


def answers_alike(model: LocalModel) -> bool:
    """Whether a model is bound to answer as it did: an endpoint is not."""
    if isinstance(model, AveragedClassifier):
        return answers_alike(model.embedding)
    return not (isinstance(model, EmbeddingClassifier) and isinstance(model.embedder, EndpointEmbedder))


def _pack_embedding(name: str, model: EmbeddingClassifier) -> dict[str, bytes]:
    """Pack the numbers, and which embedder they need; the embedding model itself stays where it is."""
    out = io.BytesIO()
    np.savez_compressed(
        out,
        weights=model.weights,
        bias=model.bias,
        temperature=np.array(model.calibrator.temperature),
        latency=np.array(model.latency),
    )
    return {f"{name}.json": json.dumps(_describe(model.embedder), indent=1).encode(), f"{name}.npz": out.getvalue()}


def _unpack_embedding(name: str, files: Mapping[str, bytes]) -> EmbeddingClassifier:
    embedder = _embedder(json.loads(files[f"{name}.json"]))
    try:
        embedder.check()
    except TierError as error:
        raise BundleError(f"This bundle asks {embedder.name}, which has to be installed here. {error}") from error
    with np.load(io.BytesIO(files[f"{name}.npz"]), allow_pickle=False) as arrays:
        stored: dict[str, NDArray[Any]] = dict(arrays)
    return EmbeddingClassifier(
        embedder,
        stored["weights"],
        stored["bias"],
        Calibrator(float(stored["temperature"])),
        float(stored["latency"]),
    )


def _describe(embedder: Embedder) -> dict[str, Any]:
    """Return an embedder's settings as JSON values; a key is never among them."""
    match embedder:
        case MiniLM():
            return {
                "kind": "minilm",
                "package": MODEL_PACKAGE,
                "package_version": embedder.package_version,
                "sha256": embedder.sha256,
                "tokenizer_sha256": embedder.tokenizer_sha256,
            }
        case EndpointEmbedder():
            return {
                "kind": "endpoint",
                "model": embedder.model,
                "base_url": embedder.base_url,
                "price": embedder.price,
            }


def _embedder(stored: Mapping[str, Any]) -> Embedder:
    match stored["kind"]:
        case "minilm":
            return MiniLM(stored["package_version"], stored["sha256"], stored["tokenizer_sha256"])
        case "endpoint":
            return EndpointEmbedder(stored["model"], stored["base_url"], float(stored["price"]))
    raise BundleError(f"The bundle's embeddings come from {stored['kind']!r}, unknown here. Upgrade hybrid-tuner.")
