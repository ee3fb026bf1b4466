"""Support pipeline: classify → extract → act, each ticket as deep as the tuned policy decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hybrid.errors import SupportError
from hybrid.production.binding import Servers, bound
from hybrid.production.bundle import load_bundle
from hybrid.production.runtime import Decision, Model, Runtime
from hybrid.routing.table import NONE_LABEL
from hybrid.support.config import SupportConfig, default_config
from hybrid.support.extraction import Extraction, Extractor, Insight, RuleExtractor
from hybrid.support.fields import LLM, RULES, Field, without_overlaps
from hybrid.support.packaging import config_of
from hybrid.tiers.llm.questions import settings_from

CHUNK = 256  # tickets between two reports of progress
MAX_TEXT = 100_000  # characters
NO_LLM = "No LLM is set up to read hard tickets: rules read this one."

Ticket = str | tuple[str, str]  # text, or id and text
Progress = Callable[[int, int], None]  # tickets done, and of how many


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a ticket's way: who did it, what came of it, and what that cost."""

    name: str  # classify, extract or act
    by: str
    result: str
    cost: float = 0.0  # USD
    latency: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class TicketAnalysis:
    """What was found out about a ticket, and what to do about it.

    Parameters
    ----------
    ticket_id, text
        As given.
    category
        One of the policy's classes, or None where no tier knew.
    confidence
        Of the category.
    routing_tier
        The tier that gave the category, and who read the fields: ``classifier + rules``.
    depth
        ``rules`` or ``llm``: who should read it. Where that differs from who did, `problem` says why.
    fields
        With where in the text they stand.
    insight
        Urgency, sentiment, issues; None where rules read it.
    action, rule
        The name of what happens next, and the row of the action table that says so.
    to_human
        Whether it goes to a person.
    cost, latency
        USD and seconds, of classifying and reading, failed calls too.
    trace
        Every step.
    problem
        What did not go as asked, for the user; empty where nothing.
    """

    ticket_id: str
    text: str
    category: str | None
    confidence: float
    routing_tier: str
    depth: str
    fields: tuple[Field, ...]
    insight: Insight | None
    action: str
    rule: str
    to_human: bool
    cost: float
    latency: float
    trace: tuple[Stage, ...]
    problem: str = ""

    @property
    def extracted(self) -> dict[str, list[str]]:
        """The values by field, in the order of the text."""
        found: dict[str, list[str]] = {}
        for field in self.fields:
            found.setdefault(field.name, []).append(field.value)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON can hold."""
        return asdict(self)


class SupportPipeline:
    """A tuned policy, two ways to read a ticket, and an action table.

    Parameters
    ----------
    runtime
        The policy, of any pattern, as `hybrid.load` returns it.
    config
        Simple categories, thresholds, fields, actions; None, `default_config` for the policy's classes.
    llm
        Reads hard tickets; None, rules read them and each analysis says so.

    Raises
    ------
    SupportError
        If the configuration names categories, tiers or fields that there are not.
    """

    def __init__(self, runtime: Runtime, config: SupportConfig | None = None, *, llm: Extractor | None = None) -> None:
        self.runtime = runtime
        self.config = config or default_config(runtime.classes)
        self.config.check(classes=runtime.classes, tiers=runtime.policy.names)
        self.llm = llm
        self._rules = RuleExtractor(self.config.extraction)
        self._easy = set(self.config.easy_of(runtime.policy))
        self._gates = {t.name for t in runtime.policy.tiers if t.scores}

    @classmethod
    def load(
        cls,
        source: str | Path | bytes,
        *,
        models: Mapping[str, Model] | None = None,
        servers: Servers | None = None,
        trust: Sequence[str] = (),
        llm: Extractor | None = None,
    ) -> SupportPipeline:
        """Load a bundle that the Support page exported.

        Parameters
        ----------
        source, models, servers, trust
            As `hybrid.load` takes them; the LLM that reads tickets has its server under its own name in `servers`.
        llm
            Reads hard tickets; None, the LLM that the bundle names, at a server that you allow.

        Raises
        ------
        BundleError
            If the bundle is damaged or edited, holds no pipeline, or reads a golden ticket otherwise here.
        """
        bundle = load_bundle(source, trust=trust)
        config = config_of(bundle)
        given = dict(servers or {})
        if llm is None and config.llm is not None:
            from hybrid.support.llm_extraction import extractor_of  # asks for more than most need

            reader = bound(settings_from(config.llm), given)
            llm = extractor_of(config.model_copy(update={"llm": asdict(reader)}))
            if reader.name not in bundle.policy.names:
                given.pop(reader.name, None)
        return cls(Runtime(bundle, models, servers=given), config, llm=llm)

    def __call__(self, text: str, ticket_id: str = "1") -> TicketAnalysis:
        """Analyse one ticket."""
        return self.analyze([(ticket_id, text)])[0]

    def analyze(self, tickets: Sequence[Ticket], *, progress: Progress | None = None) -> list[TicketAnalysis]:
        """Analyse tickets and wait for it; inside an event loop, ``await batch(tickets)`` does not block the loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.batch(tickets, progress=progress))
        with ThreadPoolExecutor(1) as pool:  # a notebook has a loop running already
            return pool.submit(asyncio.run, self.batch(tickets, progress=progress)).result()

    async def batch(self, tickets: Sequence[Ticket], *, progress: Progress | None = None) -> list[TicketAnalysis]:
        """Analyse tickets, chunk by chunk; the same analyses as one by one.

        Parameters
        ----------
        tickets
            Texts, or pairs of id and text; without ids they are numbered from 1.
        progress
            Called after each chunk; what it raises stops the batch.
        """
        pairs = _pairs(tickets)
        done: list[TicketAnalysis] = []
        for start in range(0, len(pairs), CHUNK):
            part = pairs[start : start + CHUNK]
            done += await self.complete(part, await self.runtime.batch([text for _, text in part]))
            if progress is not None:
                progress(len(done), len(pairs))
        return done

    async def complete(self, tickets: Sequence[tuple[str, str]], decisions: Sequence[Decision]) -> list[TicketAnalysis]:
        """Read tickets that are classified already, and look their actions up."""
        deep = [self.depth_of(d) == LLM for d in decisions]
        read: list[Extraction | None] = [
            None if hard else self._by_rules(t) for hard, (_, t) in zip(deep, tickets, strict=True)
        ]
        hard = [i for i, is_deep in enumerate(deep) if is_deep]
        for i, extraction in zip(hard, await self._deeply([tickets[i][1] for i in hard]), strict=True):
            read[i] = extraction
        return [
            self._act(ticket, decision, extraction, LLM if is_deep else RULES)
            for ticket, decision, extraction, is_deep in zip(tickets, decisions, read, deep, strict=True)
            if extraction is not None
        ]

    def depth_of(self, decision: Decision) -> str:
        """Return who should read a ticket.

        ``rules`` where the policy kept the answer of an easy tier without asking another, at or above the configured
        confidence, and the category is simple, and where the ticket is out of scope; else ``llm``.
        """
        if decision.label == NONE_LABEL:
            return RULES
        kept = decision.tier in self._easy and all(
            s.tier in self._easy or s.tier in self._gates for s in decision.trace
        )
        simple = decision.label in self.config.simple_categories
        return RULES if kept and simple and decision.confidence >= self.config.rules_confidence else LLM

    def _by_rules(self, text: str) -> Extraction:
        start = time.perf_counter()
        found = self._rules.fields(text)
        return Extraction(found, latency=time.perf_counter() - start)

    async def _deeply(self, texts: list[str]) -> list[Extraction]:
        """Ask the LLM; where it fails, rules read the ticket, and what the failure cost is kept."""
        if self.llm is None or not texts:
            return [replace(self._by_rules(t), problem=NO_LLM) for t in texts]
        said = await self.llm.extract(texts)
        if len(said) != len(texts):
            raise SupportError(f"{self.llm.name} was given {len(texts)} tickets and read {len(said)}.")
        read = []
        for text, extraction in zip(texts, said, strict=True):
            if extraction.insight is None:
                rules = self._by_rules(text)
                extraction = replace(
                    rules,
                    cost=extraction.cost,
                    latency=extraction.latency + rules.latency,
                    problem=f"{extraction.problem or 'The LLM gave no reading.'} Rules read this ticket.",
                )
            else:  # what rules find in the stretches that the LLM left costs nothing
                found = without_overlaps([*extraction.fields, *self._rules.fields(text)])
                extraction = replace(extraction, fields=found)
            read.append(extraction)
        return read

    def _act(self, ticket: tuple[str, str], decision: Decision, extraction: Extraction, depth: str) -> TicketAnalysis:
        facts = facts_of(ticket[1], decision, extraction)
        action, rule, to_human = self.config.actions.decide(decision.label, facts)
        by = self.llm.name if self.llm is not None and extraction.source == LLM else RULES
        trace = (
            *(
                Stage("classify", s.tier, f"{s.label or 'no answer'} ({s.confidence:.3f})", s.cost, s.latency)
                for s in decision.trace
            ),
            Stage("extract", by, _said(extraction), extraction.cost, extraction.latency),
            Stage("act", rule, action),
        )
        return TicketAnalysis(
            ticket_id=ticket[0],
            text=ticket[1],
            category=decision.label,
            confidence=decision.confidence,
            routing_tier=f"{decision.tier} + {extraction.source}",
            depth=depth,
            fields=extraction.fields,
            insight=extraction.insight,
            action=action,
            rule=rule,
            to_human=to_human,
            cost=decision.cost + extraction.cost,
            latency=decision.latency + extraction.latency,
            trace=trace,
            problem=extraction.problem,
        )


def facts_of(text: str, decision: Decision, extraction: Extraction) -> dict[str, list[str]]:
    """Return all that conditions can ask about a ticket; what is not known is not in it."""
    facts: dict[str, list[str]] = {}
    for field in extraction.fields:
        facts.setdefault(field.name, []).append(field.value)
    facts |= {"confidence": [str(decision.confidence)], "tier": [decision.tier], "length": [str(len(text))]}
    if (insight := extraction.insight) is not None:
        facts |= {
            "requires_human": [str(insight.requires_human).lower()],
            "urgency": [insight.urgency],
            "sentiment": [str(insight.sentiment)],
            "issue": list(insight.key_issues),
        }
    return facts


def _said(extraction: Extraction) -> str:
    found = ", ".join(f"{f.name} {f.value}" for f in extraction.fields) or "no field"
    return found if extraction.insight is None else f"{found}; {extraction.insight.urgency} urgency"


def _pairs(tickets: Sequence[Ticket]) -> list[tuple[str, str]]:
    if isinstance(tickets, str):
        raise SupportError("A batch is a list of tickets; for one ticket, call the pipeline with it.")
    pairs = [(str(i), t) if isinstance(t, str) else (str(t[0]), t[1]) for i, t in enumerate(tickets, 1)]
    for number, (_, text) in enumerate(pairs, 1):
        if not isinstance(text, str):
            raise SupportError(f"Ticket {number} is {type(text).__name__}, not a string: convert it first.")
        if len(text) > MAX_TEXT:
            raise SupportError(
                f"Ticket {number} has {len(text):,} characters; at most {MAX_TEXT:,} are read. Shorten it."
            )
    return pairs
