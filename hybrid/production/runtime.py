"""Runtime: texts in, decisions out, by the same engine that the dashboard replayed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hybrid.data.labels import coded, matcher
from hybrid.errors import BundleError, TierError
from hybrid.production import binding
from hybrid.production.binding import Servers
from hybrid.production.bundle import Bundle, TierConfig, load_bundle
from hybrid.routing.engine import Ask, Outcomes, Policy, Verdict, pick, rounds
from hybrid.routing.table import NONE, NONE_LABEL, UNKNOWN, Answers, Predictions
from hybrid.tiers import LocalModel
from hybrid.tiers.confidence import SAID
from hybrid.tiers.embedders import EndpointEmbedder
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.llm.asking import LLMAsker
from hybrid.tiers.llm.replies import GateSaid


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that you supply says about one text.

    Parameters
    ----------
    label
        One of the classes, in any spelling that fits it alone (`hybrid.data.labels.Matcher`); anything else, None
        included, counts as a failed answer.
    confidence
        In [0, 1]. None: the tier's usual confidence, where it was always the same; where it was not, 1 if nothing
        depends on it, and no answer if a threshold or a vote does.
    cost
        USD; None: the tier's price.
    tokens
        Of the prompt and of the reply, where an LLM counted them; they stand in the trace.
    """

    label: str | None
    confidence: float | None = None
    cost: float | None = None
    tokens: tuple[int, int] = (0, 0)


MOST_FAILED_CALLS = 32  # of a function in a batch; texts that are left then are not asked about
HARDLY_ABOVE = 1e-6  # a confidence so little above 1 is 1: it was summed up in another precision
log = logging.getLogger("hybrid")

CHUNKS = 4  # of a stream that are decided at a time
Cell = tuple[int, int]  # row, and column of the tier
_T = TypeVar("_T")


class Notes(NamedTuple):
    """What the answers of a batch do not say."""

    failures: dict[Cell, str]  # why a call gave no answer
    tokens: dict[Cell, tuple[int, int]]  # of the prompt and of the reply, where an LLM counted them
    gates: dict[Cell, GateSaid]  # what an LLM gate gave as its choice and reason
    likely: dict[Cell, tuple[str, ...]]  # the likeliest answers of a model that runs here


Known = Mapping[int, tuple[Answers, Notes]]  # by column: a tier's answers about every text, asked before

Model = Callable[..., Sequence[Answer] | Awaitable[Sequence[Answer]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One tier's answer on the way to a decision."""

    tier: str
    label: str | None
    confidence: float
    cost: float  # USD
    latency: float  # seconds
    failure: str | None = None  # why there is no answer, where the call itself failed
    prompt_tokens: int = 0  # of an LLM that the bundle asked, as its server counted them
    completion_tokens: int = 0
    gate: GateSaid | None = None  # what an LLM gate chose, how hard it finds the text, and why
    likely: tuple[str, ...] = ()  # of a classifier in the bundle: its likeliest answers, the first of them its own


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one text.

    Parameters
    ----------
    label
        One of the classes; ``none of these`` where the text is out of scope; None where no tier that was asked knew.
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
        For each external tier a function, plain or async: texts → one `Answer` each. That of a person who picks from a
        tier's likeliest answers is given these as well, a tuple for each text. One for an LLM tier that the bundle
        could ask itself takes its place.
    servers
        By tier: where an LLM or an endpoint of embeddings is asked, and with which key, see `load`.
    deadline
        Seconds for a call of `decide` or `batch`, and for each chunk of `stream`; LLM calls that are not done by then
        are given up. None: their own timeouts and retries alone bound them.

    Raises
    ------
    BundleError
        If an external tier has no function, a function belongs to no such tier, or nobody has allowed an LLM's
        server or there is no key for it.

    Notes
    -----
    What a function makes of one text costs no other: where it raises, it is asked about halves of the texts down to
    the one that it fails on; an answer that cannot be used is no answer. `Step.failure` says why, the log once a batch.
    """

    def __init__(
        self,
        bundle: Bundle,
        models: Mapping[str, Model] | None = None,
        *,
        servers: Servers | None = None,
        deadline: float | None = None,
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
        for name, model in given.items():
            if not callable(model):
                raise BundleError(f"models[{name!r}] is {type(model).__name__}, not a function from texts to answers.")
        endpoints = {n for n, m in bundle.models.items() if not m.answers_alike}
        binding.check_names(servers or {}, endpoints | set(bundle.llms))
        self.bundle = bundle
        self._models: dict[str, Model] = given
        self._local = {n: _placed(n, m, servers or {}) for n, m in bundle.models.items()}
        self._askers = {
            n: LLMAsker(replace(m, settings=binding.bound(m.settings, servers or {})))
            for n, m in bundle.llms.items()
            if n not in given
        }
        self._deadline = deadline
        self._code = matcher(tuple(bundle.config.classes))
        self._tiers = {t.name: t for t in bundle.config.tiers}
        names = bundle.policy.names
        unread = {n for n, learned in bundle.confidences.items() if SAID not in learned.signals}
        self._weighed = {names[j] for j in bundle.policy.weighs()} - unread

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
        return _waited(self._once(texts))

    def rehearse(self) -> None:
        """Ask each of your functions about one text of the bundle's, and refuse those that it could not decide by.

        Loading asks nobody, so what a function gives is not known before: one that raises, or gives no confidence where
        a threshold or a vote reads it, costs every text its answer.

        Raises
        ------
        BundleError
            Naming the function and what to return.
        """
        _waited(self._rehearsed())

    async def _rehearsed(self) -> None:
        for name in self._models:
            text, shown = self.bundle.golden[0].text, None
            if self._tiers[name].picks_from:
                shown = dict[str, tuple[str, ...]]()
                self._answering(self._local[self._tiers[name].picks_from], shown)([text])
            parts, why = await _each(self._call(name, shown), [text], self._until())
            self._encode(name, parts, 1, why)
            if why:
                raise BundleError(f"models[{name!r}] was asked about one text, and cannot be used: {why[0]}")

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

    async def outcomes(self, texts: Sequence[str], *, known: Mapping[str, Answers] | None = None) -> Outcomes:
        """Decide texts; returns arrays, as `replay` does.

        Parameters
        ----------
        known
            By tier: its own answers about every text, which are not asked for again.
        """
        names, given = self.policy.names, {}
        for name, said in (known or {}).items():
            given[names.index(name)] = await self._learned(name, list(texts), said), Notes({}, {}, {}, {})
        return (await self._decide(texts, given))[0]

    async def _once(self, texts: Sequence[str]) -> list[Decision]:
        try:
            return await self.batch(texts)
        finally:
            await self.close()

    async def beside(self, name: str, texts: Sequence[str]) -> tuple[list[Decision], list[Decision]]:
        """Ask one tier about every text, and decide beside it with its very answers: it is asked once.

        Returns
        -------
        alone
            What would be decided if this tier answered everything.
        decisions
            What the policy decides.
        """
        texts, j, notes = _checked(texts), self.policy.names.index(name), Notes({}, {}, {}, {})
        answers = await self._ask(Ask(j, np.arange(len(texts))), texts, self._until(), notes)
        seen = Predictions.unasked(self.policy.tiers, (), len(texts))
        for column in ("label", "confidence", "cost", "latency"):
            getattr(seen, column)[:, j] = getattr(answers, column)
        verdict = pick(seen, np.full(len(texts), j))
        alone = Outcomes(self.policy, *verdict, answers.cost, answers.latency, seen.asked, seen)
        return self._explain(alone, notes), self._explain(*await self._decide(texts, {j: (answers, notes)}))

    async def knowing(self, name: str, answers: Sequence[Answer], texts: Sequence[str]) -> list[Decision]:
        """Decide texts where one tier's answers about all of them are known already, and are not asked for again."""
        texts, j, why = _checked(texts), self.policy.names.index(name), dict[int, str]()
        encoded = self._encode(name, [(range(len(texts)), list(answers))], len(texts), why)
        known = await self._learned(name, list(texts), encoded)
        return self._explain(
            *await self._decide(texts, {j: (known, Notes({(k, j): reason for k, reason in why.items()}, {}, {}, {}))})
        )

    def _until(self) -> float | None:
        return None if self._deadline is None else time.monotonic() + self._deadline

    async def _decide(self, texts: Sequence[str], known: Known | None = None) -> tuple[Outcomes, Notes]:
        texts = _checked(texts)
        until = self._until()
        notes = Notes({}, {}, {}, {})
        steps = rounds(self.policy, len(texts))
        try:
            asks = next(steps)
            while True:
                asks = steps.send(
                    await asyncio.gather(*(self._answer(ask, texts, until, notes, known or {}) for ask in asks))
                )
        except StopIteration as end:
            return end.value, notes

    def explain(self, outcomes: Outcomes) -> list[Decision]:
        """Turn outcomes into decisions with names and traces."""
        return self._explain(outcomes, Notes({}, {}, {}, {}))

    def _explain(self, outcomes: Outcomes, notes: Notes) -> list[Decision]:
        names, seen = self.policy.names, outcomes.seen
        failures, tokens, none = notes.failures, notes.tokens, (0, 0)
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
                    Step(
                        names[j],
                        self._label(codes[j]),
                        sure[j],
                        paid[j],
                        waited[j],
                        failures.get((i, j)),
                        *tokens.get((i, j), none),
                        notes.gates.get((i, j)),
                        notes.likely.get((i, j), ()),
                    )
                    for j, was_asked in enumerate(asked[i])
                    if was_asked
                ),
                fallback[i],
            )
            for i, (codes, sure, paid, waited) in enumerate(said)
        ]

    def _with_fallback(self, outcomes: Outcomes, failures: Mapping[Cell, str]) -> Verdict:
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
        return None if code == UNKNOWN else NONE_LABEL if code == NONE else self.classes[code]

    async def _answer(self, ask: Ask, texts: Sequence[str], until: float | None, notes: Notes, known: Known) -> Answers:
        if ask.tier not in known:
            return await self._ask(ask, texts, until, notes)
        answers, noted = known[ask.tier]
        cells = [(int(i), ask.tier) for i in ask.rows]
        notes.failures.update((c, noted.failures[c]) for c in cells if c in noted.failures)
        notes.tokens.update((c, noted.tokens[c]) for c in cells if c in noted.tokens)
        notes.gates.update((c, noted.gates[c]) for c in cells if c in noted.gates)
        return answers.take(ask.rows)

    async def _ask(self, ask: Ask, texts: Sequence[str], until: float | None, notes: Notes) -> Answers:
        name = self.policy.names[ask.tier]
        asked = [texts[i] for i in ask.rows]
        tier = self._tiers[name]
        if name in self._askers:
            said = await self._askers[name].ask(asked, until=until)
            cells = [(int(i), ask.tier) for i in ask.rows]
            notes.failures.update((c, f) for c, f in zip(cells, said.failures, strict=True) if f is not None)
            notes.tokens.update((c, t) for c, t in zip(cells, said.tokens, strict=True) if any(t))
            notes.gates.update((c, g) for c, g in zip(cells, said.gates, strict=True) if g is not None)
            return await self._learned(name, asked, tier.priced(said.answers))
        start = time.perf_counter()
        local = self._local.get(name)
        likely: dict[str, tuple[str, ...]] = {}
        if local is not None and not local.waits:
            answers = tier.priced(self._answering(local, likely)(asked))
        else:
            # an embedding takes milliseconds a text, or a call to an endpoint
            if local is not None:
                call = _in_thread(self._answering(local, likely))
            else:
                call = self._call(name, self._shown(ask, asked, notes))
            parts, why = await _each(call, asked, until)
            answers = (
                tier.priced(_joined(parts, len(asked)))
                if local is not None
                else self._encode(name, parts, len(asked), why)
            )
            if local is None:
                said_of = ((k, a) for part, said in parts for k, a in zip(part, said, strict=True))
                notes.tokens.update(
                    ((int(ask.rows[k]), ask.tier), a.tokens) for k, a in said_of if k not in why and any(a.tokens)
                )
                answers = await self._learned(name, asked, answers)
            notes.failures.update(((int(ask.rows[k]), ask.tier), reason) for k, reason in why.items())
            if why:
                first = min(why)
                # what an error says may hold the text, which belongs into no log: `Step.failure` has it
                log.warning(
                    "%s gave no answer to %d of %d texts; to text %d of the batch: %s",
                    name, len(why), len(asked), int(ask.rows[first]) + 1, _FOREIGN.sub(r"\1", why[first]),
                )  # fmt: skip
        notes.likely.update(
            ((int(i), ask.tier), likely[t]) for i, t in zip(ask.rows, asked, strict=True) if t in likely
        )
        elapsed = np.full(len(asked), time.perf_counter() - start)
        return Answers(answers.label, answers.confidence, answers.cost, elapsed)

    async def _learned(self, name: str, texts: list[str], said: Answers) -> Answers:
        """Return a tier's answers with the confidence that was learned for it, if one was."""
        learned = self.bundle.confidences.get(name)
        if learned is None:
            return said
        if learned.reader is not None and learned.reader.waits:
            return await asyncio.to_thread(learned.answer, texts, said)
        return learned.answer(texts, said)

    def _answering(self, local: LocalModel, likely: dict[str, tuple[str, ...]]) -> Callable[[Sequence[str]], Answers]:
        """Return what answers by a model that runs here, and puts the likeliest answers about each text into a dict."""
        both = getattr(local, "answer_likely", None)
        if both is None:
            return local.answer

        def answer(texts: Sequence[str]) -> Answers:
            answers, codes = both(texts)
            likely.update(zip(texts, (tuple(self.classes[c] for c in row) for row in codes.tolist()), strict=True))
            said: Answers = answers
            return said

        return answer

    def _shown(self, ask: Ask, texts: Sequence[str], notes: Notes) -> dict[str, tuple[str, ...]] | None:
        """Return the answers that a person is shown to pick from, by text; None of a tier that picks from none."""
        of = self._tiers[self.policy.names[ask.tier]].picks_from
        if not of:
            return None
        j = self.policy.names.index(of)
        return {t: notes.likely.get((int(i), j), ()) for i, t in zip(ask.rows, texts, strict=True)}

    def _call(self, name: str, shown: Mapping[str, tuple[str, ...]] | None = None) -> Call:
        model = self._models[name]
        waits = inspect.iscoroutinefunction(model) or inspect.iscoroutinefunction(type(model).__call__)

        async def call(texts: list[str]) -> Sequence[Answer | None]:
            given = [texts] if shown is None else [texts, [shown[t] for t in texts]]
            said = (
                model(*given) if waits else await asyncio.to_thread(model, *given)
            )  # members of a round wait together
            answers = list(await said if inspect.isawaitable(said) else said)
            if len(answers) != len(texts):
                raise TierError(f"{name} was asked about {len(texts)} texts and answered {len(answers)}.")
            return answers

        return call

    def _encode(self, name: str, parts: Parts, n: int, why: dict[int, str]) -> Answers:
        """Turn a function's answers into a tier's; what cannot be used becomes no answer, and `why` says so."""
        tier = self._tiers[name]
        label, confidence, cost = np.full(n, UNKNOWN, dtype=np.int64), np.zeros(n), np.zeros(n)
        for k, answer in ((k, a) for part, said in parts for k, a in zip(part, said, strict=True)):
            try:
                if not isinstance(answer, Answer):
                    raise TierError(f"{name} gave {type(answer).__name__}, not a hybrid.Answer.")
                code = coded(answer.label, self._code)
                sure, paid = self._sure(tier, answer, code), self._paid(tier, answer)
            except TierError as error:
                why[k] = str(error)
                continue
            label[k], confidence[k], cost[k] = code, sure, paid
        return Answers(label, confidence, cost, np.zeros(n))

    def _sure(self, tier: TierConfig, answer: Answer, code: int) -> float:
        if answer.confidence is None:
            if tier.default_confidence is not None:
                return tier.default_confidence
            if tier.name in self.bundle.llms:
                return self.bundle.llms[tier.name].usual
            if tier.name in self._weighed and (code != UNKNOWN or tier.kind == "gate"):
                raise TierError(
                    f"{tier.name} gave no confidence, and this policy decides by it: return hybrid.Answer(label, "
                    "confidence), as it was when the policy was tuned."
                )
            return 1.0
        sure = _number(answer.confidence)
        if not 0 <= sure <= 1 + HARDLY_ABOVE:
            hint = "must be in [0, 1]. Percentages? Divide by 100."
            raise TierError(f"{tier.name}.confidence = {answer.confidence!r}: {hint}")
        return min(sure, 1.0)

    def _paid(self, tier: TierConfig, answer: Answer) -> float:
        if answer.cost is None:
            return tier.price
        paid = _number(answer.cost)
        if not (paid >= 0 and math.isfinite(paid)):
            raise TierError(f"{tier.name}.cost = {answer.cost!r}: must be 0 or more.")
        return paid


def _waited(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what a coroutine returns, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


Call = Callable[[list[str]], Awaitable[Any]]
Parts = list[tuple[range, Any]]  # places of texts, and what was said about them


async def _each(call: Call, texts: list[str], until: float | None) -> tuple[Parts, dict[int, str]]:
    """Ask about texts; where the call fails, about halves of them, down to the text that it fails on.

    Returns
    -------
    parts
        What was said, about all texts but those in `why`.
    why
        By the place of a text: why nothing was.
    """
    parts: Parts = []
    why: dict[int, str] = {}
    failed = 0
    waiting = deque([range(len(texts))])
    while waiting:
        part = waiting.popleft()
        late = until is not None and time.monotonic() >= until
        if late or failed >= MOST_FAILED_CALLS:
            why |= dict.fromkeys(part, "deadline" if late else f"not asked after {failed} failed calls")
            continue
        try:
            parts.append((part, await call([texts[k] for k in part])))
        except Exception as error:  # a function of anyone's: whatever it raises is about these texts, and is said
            failed += 1
            if len(part) == 1:
                why[part[0]] = f"{type(error).__name__}: {error}"[:300]
            else:
                half = len(part) // 2
                waiting += (part[:half], part[half:])
    return parts, why


def _joined(parts: Parts, n: int) -> Answers:
    """Put answers about parts of the texts together; a text without any is unknown, at no cost."""
    whole = Answers(np.full(n, UNKNOWN, dtype=np.int64), np.zeros(n), np.zeros(n), np.zeros(n))
    for part, said in parts:
        for column in ("label", "confidence", "cost", "latency"):
            getattr(whole, column)[part.start : part.stop] = getattr(said, column)
    return whole


def _in_thread(answer: Callable[[Sequence[str]], Answers]) -> Call:
    return lambda texts: asyncio.to_thread(answer, texts)


def _number(value: object) -> float:
    """Return a number of a function's answer; nan where it is none."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _checked(texts: Sequence[str]) -> Sequence[str]:
    """Return texts that can be asked about.

    Raises
    ------
    TierError
        If it is one text, or one of them is none.
    """
    if isinstance(texts, str):
        raise TierError("A batch is a list of texts; for one text, call the pipeline with it.")
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        raise TierError(f"Text {wrong[0] + 1} is {type(texts[wrong[0]]).__name__}, not a string: convert it first.")
    return [_encodable(text) for text in texts]


_HALVES = re.compile("[\ud800-\udfff]")
_FOREIGN = re.compile(r"^(?!TierError:)(\w+): .*", re.DOTALL)  # an error of anyone's, and its words


def _encodable(text: str) -> str:
    """Return a text that can be sent: halves of emoji become U+FFFD, as where it was tuned."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def _placed(name: str, model: LocalModel, servers: Servers) -> LocalModel:
    """Return a model whose embeddings come from the endpoint that whoever loads allows; others as they are."""
    match model:
        case AveragedClassifier():
            return replace(model, embedding=_placed(name, model.embedding, servers))  # type: ignore[arg-type]
        case EmbeddingClassifier(embedder=EndpointEmbedder() as endpoint):
            server = binding.server_for(name, endpoint.base_url, servers)
            return replace(
                model, embedder=replace(endpoint, base_url=server.base_url, key_variable=server.key_variable)
            )
    return model


def load(
    source: str | Path | bytes,
    *,
    models: Mapping[str, Model] | None = None,
    servers: Servers | None = None,
    trust: Sequence[str] = (),
    deadline: float | None = None,
) -> Runtime:
    """Load a bundle that the dashboard exported; nothing is asked before the first text, or `Runtime.rehearse`.

    Parameters
    ----------
    source
        Path of the zip, or of the folder that it was unpacked into.
    models
        For each tier that the bundle cannot ask itself a function, plain or async: texts → one `Answer` each. A
        function for an LLM tier that was recorded in the dashboard takes its place.
    servers
        For each LLM tier, and each small model whose embeddings come from an endpoint: the `Server` it is asked at.
        A bundle's own address counts only where you allow it, here or in the environment variable ``HYBRID_SERVERS``;
        OpenAI's, and that of ``OPENAI_BASE_URL``, are allowed.
    trust
        Public Ed25519 keys, as 64 hexadecimal digits, PEM or a file: one of them must have signed the bundle.
    deadline
        Seconds for a batch; LLM calls that are not done by then are given up. None: no limit but their own.

    Returns
    -------
    Runtime
        Call it with a text; `decide` and ``await batch`` take many, ``async for`` over `stream` any number.

    Raises
    ------
    BundleError
        If the bundle is damaged or edited, decides a golden row differently, lacks a model, or asks a server that
        nobody has allowed.
    """
    return Runtime(load_bundle(source, trust=trust), models, servers=servers, deadline=deadline)
