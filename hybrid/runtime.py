"""Runtime: texts in, decisions out, by the same engine that the dashboard replayed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.bundle import Bundle
from hybrid.bundle import load as load_bundle
from hybrid.errors import BundleError, TierError
from hybrid.predictions import UNKNOWN, Answers
from hybrid.routing import Ask, Outcomes, Policy, rounds


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that you supply says about one text.

    Parameters
    ----------
    label
        One of the classes; anything else, None included, counts as a failed answer.
    confidence
        In [0, 1]; None: the tier's usual confidence, or 1 where it has none.
    cost
        USD; None: the tier's price.
    """

    label: str | None
    confidence: float | None = None
    cost: float | None = None


Model = Callable[[Sequence[str]], Sequence[Answer] | Awaitable[Sequence[Answer]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One tier's answer on the way to a decision."""

    tier: str
    label: str | None
    confidence: float
    cost: float  # USD
    latency: float  # seconds


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one text.

    Parameters
    ----------
    label
        One of the classes, or None where no tier that was asked knew.
    confidence
        Of the final answer.
    tier
        Name of the tier whose answer it is.
    cost
        USD, every asked tier counted.
    latency
        Seconds that were waited for tiers, as measured now.
    trace
        Every tier that was asked, from first to last column, and what it said.
    """

    label: str | None
    confidence: float
    tier: str
    cost: float
    latency: float
    trace: tuple[Step, ...]


class Runtime:
    """A loaded policy: call it with a text, or with many through `decide` or `batch`.

    Parameters
    ----------
    bundle
        From `hybrid.bundle.load`.
    models
        For each external tier a function, plain or async: texts → one `Answer` each.

    Raises
    ------
    BundleError
        If an external tier has no function, or a function belongs to no external tier.
    """

    def __init__(self, bundle: Bundle, models: Mapping[str, Model] | None = None) -> None:
        given = dict(models or {})
        missing = [n for n in bundle.external if n not in given]
        if missing:
            simulated = [t.name for t in bundle.policy.tiers if t.simulated and t.name in missing]
            why = f" ({', '.join(simulated)} was simulated in the dashboard and cannot answer)" if simulated else ""
            raise BundleError(
                f"This policy asks {', '.join(map(repr, missing))}, which the bundle does not hold{why}. Supply it: "
                f"hybrid.load(path, models={{{missing[0]!r}: function}}), a function from a list of texts to a list of "
                "hybrid.Answer."
            )
        stray = [n for n in given if n not in bundle.external]
        if stray:
            raise BundleError(
                f"models has {stray[0]!r}, but the external tiers of this bundle are: "
                f"{', '.join(bundle.external) or 'none'}. Correct the name or leave it out."
            )
        self.bundle = bundle
        self._models: dict[str, Model] = given
        self._codes = {name: code for code, name in enumerate(bundle.config.classes)}
        self._tiers = {t.name: t for t in bundle.config.tiers}

    @property
    def policy(self) -> Policy:
        return self.bundle.policy

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.bundle.config.classes)

    def __call__(self, text: str) -> Decision:
        """Decide one text."""
        return self.decide([text])[0]

    def decide(self, texts: Sequence[str]) -> list[Decision]:
        """Decide texts and wait for it; inside an event loop, ``await batch(texts)`` does not block the loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.batch(texts))
        with ThreadPoolExecutor(1) as pool:  # a notebook has a loop running already
            return pool.submit(asyncio.run, self.batch(texts)).result()

    async def batch(self, texts: Sequence[str]) -> list[Decision]:
        """Decide texts, asking the tiers of a round concurrently; the same decisions as one by one."""
        return self.explain(await self.outcomes(texts))

    async def outcomes(self, texts: Sequence[str]) -> Outcomes:
        """Decide texts; returns arrays, as `replay` does."""
        if isinstance(texts, str):
            raise TierError("A batch is a list of texts; for one text, call the pipeline with it.")
        wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise TierError(f"Text {wrong[0] + 1} is {type(texts[wrong[0]]).__name__}, not a string: convert it first.")
        steps = rounds(self.policy, len(texts))
        try:
            asks = next(steps)
            while True:
                asks = steps.send(await asyncio.gather(*(self._ask(ask, texts) for ask in asks)))
        except StopIteration as end:
            outcomes: Outcomes = end.value
            return outcomes

    def explain(self, outcomes: Outcomes) -> list[Decision]:
        """Turn outcomes into decisions with names and traces."""
        names, seen = self.policy.names, outcomes.seen
        # plain lists: reading one number of an array takes longer than building the decision
        label = [self._label(c) for c in outcomes.label.tolist()]
        tier, confidence = outcomes.tier.tolist(), outcomes.confidence.tolist()
        cost, latency, asked = outcomes.cost.tolist(), outcomes.latency.tolist(), outcomes.asked.tolist()
        said = list(
            zip(seen.label.tolist(), seen.confidence.tolist(), seen.cost.tolist(), seen.latency.tolist(), strict=True)
        )
        return [
            Decision(
                label[i],
                confidence[i],
                names[tier[i]],
                cost[i],
                latency[i],
                tuple(
                    Step(names[j], self._label(codes[j]), sure[j], paid[j], waited[j])
                    for j, was_asked in enumerate(asked[i])
                    if was_asked
                ),
            )
            for i, (codes, sure, paid, waited) in enumerate(said)
        ]

    def _label(self, code: Any) -> str | None:
        return None if code == UNKNOWN else self.classes[code]

    async def _ask(self, ask: Ask, texts: Sequence[str]) -> Answers:
        name = self.policy.names[ask.tier]
        asked = [texts[i] for i in ask.rows]
        start = time.perf_counter()
        local = self.bundle.models.get(name)
        answers = local.answer(asked) if local is not None else self._encode(name, await self._call(name, asked))
        elapsed = np.full(len(asked), time.perf_counter() - start)
        return Answers(answers.label, answers.confidence, answers.cost, elapsed)

    async def _call(self, name: str, texts: list[str]) -> Sequence[Answer]:
        model = self._models[name]
        if inspect.iscoroutinefunction(model) or inspect.iscoroutinefunction(type(model).__call__):
            said = model(texts)
        else:
            said = await asyncio.to_thread(model, texts)  # members of a round wait side by side
        answers: Sequence[Answer] = await said if inspect.isawaitable(said) else said
        if len(answers) != len(texts):
            raise TierError(f"{name} was asked about {len(texts)} texts and answered {len(answers)}.")
        return answers

    def _encode(self, name: str, answers: Sequence[Answer]) -> Answers:
        tier = self._tiers[name]
        usual = 1.0 if tier.default_confidence is None else tier.default_confidence
        label = np.array([self._codes.get(a.label or "", UNKNOWN) for a in answers], dtype=np.int64)
        confidence = np.array([usual if a.confidence is None else a.confidence for a in answers], dtype=float)
        cost = np.array([tier.price if a.cost is None else a.cost for a in answers], dtype=float)
        return Answers(label, confidence, cost, np.zeros(len(answers)))


def load(source: str | Path | bytes, *, models: Mapping[str, Model] | None = None) -> Runtime:
    """Load a bundle that the dashboard exported.

    Parameters
    ----------
    source
        Path of the zip, or of the folder that it was unpacked into.
    models
        For each tier that the bundle cannot hold (an LLM) a function, plain or async: texts → one `Answer` each.

    Returns
    -------
    Runtime
        Call it with a text; `decide` and ``await batch`` take many.

    Raises
    ------
    BundleError
        If the bundle is damaged or edited, decides a golden row differently, or lacks a model.
    """
    return Runtime(load_bundle(source), models)
