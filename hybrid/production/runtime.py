"""Runtime: texts in, decisions out, by the same engine that the dashboard replayed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data.labels import matcher
from hybrid.errors import BundleError, TierError
from hybrid.production.bundle import Bundle
from hybrid.production.bundle import load as load_bundle
from hybrid.routing.engine import Ask, Outcomes, Policy, Verdict, rounds
from hybrid.routing.table import UNKNOWN, Answers
from hybrid.tiers.llm.asking import LLMAsker


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that you supply says about one text.

    Parameters
    ----------
    label
        One of the classes, in any spelling that fits it alone (`hybrid.data.labels.Matcher`); anything else, None
        included, counts as a failed answer.
    confidence
        In [0, 1]; None: the tier's usual confidence, or 1 where it has none.
    cost
        USD; None: the tier's price.
    """

    label: str | None
    confidence: float | None = None
    cost: float | None = None


CHUNKS = 4  # of a stream that are decided at a time
Failures = dict[tuple[int, int], str]  # by row and column of the tier: why a call gave no answer

Model = Callable[[Sequence[str]], Sequence[Answer] | Awaitable[Sequence[Answer]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One tier's answer on the way to a decision."""

    tier: str
    label: str | None
    confidence: float
    cost: float  # USD
    latency: float  # seconds
    failure: str | None = None  # why there is no answer, where the call itself failed


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
    fallback
        True where the tier that should have decided could not be asked, and the surest answer so far stands in.
    """

    label: str | None
    confidence: float
    tier: str
    cost: float
    latency: float
    trace: tuple[Step, ...]
    fallback: bool = False


class Runtime:
    """A loaded policy: call it with a text, or with many through `decide` or `batch`.

    Parameters
    ----------
    bundle
        From `hybrid.production.bundle.load`.
    models
        For each external tier a function, plain or async: texts → one `Answer` each. One for an LLM tier that the
        bundle could ask itself takes its place.
    deadline
        Seconds for a call of `decide` or `batch`, and for each chunk of `stream`; LLM calls that are not done by then
        are given up. None: their own timeouts and retries alone bound them.

    Raises
    ------
    BundleError
        If an external tier has no function, a function belongs to no such tier, or an LLM tier has no key.
    """

    def __init__(
        self, bundle: Bundle, models: Mapping[str, Model] | None = None, *, deadline: float | None = None
    ) -> None:
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
        known = (*bundle.external, *bundle.llms)
        stray = [n for n in given if n not in known]
        if stray:
            raise BundleError(
                f"models has {stray[0]!r}, but the external tiers of this bundle are: "
                f"{', '.join(known) or 'none'}. Correct the name or leave it out."
            )
        self.bundle = bundle
        self._models: dict[str, Model] = given
        self._askers = {n: LLMAsker(model) for n, model in bundle.llms.items() if n not in given}
        self._deadline = deadline
        self._code = matcher(tuple(bundle.config.classes))
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
            return asyncio.run(self._once(texts))
        with ThreadPoolExecutor(1) as pool:  # a notebook has a loop running already
            return pool.submit(asyncio.run, self._once(texts)).result()

    async def batch(self, texts: Sequence[str]) -> list[Decision]:
        """Decide texts, asking the tiers of a round concurrently; the same decisions as one by one."""
        return self._explain(*await self._decide(texts))

    async def stream(self, texts: Iterable[str], *, chunk: int = 32) -> AsyncIterator[Decision]:
        """Decide texts as they come, and yield each decision in their order as soon as it and those before are made.

        Parameters
        ----------
        texts
            Read no further ahead than a few chunks, so it may be endless.
        chunk
            Texts that are decided together; the smaller, the sooner the first decision.
        """
        if isinstance(texts, str):
            raise TierError("A stream is of several texts; for one text, call the pipeline with it.")
        if chunk < 1:
            raise TierError(f"A chunk of {chunk} texts cannot be decided: it needs 1 or more.")
        source = iter(texts)
        under_way: deque[asyncio.Task[list[Decision]]] = deque()
        try:
            while True:
                while len(under_way) < CHUNKS and (part := list(islice(source, chunk))):
                    under_way.append(asyncio.create_task(self.batch(part)))
                if not under_way:
                    return
                for decision in await under_way.popleft():
                    yield decision
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections to LLM servers that `batch` and `stream` keep open in this event loop."""
        for asker in self._askers.values():
            await asker.close()

    async def outcomes(self, texts: Sequence[str]) -> Outcomes:
        """Decide texts; returns arrays, as `replay` does."""
        return (await self._decide(texts))[0]

    async def _once(self, texts: Sequence[str]) -> list[Decision]:
        try:
            return await self.batch(texts)
        finally:
            await self.close()

    async def _decide(self, texts: Sequence[str]) -> tuple[Outcomes, Failures]:
        if isinstance(texts, str):
            raise TierError("A batch is a list of texts; for one text, call the pipeline with it.")
        wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise TierError(f"Text {wrong[0] + 1} is {type(texts[wrong[0]]).__name__}, not a string: convert it first.")
        until = None if self._deadline is None else time.monotonic() + self._deadline
        failures: Failures = {}
        steps = rounds(self.policy, len(texts))
        try:
            asks = next(steps)
            while True:
                asks = steps.send(await asyncio.gather(*(self._ask(ask, texts, until, failures) for ask in asks)))
        except StopIteration as end:
            return end.value, failures

    def explain(self, outcomes: Outcomes) -> list[Decision]:
        """Turn outcomes into decisions with names and traces."""
        return self._explain(outcomes, {})

    def _explain(self, outcomes: Outcomes, failures: Failures) -> list[Decision]:
        names, seen = self.policy.names, outcomes.seen
        final = self._with_fallback(outcomes, failures)
        # plain lists: reading one number of an array takes longer than building the decision
        label = [self._label(c) for c in final.label.tolist()]
        tier, confidence = final.tier.tolist(), final.confidence.tolist()
        fallback = (final.tier != outcomes.tier).tolist()
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
                    Step(names[j], self._label(codes[j]), sure[j], paid[j], waited[j], failures.get((i, j)))
                    for j, was_asked in enumerate(asked[i])
                    if was_asked
                ),
                fallback[i],
            )
            for i, (codes, sure, paid, waited) in enumerate(said)
        ]

    def _with_fallback(self, outcomes: Outcomes, failures: Failures) -> Verdict:
        """Return the final answers; where a failed call left a row without one, the surest that was given."""
        verdict = Verdict(outcomes.label.copy(), outcomes.tier.copy(), outcomes.confidence.copy())
        if self.bundle.config.on_failure == "unknown":
            return verdict
        seen = outcomes.seen
        for i in sorted({row for row, _ in failures}):
            known = np.where(seen.label[i] != UNKNOWN, np.nan_to_num(seen.confidence[i], nan=-1.0), -1.0)
            if verdict.label[i] == UNKNOWN and known.max() >= 0:
                best = int(known.argmax())
                verdict.label[i], verdict.tier[i], verdict.confidence[i] = seen.label[i, best], best, known[best]
        return verdict

    def _label(self, code: Any) -> str | None:
        return None if code == UNKNOWN else self.classes[code]

    async def _ask(self, ask: Ask, texts: Sequence[str], until: float | None, failures: Failures) -> Answers:
        name = self.policy.names[ask.tier]
        asked = [texts[i] for i in ask.rows]
        if name in self._askers:
            said = await self._askers[name].ask(asked, until=until)
            failures |= {(int(i), ask.tier): f for i, f in zip(ask.rows, said.failures, strict=True) if f is not None}
            return said.answers
        start = time.perf_counter()
        local = self.bundle.models.get(name)
        if local is not None and local.waits:
            answers = await asyncio.to_thread(local.answer, asked)
        elif local is not None:
            answers = local.answer(asked)
        else:
            answers = self._encode(name, await self._call(name, asked))
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
        label = np.array([self._code(a.label) for a in answers], dtype=np.int64)
        confidence = np.array([usual if a.confidence is None else a.confidence for a in answers], dtype=float)
        cost = np.array([tier.price if a.cost is None else a.cost for a in answers], dtype=float)
        return Answers(label, confidence, cost, np.zeros(len(answers)))


def load(
    source: str | Path | bytes, *, models: Mapping[str, Model] | None = None, deadline: float | None = None
) -> Runtime:
    """Load a bundle that the dashboard exported.

    Parameters
    ----------
    source
        Path of the zip, or of the folder that it was unpacked into.
    models
        For each tier that the bundle cannot ask itself a function, plain or async: texts → one `Answer` each. An LLM
        tier that was recorded in the dashboard is asked over the network, with the key in the environment variable
        that ``policy.json`` names (`OPENAI_API_KEY` unless set otherwise); a function given here takes its place.
    deadline
        Seconds for a batch; LLM calls that are not done by then are given up. None: no limit but their own.

    Returns
    -------
    Runtime
        Call it with a text; `decide` and ``await batch`` take many, ``async for`` over `stream` any number.

    Raises
    ------
    BundleError
        If the bundle is damaged or edited, decides a golden row differently, or lacks a model.
    """
    return Runtime(load_bundle(source), models, deadline=deadline)
