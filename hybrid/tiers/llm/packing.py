"""LLM packing: an LLM tier ↔ JSON for a bundle; everything that decides what it is asked, and never the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hybrid.errors import BundleError
from hybrid.tiers.calibration import ConfidenceCalibrator
from hybrid.tiers.llm.examples import Examples
from hybrid.tiers.llm.questions import settings_from
from hybrid.tiers.llm.tier import LLMTier

MODEL = "llm"  # what policy.json calls it


def pack_llm(model: LLMTier, file: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return an LLM tier as JSON values for ``policy.json``, and the file of its examples, if it shows any."""
    stored = {
        "settings": asdict(model.settings),
        "calibrator": model.calibrator.plain() if model.calibrator else None,
        "usual": model.usual,
        "examples": file if model.examples else None,
        "without": list(model.without),
    }
    if model.examples is None:
        return stored, {}
    bank = [model.examples.texts, model.examples.labels, model.examples.cut]
    return stored, {file: json.dumps(bank, ensure_ascii=False).encode()}


def unpack_llm(stored: Mapping[str, Any], classes: tuple[str, ...], files: Mapping[str, bytes]) -> LLMTier:
    """Return the LLM tier that `pack_llm` took apart.

    Raises
    ------
    BundleError, HybridError, KeyError, TypeError, ValueError
        If something is missing or damaged.
    """
    examples = None
    if stored["examples"] is not None:
        texts, labels, *cut = json.loads(files[stored["examples"]])
        if len(texts) != len(labels):
            raise BundleError(f"{stored['examples']} holds {len(texts)} texts and {len(labels)} labels.")
        examples = Examples(tuple(map(str, texts)), tuple(map(str, labels)), *(map(int, cut) if cut else (1,)))
    calibrator = stored["calibrator"]
    return LLMTier(
        settings_from(stored["settings"]),
        classes,
        None if calibrator is None else ConfidenceCalibrator.from_plain(calibrator),
        float(stored["usual"]),
        examples,
        tuple(map(str, stored.get("without", ()))),
    )
