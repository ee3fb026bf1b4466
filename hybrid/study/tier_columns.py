"""Tier columns: one column of answers a tier; what-if, person, prices and LLMs asked here each add or replace one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hybrid.errors import StudyError, TierError
from hybrid.metrics.summary import Interval, share
from hybrid.routing.engine import answering
from hybrid.routing.table import SCOPE, Answers, Bools, Floats, Predictions, Rows, Tier
from hybrid.study.answers import AnsweredLLM
from hybrid.study.evidence import LEARNS, Recording, TierConfidence, gate_auroc, gate_for
from hybrid.study.graded import Graded, Memo, in_mix
from hybrid.study.terms import OWN, Terms
from hybrid.tiers.confidence import LearnedConfidence
from hybrid.tiers.gate import TrainedGate
from hybrid.tuning import Labelled

_NAMES_OUT = re.compile(
    r"oos|ood|out[ _-]?of[ _-]?(?:scope|domain)|none[ _-]of[ _-](?:these|the[ _-]above)", re.IGNORECASE
)


class Gate(NamedTuple):
    """A gate for an LLM tier, that tier's name, and the key of the answers that it was trained on."""

    guards: str
    of: str
    model: TrainedGate
    answers: Answers


class NoGate(NamedTuple):
    """Why there is no gate for an LLM tier, and the key of the answers that none could be trained on."""

    of: str
    why: str


class TierColumns:
    """Every tier's answers under some terms; under others, or with other LLMs, there is another of these.

    Parameters
    ----------
    fitted
        What was read, fitted and recorded; nothing in it is copied.
    llms
        Tiers that were asked here.
    terms
        What is assumed instead of what the data say.
    """

    def __init__(self, fitted: Recording, *, llms: tuple[AnsweredLLM, ...] = (), terms: Terms | None = None) -> None:
        self.fitted = fitted
        self.llms = llms
        self.terms = Terms() if terms is None else terms
        self.gates: dict[str, Gate] = {}  # that tell whether an LLM tier is right; by their names
        self.no_gate: dict[str, NoGate] = {}  # by LLM tier, where there is none that does
        self._learned: dict[str, TierConfidence] = {}  # of LLM tiers
        self._columns: dict[str, tuple[Tier, Answers]] = {}
        self._accuracy: dict[str, dict[str, float]] = {}
        self._at_chance: dict[str, str | None] = {}
        self._tiers: tuple[Tier, ...] | None = None
        self._graded = Memo(24)

    def under(self, terms: Terms) -> TierColumns:
        """Return the columns under other terms; what was learned of the answers is not learned again."""
        other = TierColumns(self.fitted, llms=self.llms, terms=terms)
        other.gates, other.no_gate, other._learned = self.gates, self.no_gate, dict(self._learned)
        return other

    def asking(self, llms: Sequence[AnsweredLLM]) -> TierColumns:
        """Return the columns with these LLM tiers instead, and a gate for each; one whose answers are known is kept."""
        other = TierColumns(self.fitted, llms=tuple(llms), terms=self.terms)
        for one in other.llms:
            name, tier, key = gate_for(one.tier.name), one.tier.name, one.key
            if name in self.gates and self.gates[name].of == key:
                other.gates[name] = self.gates[name]
            elif tier in self.no_gate and self.no_gate[tier].of == key:
                other.no_gate[tier] = self.no_gate[tier]
            elif one.tier.kind != "gate":
                try:
                    other.gates[name] = Gate(tier, key, *self.fitted.train_gate(tier, one.answers))
                except TierError as error:
                    other.no_gate[tier] = NoGate(key, str(error))
        return other

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Every tier that has answers, from cheap to dear under the terms; gates last."""
        if self._tiers is None:
            named = {t.name: t for t in (self.column(n)[0] for n in self._names())}
            order = {name: i for i, name in enumerate(self.terms.order)}
            usual = sorted(named.values(), key=lambda t: (t.scores, t.price))
            if order:
                put = iter(sorted((t for t in usual if t.name in order), key=lambda t: order[t.name]))
                usual = [next(put) if t.name in order else t for t in usual]
            self._tiers = tuple(usual)
        return self._tiers

    def _names(self) -> Iterator[str]:
        taken = [t.name for t in self.fitted.predictions.tiers]
        yield from taken
        yield from (one.tier.name for one in self.llms)
        yield from self.gates
        for made_up in (self.terms.whatif, self.terms.human):
            if made_up is not None:
                if made_up.tier.name in taken:
                    raise StudyError(f"There is already a tier called {made_up.tier.name!r}: rename that column.")
                yield made_up.tier.name
        yield from self._picked()

    def _picked(self) -> dict[str, str]:
        """Return the tiers whose likeliest answers a person picks from, by the name of the tier that does."""
        assist = self.terms.assist
        if assist is None or self.terms.human is None:
            return {}
        return {assist.tier(name).name: name for name in self.fitted.likely}

    @property
    def scope_tier(self) -> Tier | None:
        """The tier that scores how far a text is from anything seen; not among `tiers`. None without texts."""
        if self.fitted.dataset.texts is None:
            return None
        taken = set(self._names())
        return Tier(next(n for n in (SCOPE, f"{SCOPE} (fitted here)") if n not in taken), SCOPE)

    @property
    def out_class(self) -> str | None:
        """The class whose texts are out of scope: as the terms say, else the one whose name does."""
        classes, said = self.fitted.dataset.classes, self.terms.out_of_scope
        if said is None:
            return next((c for c in classes if _NAMES_OUT.fullmatch(c.strip())), None)
        return said if said in classes else None

    def column(self, name: str) -> tuple[Tier, Answers]:
        """Return a tier and its answers about every row, at the prices and latencies of the terms; nan: not asked.

        Raises
        ------
        TierError
            If there is no such tier.
        """
        if name not in self._columns:
            tier, answers = self.as_answered(name)
            if self.learned(name) is not None:
                answers = self._confidence(name).fitted.answers
            prices, seconds = dict(self.terms.prices), dict(self.terms.seconds)
            if name in prices:
                tier = replace(tier, price=prices[name])
                answers = replace(answers, cost=_scaled(answers.cost, prices[name]))
            if name in seconds:
                answers = replace(answers, latency=_scaled(answers.latency, seconds[name]))
            self._columns[name] = (tier, answers)
        return self._columns[name]

    def as_answered(self, name: str) -> tuple[Tier, Answers]:
        """Return a tier and what it said itself, at what that cost."""
        for made_up in (self.terms.whatif, self.terms.human):
            if made_up is not None and name == made_up.tier.name:
                dataset = self.fitted.dataset
                return made_up.tier, made_up.answer(dataset.truth, dataset.key, n_classes=len(dataset.classes))
        for one in self.llms:
            if one.tier.name == name:
                return one.tier, one.answers
        if self.terms.assist is not None and name in (picked := self._picked()):
            dataset, of = self.fitted.dataset, picked[name]
            return self.terms.assist.tier(of), self.terms.assist.answer(
                dataset.truth, dataset.key, self.fitted.likely[of]
            )
        if name in self.gates:
            return Tier(name, "gate", guards=self.gates[name].guards), self.gates[name].answers
        scope = self.scope_tier
        if scope is not None and name == scope.name:
            return scope, self.fitted.scope(self.out_class).answers
        table = self.fitted.predictions
        j = table.index(name)
        return table.tiers[j], table.answers(j)

    def confidence(self, name: str) -> TierConfidence | None:
        """Return what a tier says of its answers and what was learned of them; None of one that is calibrated already.

        Raises
        ------
        TierError
            If there is no such tier.
        """
        return self._confidence(name) if self.as_answered(name)[0].kind in LEARNS else None

    def _confidence(self, name: str) -> TierConfidence:
        for one in self.llms:
            if one.tier.name == name:
                if name not in self._learned:
                    self._learned[name] = self.fitted.learn(one.answers)
                return self._learned[name]
        return self.fitted.confidence(name)

    def learned(self, name: str) -> LearnedConfidence | None:
        """Return what replaces a tier's own confidence under the terms; None where its own counts."""
        found = self.confidence(name)
        whose = dict(self.terms.confidence).get(name)
        if found is None or whose == OWN or (whose is None and not found.fitted.better):
            return None
        return found.fitted.model

    def gate_auroc(self, gate: str, tier: str, side: str) -> Interval:
        """Return how well a gate's scores tell whether a tier's answers are right, on a side."""
        dataset, split = self.fitted.dataset, self.fitted.split
        scores, answers = (self.column(name)[1] for name in (gate, tier))
        return gate_auroc(dataset, split.side(side), scores, answers, fold=split.fold)

    def table_of(self, names: Sequence[str], rows: Rows | Bools) -> Predictions:
        """Return the answers of these tiers about these rows."""
        columns = [self.column(name) for name in names]
        classes = self.fitted.dataset.classes
        return Predictions.from_answers([t for t, _ in columns], classes, [a.take(rows) for _, a in columns])

    def accuracy(self, side: str) -> dict[str, float]:
        """Return each answering tier's accuracy on the rows of a side that it answered; without those that did not."""
        if side not in self._accuracy:  # a page asks several times in a rerun
            rows, truth, found = self.fitted.split.side(side), self.fitted.dataset.truth, {}
            for tier in answering(self.tiers):
                answers = self.column(tier.name)[1]
                asked = rows[~np.isnan(answers.confidence[rows])]
                if len(asked):
                    found[tier.name] = float(np.mean(answers.label[asked] == truth[asked]))
            self._accuracy[side] = found
        return dict(self._accuracy[side])

    def at_chance(self, name: str) -> str | None:
        """Return what makes a tier worthless on tune, in words: it is right no more often than one class for all is.

        None where it is right more often beyond chance, or was asked about no tune row.
        """
        if name not in self._at_chance:
            dataset, rows = self.fitted.dataset, self.fitted.split.tune
            answers = self.column(name)[1]
            asked = rows[~np.isnan(answers.confidence[rows])]
            said = None
            if len(asked):
                truth = dataset.truth[asked]
                worth, counts = share(answers.label[asked] == truth, dataset.group[asked]), np.bincount(truth)
                usual = counts.max() / len(asked)
                if worth.low <= usual:
                    said = (
                        f"{name} is right about {worth.value:.1%} of {len(asked):,} tune rows (95% {worth.low:.1%} to "
                        f"{worth.high:.1%}). Answering {dataset.classes[int(counts.argmax())]!r} every time would be "
                        f"right about {usual:.1%}: on these rows {name} cannot be told from that."
                    )
            self._at_chance[name] = said
        return self._at_chance[name]

    def graded(self, names: Sequence[str], side: str) -> Graded:
        """Return the rows of a side that all of these tiers answered, in the class mix of the terms."""
        return self._graded.get((tuple(names), side), lambda: self._grade(tuple(dict.fromkeys(names)), side))

    def _grade(self, names: tuple[str, ...], side: str) -> Graded:
        rows, dataset = self.fitted.split.side(side), self.fitted.dataset
        answered = np.ones(len(rows), dtype=bool)
        for name in names:
            answered &= ~np.isnan(self.column(name)[1].confidence[rows])
        mixed, scarce = self._mixed(rows, answered)
        kept = rows[mixed]
        return Graded(
            self.table_of(names, kept),
            dataset.truth[kept],
            kept,
            dataset.group[kept],
            len(rows),
            int(answered.sum()),
            scarce,
        )

    def every_answer(self, side: str, *also: str) -> Labelled:
        """Return the rows of a side in the class mix of the terms with the answers of every tier, and of others."""
        rows, dataset = self.fitted.split.side(side), self.fitted.dataset
        rows = rows[self._mixed(rows, np.ones(len(rows), dtype=bool))[0]]
        every = self.table_of([*also, *(t.name for t in self.tiers)], rows)
        return Labelled(every, dataset.truth[rows], dataset.group[rows])

    def _mixed(self, rows: Rows, answered: Bools) -> tuple[Bools, str]:
        """Return which of the answered rows make up the class mix of the terms, and the class that limits it."""
        if not self.terms.mix:
            return answered, ""
        dataset, shares = self.fitted.dataset, dict(self.terms.mix)
        wanted = np.array([shares.get(c, 0.0) for c in dataset.classes])
        kept, limit = in_mix(dataset.truth[rows], dataset.key[rows], answered, wanted)
        return kept, dataset.classes[limit]


def _scaled(values: Floats, mean: float) -> Floats:
    """Return the values scaled to a mean, or set to it where they are 0; nan stays."""
    known = np.isfinite(values)
    before = values[known].mean() if known.any() else 0.0
    return np.where(known, values * (mean / before) if before else mean, np.nan)
