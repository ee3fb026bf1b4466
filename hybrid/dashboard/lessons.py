"""Lessons: the five patterns on examples small enough to check by hand, decided by the engine that decides everywhere.

The examples are those that tutorials on hybrid classification begin with: fifteen phrases in five classes, each twenty
times, and a handful of messages. What such an example hides is measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid.routing.engine import Outcomes, Policy, replay
from hybrid.routing.patterns import Cascade, Ensemble, Router, Triage
from hybrid.routing.table import UNKNOWN, Answers, Predictions, Tier
from hybrid.support import RuleExtractor, default_config
from hybrid.tiers.calibration import Calibrator
from hybrid.tiers.classifier import FastClassifier, fit_classifier
from hybrid.tiers.gate import HeuristicGate
from hybrid.tiers.rules import Rule, Rules

PHRASES = {
    "account": ("change email", "update address", "password reset"),
    "billing": ("charged twice", "double charge", "billing error"),
    "general": ("pricing info", "business hours", "return policy"),
    "shipping": ("package lost", "shipping delay", "not delivered"),
    "technical": ("app crashes", "error message", "won't load"),
}
CLASSES = tuple(PHRASES)
COPIES, FOLDS = 20, 3  # each fold holds one phrase of every class
MESSAGES = (
    "My credit card was charged twice",
    "I get a 500 error on that page",
    "Please change the email of my account, and refund me",
    "Another shop is cheaper than you are",
)
HEAD, SMALL, LLM, ROUTER = "classifier", "small model", "LLM", "router"
PRICES = {"rules": 0.0, HEAD: 0.00001, SMALL: 0.0001, LLM: 0.003, ROUTER: 0.0003}  # USD an answer
SECONDS = {"rules": 0.00001, HEAD: 0.0002, SMALL: 0.005, LLM: 0.4, ROUTER: 0.4}
VOTES = (("TF-IDF", 0.82, 0.00001), ("BERT", 0.91, 0.0005), ("GPT-4o mini", 0.95, 0.003))
WORDS = {"billing": ("charged", "refund", "bill")}  # what the cascade's first tier knows
BILLS = (
    "You charged twice for one bill",
    "Your interface is sluggish of late",
    "My question is complex and has many parts",
)
REQUESTS = (
    "List the email addresses in this text: write to info@corp.com",
    "Is this review good or bad: 'Great product!'",
    "Sum up the main points of this contract, but not its annex, and also say who may end it",
    "If our third quarter was weak while the market grew, should we expand to Europe, or wait, and why?",
)
TICKETS = (
    "Please refund the $49.99 that you charged on 2025-01-15",
    "There is no news of my package, tracking number XY123",
    "Your assistant gave me wrong medical advice, and I want to talk to a manager",
)
KEYWORDS = {
    "billing": ("charge", "charged", "refund", "payment", "invoice", "bill"),
    "shipping": ("package", "delivery", "tracking", "shipped"),
    "account": ("password", "email", "login", "account"),
    "technical": ("error", "crash", "bug", "broken", "slow"),
}
KNOWN, UNSURE = 0.9, 0.5  # what the tickets' keyword classifier says of itself, with a word and without


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The classifier of the fifteen phrases.

    Parameters
    ----------
    raw, calibrated
        As it comes out of the fit; and with confidences that were learned where it had not seen the phrase.
    seen, unseen
        Share of right answers on the rows that it was fitted on, and out of fold, where no copy of a phrase was.
    """

    raw: FastClassifier
    calibrated: FastClassifier
    seen: float
    unseen: float


def fit() -> Fitted:
    """Fit the classifier on the three hundred rows, which takes a fraction of a second."""
    texts = np.array([p for c in CLASSES for p in PHRASES[c]] * COPIES, dtype=object)
    n = len(texts) // COPIES
    truth = np.tile(np.repeat(np.arange(len(CLASSES)), n // len(CLASSES)), COPIES)
    found = fit_classifier(texts, truth, np.tile(np.arange(n) % FOLDS, COPIES), n_classes=len(CLASSES))
    raw = replace(found.model, calibrator=Calibrator())
    seen, unseen = (float(np.mean(a.label == truth)) for a in (raw.answer(list(texts)), found.answers))
    return Fitted(raw, found.model, seen, unseen)


def triage(model: FastClassifier, texts: Sequence[str], threshold: float) -> Outcomes:
    """Decide messages: the classifier's answer where it is sure, else the LLM, of which only the price is known."""
    return _decide(Policy(Triage(threshold), _tiers(HEAD, LLM)), _priced(model.answer(texts), HEAD), silent(texts, LLM))


def votes(said: Sequence[tuple[str, str, float, float]], strategy: str) -> Outcomes:
    """Let models vote about one text: (name, class, confidence, USD) of each, from cheap to dear."""
    tiers = tuple(Tier(name, "recorded", price=price) for name, _, _, price in said)
    answers = [
        Answers(np.array([CLASSES.index(label)]), np.array([sure]), np.array([price]), np.zeros(1))
        for _, label, sure, price in said
    ]
    return _decide(Policy(Ensemble(strategy=strategy), tiers), *answers)


def cascade(model: FastClassifier, texts: Sequence[str], thresholds: tuple[float, float]) -> Outcomes:
    """Decide messages by key words, then the classifier, then the LLM, of which only price and time are known."""
    tiers = _tiers("rules", SMALL, LLM)
    first = _priced(by_words(WORDS, 0.99).answer(texts), "rules")
    return _decide(Policy(Cascade(thresholds), tiers), first, _priced(model.answer(texts), SMALL), silent(texts, LLM))


def router(model: FastClassifier, texts: Sequence[str], threshold: float) -> Outcomes:
    """Decide requests by how easy they look; the look is paid for on every one."""
    tiers = (replace(_tiers(ROUTER)[0], kind="gate"), *_tiers(HEAD, LLM))
    looked = _priced(HeuristicGate().answer(texts), ROUTER)
    return _decide(Policy(Router((threshold,)), tiers), looked, _priced(model.answer(texts), HEAD), silent(texts, LLM))


def with_router(kept: float, *, price: float, llm: float) -> tuple[float, float]:
    """Return USD per 1,000 texts behind a router that keeps a share from the LLM, and the least share that pays."""
    return 1000 * (price + (1 - kept) * llm), price / llm if llm else float("nan")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What came of a ticket: its category, who reads it, what was found in it and what happens next."""

    text: str
    category: str
    confidence: float
    reader: str
    fields: tuple[tuple[str, str], ...]
    action: str
    to_human: bool


def tickets(texts: Sequence[str], threshold: float) -> list[Ticket]:
    """Classify tickets by key words, read their fields by rules, and look up what happens next."""
    config, said = default_config(CLASSES), by_words(KEYWORDS, KNOWN).answer(texts)
    reader, found = RuleExtractor(config.extraction), []
    for text, code, sure in zip(texts, said.label, said.confidence, strict=True):
        category = "general" if code == UNKNOWN else CLASSES[code]
        confidence = UNSURE if code == UNKNOWN else float(sure)
        easy = confidence >= threshold and category in config.simple_categories
        fields = tuple((f.name, f.value) for f in reader.fields(text))
        facts: dict[str, list[str]] = {}
        for name, value in fields:
            facts.setdefault(name, []).append(value)
        action, _, to_human = config.actions.decide(category, facts)
        found.append(Ticket(text, category, confidence, "rules" if easy else LLM, fields, action, to_human))
    return found


def by_words(words: Mapping[str, Sequence[str]], confidence: float) -> Rules:
    """Return rules that answer by key words, all with the confidence that somebody typed in."""
    named = ((w, CLASSES.index(c)) for c in words for w in words[c])
    return Rules(tuple(Rule(w, code, confidence=confidence) for w, code in named))


def silent(texts: Sequence[str], name: str) -> Answers:
    """Return the answers of a tier that nobody asks here: no label, at its price."""
    n = len(texts)
    return _priced(Answers(np.full(n, UNKNOWN), np.zeros(n), np.zeros(n), np.zeros(n)), name)


def _priced(answers: Answers, name: str) -> Answers:
    n = len(answers.label)
    return replace(answers, cost=np.full(n, PRICES[name]), latency=np.full(n, SECONDS[name]))


def _tiers(*names: str) -> tuple[Tier, ...]:
    return tuple(Tier(name, "recorded", price=PRICES[name]) for name in names)


def _decide(policy: Policy, *answers: Answers) -> Outcomes:
    return replay(policy, Predictions.from_answers(policy.tiers, CLASSES, answers))
