"""Study: one object that holds data, answers, terms and the chosen policy; everything else is a view of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.data.columns import Columns
from hybrid.data.dataset import Dataset, build
from hybrid.data.guess import Ask, guess, guess_columns
from hybrid.data.join import join
from hybrid.data.notes import Note
from hybrid.data.read import Read, read
from hybrid.data.split import SIDES, Split, split
from hybrid.errors import DatasetError, StudyError
from hybrid.metrics.scope import ScopeCurve, ScopeNumbers, scope_curve, scope_numbers
from hybrid.metrics.summary import Interval, PairedDifference, Summary, paired_difference
from hybrid.production.bundle import OnFailure, save_bundle
from hybrid.production.snippet import snippet
from hybrid.routing.engine import Policy, Scope, answering
from hybrid.routing.table import NEVER, NONE, Answers, Bools, Floats, Predictions, Rows, Tier
from hybrid.study import defaults, promises
from hybrid.study.answers import AnsweredLLM
from hybrid.study.evidence import Progress, Recording, TierConfidence, record
from hybrid.study.graded import Graded, alone
from hybrid.study.measurement import Measurement
from hybrid.study.shipping import AtShare, Shipping, at_share, shipping
from hybrid.study.terms import Terms
from hybrid.study.tier_columns import TierColumns
from hybrid.study.unlabelled import NextLabels, answered, laid_out, sampled, unlabelled_rows
from hybrid.tiers.confidence import LearnedConfidence
from hybrid.tiers.embedders import Embedder
from hybrid.tiers.gate import NO_WORDS, KeyWords
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.rules import NO_EDITS, Edits
from hybrid.tuning import CHEAPEST, SELECTIVE, Certificate, Goal, Recommendation, certify, one_way, recommend
from hybrid.tuning import Progress as Searching
from hybrid.tuning.labelling import rows_to_label

if TYPE_CHECKING:
    import pandas as pd

MAX_UNDO = 50  # policies


@dataclass(frozen=True, slots=True)
class Pin:
    """A policy that is kept for comparison, under a short name."""

    name: str
    policy: Policy


class Study:
    """Labelled data, the answers of every tier, what is assumed, and the policy that was chosen.

    Nothing in it knows a screen: the dashboard, the command line and Python work on the same object and get the same
    numbers.

    Parameters
    ----------
    name
        What the user reads.
    table
        Strings, as `hybrid.data.read` gives them.
    columns
        What each column is; None: guessed.
    notes
        What was found when the table was read or joined.

    Examples
    --------
    From a file to a bundle. What a row costs comes from the file, or from the terms:

    >>> import hybrid, tempfile
    >>> from dataclasses import replace
    >>> study = hybrid.Study.read("sample_data/recorded_predictions.csv").fit()
    >>> [tier.name for tier in study.tiers]
    ['rules', 'classifier', 'naive_bayes', 'minilm', 'trained gate']
    >>> study.terms = replace(study.terms, prices=(("minilm", 0.002),), volume=20_000)
    >>> best = study.recommend(hybrid.Goal("cheapest", floor=0.86))
    >>> study.use(best.policy)

    Everything that is said of a policy comes from one measure, on the rows that its own tiers answered:

    >>> on = study.measure(side="test")
    >>> on.n_rows, on.summary == best.test
    (150, True)
    >>> [round(study.terms.month(s.cost_per_1000.value), 2) for s, _ in study.compare([study.llm_alone, best.policy])]
    [40.0, 7.2]
    >>> study.against(best.policy, study.llm_alone).n_rows
    150

    What may be promised, and what leaves; a project keeps all of it:

    >>> study.certify(alpha=0.3).delta
    0.1
    >>> study.pin()
    True
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study.save(folder)
    ...     again = hybrid.Study.open(folder)
    ...     bundle = again.export()
    >>> again.policy == best.policy == again.pinned[0].policy
    True
    >>> study.external()  # who loads the bundle says how these are asked
    ['naive_bayes', 'minilm']
    """

    def __init__(
        self, name: str, table: pd.DataFrame, columns: Columns | None = None, *, notes: Sequence[Note] = ()
    ) -> None:
        self.name = name
        self.table = table
        self.columns = guess_columns(table) if columns is None else columns
        self.joined = tuple(notes)
        self.edits: Edits = NO_EDITS
        self.embedder: Embedder | None = None
        self.seconds = 0.0  # that fitting took
        self.key_words: KeyWords = NO_WORDS
        self.pins: list[Pin] = []
        self.form: dict[str, Any] = {}  # what was typed on the screens; JSON values
        self.suggested: promises.Suggested | None = None
        self.certified: promises.Certified | None = None
        self.shared: object = None  # what a project was read from, and other studies of the same data hold as well
        self._terms = Terms()
        self._policy: Policy | None = None
        self._before: list[Policy] = []
        self._answers: TierColumns | None = None  # under the terms; None until something was fitted

    # what it is made of

    @classmethod
    def read(
        cls, source: str | Path | bytes, *, name: str | None = None, columns: Columns | None = None, **picked: Any
    ) -> Study:
        """Read a file of labelled texts, or of models' answers.

        Parameters
        ----------
        source
            A path, or a file's bytes; then `name` says the format by its ending.
        columns
            What each column is; None: guessed.
        **picked
            Single columns instead of the guess, such as ``label="intent"``; see `hybrid.data.columns.Columns`.

        Raises
        ------
        DatasetError
            If it cannot be used; the message says where and how to mend it.

        Examples
        --------
        >>> study = Study.read(b"text,label\\nwhere is my parcel,shipping\\n", name="tickets.csv")
        >>> study.columns.text, study.columns.label
        ('text', 'label')
        """
        name, found = _read(source, name)
        asks: tuple[Ask, ...] = ()
        columns = found.columns if columns is None and not picked else columns
        if columns is None:  # the rest is guessed around what is known
            roles: dict[str, str | None] = {
                role: picked.pop(role) for role in ("label", "text", "id", "group", "split") if role in picked
            }
            guessed = guess(found.table, picked=roles)
            columns, asks = guessed.columns, guessed.asks
        unsure = [
            Note(ask.question, f"Taken: {getattr(columns, ask.about)!r}. If it is another: {ask.about}=….", "warning")
            for ask in asks
        ]
        columns = replace(columns, **picked)
        columns = columns.by_people() if columns.reference == "" else columns
        return cls(name, found.table, columns, notes=(*found.notes, *unsure))

    def join(self, source: str | Path | bytes, *, name: str | None = None) -> Study:
        """Return a study, to be fitted, with a second file's answers for some of the rows, or with its labelled rows.

        Rows join by id where both files have one, else by text; see `hybrid.data.join.join`.

        Raises
        ------
        DatasetError
            If it cannot be read, or nothing joins.

        Examples
        --------
        >>> tickets = Study.read(b"id,text,label\\n7,where is my parcel,shipping\\n8,pay twice,billing", name="t.csv")
        >>> both = tickets.join(b"id,llm_label\\n8,billing", name="answers.csv")
        >>> [tier.name for tier in both.columns.recorded], both.name
        (['llm'], 't.csv + answers.csv')
        """
        name, found = _read(source, name)
        both = join(self.table, found.table, first_columns=self.columns)
        notes = (*self.joined, *found.notes, *both.notes)
        return Study(f"{self.name} + {name}", both.table, both.columns, notes=notes)

    def fit(
        self,
        *,
        embedder: Embedder | None = None,
        edits: Edits | None = None,
        key_words: KeyWords | None = None,
        progress: Progress | None = None,
    ) -> Study:
        """Validate the table, split it, fit what runs here, and lay every tier's answers beside the rows.

        The study stays as it was until all of it is done.

        Parameters
        ----------
        embedder
            Makes the small-model tiers; None: there are none.
        edits
            What the user changed about the mined rules; None: as before.
        key_words
            That make a text hard or easy for the heuristic gate; None: as before.
        progress
            Called with the share done and what is being done; what it raises ends the work.

        Raises
        ------
        HybridError
            If something cannot be used.
        """
        start = time.perf_counter()
        edits = self.edits if edits is None else edits
        dataset = build(self.table, self.columns)
        words = self.key_words if key_words is None else key_words
        fitted = record(dataset, split(dataset), edits=edits, key_words=words, embedder=embedder, progress=progress)
        self.keep(fitted, embedder=embedder, edits=edits, key_words=words)
        self.seconds = time.perf_counter() - start
        return self

    def keep(
        self,
        fitted: Recording,
        *,
        embedder: Embedder | None = None,
        edits: Edits = NO_EDITS,
        key_words: KeyWords = NO_WORDS,
    ) -> None:
        """Take over what was fitted on the table."""
        self.embedder, self.edits, self.key_words = embedder, edits, key_words
        self._answers = TierColumns(fitted, terms=self._terms).asking(self.llms)
        self.suggested = self.certified = None

    def aside(self) -> Study:
        """Return a study of the same data under the same terms, for another thread: one of them is not to be shared."""
        other = Study(self.name, self.table, self.columns, notes=self.joined)
        other.embedder, other.edits, other.key_words = self.embedder, self.edits, self.key_words
        other._terms, other._policy = self._terms, self._policy  # what the policy sets aside stays set aside
        other.suggested, other.pins = self.suggested, list(self.pins)  # a search tries first what was found before
        other._answers = self.answers.under(self._terms)
        return other

    def add(self, llms: Sequence[AnsweredLLM]) -> None:
        """Replace the columns of the LLM tiers that were asked here."""
        self._answers = self.answers.asking(llms)
        self.suggested = self.certified = None

    @property
    def answers(self) -> TierColumns:
        """Every tier's answers under the terms.

        Raises
        ------
        StudyError
            If nothing was fitted yet.
        """
        if self._answers is None:
            raise StudyError("Nothing is fitted yet: call study.fit() first.")
        return self._answers

    @property
    def fitted(self) -> Recording | None:
        """What was read, fitted and recorded; None until then."""
        return None if self._answers is None else self._answers.fitted

    @property
    def llms(self) -> tuple[AnsweredLLM, ...]:
        """LLM tiers that were asked here."""
        return () if self._answers is None else self._answers.llms

    @property
    def no_gate(self) -> dict[str, str]:
        """By LLM tier: why there is no gate that tells whether it is right."""
        return {tier: none.why for tier, none in self.answers.no_gate.items()}

    @property
    def evidence(self) -> Recording:
        """The data set, its split, and what was fitted.

        Raises
        ------
        StudyError
            If nothing was fitted yet.
        """
        return self.answers.fitted

    @property
    def dataset(self) -> Dataset:
        return self.evidence.dataset

    @property
    def split(self) -> Split:
        return self.evidence.split

    @property
    def classes(self) -> tuple[str, ...]:
        return self.evidence.dataset.classes

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was found in the data and what was done about it."""
        return (*self.joined, *self.dataset.notes)

    @property
    def models(self) -> Mapping[str, Any]:
        """The models that run here, by tier name."""
        found = self.evidence.models | {name: gate.model for name, gate in self.answers.gates.items()}
        tier, fitted = self.answers.scope_tier, self.evidence.scopes.get(self.answers.out_class)
        return found if tier is None or fitted is None else found | {tier.name: fitted.model}

    @property
    def llm_models(self) -> dict[str, LLMTier]:
        """LLM tiers that a bundle can ask itself, by name."""
        return {one.tier.name: one.model for one in self.llms}

    @property
    def key(self) -> str:
        """Tell these data, with their split, rules and answers, from any other."""
        columns, edits = repr(self.columns), repr((sorted(self.edits.removed), self.edits.added, self.key_words))
        small = self.embedder and self.embedder.identity
        llms = "".join(f" {one.key}" for one in self.llms)
        return f"{self.dataset.fingerprint} {columns} {edits} {small}{llms}"

    @property
    def token(self) -> str:
        """Tell these data and the terms they are seen under from any other: what a screen keeps pictures by."""
        return f"{self.key} {self._terms.routing!r}"

    # one column a tier

    @property
    def terms(self) -> Terms:
        """What is assumed about production."""
        return self._terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        if self._answers is not None and terms.routing != self._terms.routing:
            self._answers = self._answers.under(terms)
        self._terms = terms

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Every tier that has answers, from cheap to dear under the terms; gates last."""
        return self.answers.tiers

    @property
    def scope_tier(self) -> Tier | None:
        """The tier that scores how far a text is from anything seen, which stands before a pattern; None without texts.

        It is fitted when its answers are first wanted.
        """
        return self.answers.scope_tier

    @property
    def out_class(self) -> str | None:
        """The class whose texts are out of scope; None where there is none."""
        return self.answers.out_class

    def every_tier(self, terms: Terms | None = None) -> tuple[Tier, ...]:
        """Return the tiers that a policy may have, the one that scores the scope too; None: under the terms at hand."""
        answers = self.answers if terms is None else self.answers.under(terms)
        return answers.tiers if answers.scope_tier is None else (answers.scope_tier, *answers.tiers)

    def scoped(self, policy: Policy | None = None, *, share: float = 0.01) -> Policy:
        """Return a policy that sets aside what is farther from anything seen than this share of the known texts.

        What is set aside goes to the person where that is the policy's last tier. Else its answer is `out_class` where
        there is one, and "none of these" where there is none.

        Parameters
        ----------
        policy
            None: the one at hand.
        share
            Of texts that come as the known ones did; at most as many are set aside, on average.

        Raises
        ------
        HybridError
            If there are no texts, or too few to tell what is far.
        """
        policy, tier = self._at_hand(policy), self.scope_tier
        if tier is None:
            raise StudyError("What is out of scope is read off texts, and this file has predictions only.")
        if not 0 <= share <= 1:
            raise StudyError(f"The share that may be set aside is {share}: must be in [0, 1]. Percent? Divide by 100.")
        self.answers.column(tier.name)  # says at once what is missing
        return policy.within(tier, Scope(round(1 - share, 9) if share else NEVER, self._scope_label()))

    def _scope_label(self) -> int:
        return NONE if self.out_class is None else self.classes.index(self.out_class)

    def column(self, name: str) -> tuple[Tier, Answers]:
        """Return a tier and its answers about every row, at the prices and latencies of the terms; nan: not asked.

        Raises
        ------
        TierError
            If there is no such tier.
        """
        return self.answers.column(name)

    def confidence(self, name: str) -> TierConfidence | None:
        """Return what a tier says of its answers and what was learned of them; None of one that is calibrated already.

        Raises
        ------
        TierError
            If there is no such tier.
        """
        return self.answers.confidence(name)

    def learned(self, name: str) -> LearnedConfidence | None:
        """Return what replaces a tier's own confidence under the terms; None where its own counts."""
        return self.answers.learned(name)

    def at_chance(self, name: str) -> str | None:
        """Return in words that a tier is right no more often than one class for all; None where it is, on tune."""
        return self.answers.at_chance(name)

    def gate_auroc(self, gate: str, tier: str, side: str = "test") -> Interval:
        """Return how well a gate's scores tell whether a tier's answers are right; 0.5 is chance.

        Raises
        ------
        TierError
            If there is no such tier.
        """
        return self.answers.gate_auroc(gate, tier, side)

    def side(self, side: str) -> Rows:
        """Return the rows of "tune" or of "test"."""
        return self.split.side(side)

    def table_of(self, names: Sequence[str], rows: Rows | Bools) -> Predictions:
        """Return the answers of these tiers about these rows."""
        return self.answers.table_of(names, rows)

    def accuracy(self, side: str = "tune") -> dict[str, float]:
        """Return each answering tier's accuracy on the rows of a side that it answered; without those that did not."""
        return self.answers.accuracy(side)

    @property
    def llm(self) -> Tier | None:
        """The strongest LLM: what asking it about everything is every number's baseline; None where there is none."""
        return defaults.strongest_llm(self.tiers, self.accuracy())

    @property
    def cheap(self) -> Tier:
        """The cheap tier that others are measured against."""
        answered = self.accuracy()
        return defaults.cheap_of([t for t in self.tiers if t.name in answered] or self.tiers)

    # the working policy

    @property
    def policy(self) -> Policy | None:
        """The policy at hand: what was used last, else triage from the cheap to the strongest tier, or a cascade.

        None where the answers are not there that it would need; `missing` says which.
        """
        now = None if self._policy is None else self.bind(self._policy)
        return now or self.start("triage") or self.start("cascade")

    def start(self, pattern: str) -> Policy | None:
        """Return the policy that a pattern starts with; None where there are too few tiers for it."""
        return defaults.start(pattern, self.tiers, self.accuracy())

    def bind(self, policy: Policy) -> Policy | None:
        """Return a policy over the tiers as they are now, at the prices of the terms; None where one is gone."""
        here = {t.name: t for t in (self.tiers if policy.scope is None else self.every_tier())}
        if not set(policy.names) <= set(here):
            return None
        scope = None if policy.scope is None else replace(policy.scope, label=self._scope_label())
        return replace(policy, tiers=tuple(here[name] for name in policy.names), scope=scope)

    def use(self, policy: Policy) -> None:
        """Make a policy the one at hand; what was there before can be undone.

        Raises
        ------
        StudyError
            If one of its tiers is not here.
        """
        now = self.bind(policy)
        if now is None:
            gone = set(policy.names) - {t.name for t in self.tiers}
            raise StudyError(f"There is no tier called {', '.join(sorted(gone))} here.")
        before = self.policy
        if now != before:
            if before is not None:
                self._before = [*self._before, before][-MAX_UNDO:]
            self._policy = now

    def restore(self, policy: Policy) -> None:
        """Make a policy the one at hand as it was kept: nothing comes before it."""
        self._policy, self._before = self.bind(policy), []

    @property
    def chosen(self) -> bool:
        """Whether somebody chose the policy at hand."""
        return self._policy is not None and self.bind(self._policy) is not None

    @property
    def can_undo(self) -> bool:
        return bool(self._before)

    def undo(self) -> None:
        """Go back to the policy before."""
        while self._before:
            policy = self.bind(self._before.pop())
            if policy is not None:
                self._policy = policy
                return

    def pin(self, policy: Policy | None = None) -> bool:
        """Keep a policy for comparison unless it is kept already; returns whether it was new."""
        policy = self._at_hand(policy)
        if any(p.policy == policy for p in self.pinned):
            return False
        used = {p.name for p in self.pins}
        letters = (f"{chr(65 + i % 26)}{i // 26 or ''}" for i in range(10_000))
        self.pins.append(Pin(next(name for name in letters if name not in used), policy))
        return True

    @property
    def pinned(self) -> list[Pin]:
        """The pins at the prices of the terms, without those whose tiers are not here now."""
        bound = ((p.name, self.bind(p.policy)) for p in self.pins)
        return [Pin(name, policy) for name, policy in bound if policy is not None]

    def unpin(self, name: str) -> None:
        """Keep it no longer."""
        self.pins = [p for p in self.pins if p.name != name]

    @property
    def late(self) -> str:
        """What cannot be chosen from because every answer is on a test row, and what to do; empty where nothing is."""
        answered = self.accuracy("tune")
        late = [t.name for t in answering(self.tiers) if t.name not in answered]
        if not late:
            return ""
        return (
            f"{', '.join(late)} answered no tune row: every answer is on a test row, and thresholds are chosen on "
            "tune. Split the rows again, or add answers about tune rows."
        )

    @property
    def missing(self) -> str:
        """Why there is no policy to start with, and what to do; empty where there is one."""
        if self.policy is not None:
            return ""
        return self.late or (
            "There is one tier only, and a policy needs two: add a column with an LLM's answers, connect an LLM, or "
            "switch on the what-if LLM."
        )

    # the only way that anything is measured

    def graded(self, names: Sequence[str], side: str) -> Graded:
        """Return the rows of a side that all of these tiers answered, in the class mix of the terms."""
        return self.answers.graded(names, side)

    def measure(self, policy: Policy | None = None, side: str = "test") -> Measurement:
        """Measure a policy on the rows that its own tiers answered.

        Parameters
        ----------
        policy
            None: the one at hand.
        side
            Choose on "tune", report on "test".

        Raises
        ------
        StudyError
            If there is no policy at hand, or it names a tier that is not here.
        """
        policy = self._at_hand(policy)
        return Measurement(policy, side, self.graded(policy.names, side), defaults.cheap_of(policy.tiers).name)

    def headline(self, policy: Policy | None = None) -> Measurement:
        """Measure a policy where it is reported: on test, or on tune where no test row has every answer."""
        on_test = self.measure(policy, "test")
        return on_test if on_test.n_rows else self.measure(policy, "tune")

    def against(self, policy: Policy, other: Policy, side: str = "test") -> PairedDifference | None:
        """Compare two policies on the rows that both can decide: first minus second; None without such a row.

        Raises
        ------
        StudyError
            If one names a tier that is not here.
        """
        a, b = self._at_hand(policy), self._at_hand(other)
        both = self.graded((*a.names, *(n for n in b.names if n not in a.names)), side)
        return both.gain(a, b) if len(both) else None

    def shipping(self, policy: Policy | None = None) -> Shipping | None:
        """Return what the models that ship do otherwise than those that answered the tune rows; None: none is here."""
        policy = self._at_hand(policy)
        on = self.graded(policy.names, "test")
        return on.remember(
            ("shipping", repr(policy)), lambda: shipping(policy, on, self.evidence.again, self.split.test)
        )

    def at_share(self, policy: Policy | None = None) -> AtShare | None:
        """Return a policy with thresholds at which the models that ship send on the share of texts promised on tune.

        None where nothing moves. Export it with `chosen`, so that the bundle's evidence says what was done.
        """
        policy = self._at_hand(policy)
        tune, test = (self.graded(policy.names, side) for side in ("tune", "test"))
        return test.remember(("at share", repr(policy)), lambda: at_share(policy, tune, test))

    def compare(self, policies: Sequence[Policy], side: str = "test") -> list[tuple[Summary, PairedDifference | None]]:
        """Measure policies on the rows that all of their tiers answered; each also against the first.

        Returns
        -------
        list
            Of each policy its summary and the difference, policy minus first; None for the first itself. Empty where
            no row has the answers of all.

        Raises
        ------
        StudyError
            If one names a tier that is not here.
        """
        bound = [self._at_hand(p) for p in policies]
        rows = self.graded(tuple(dict.fromkeys(n for p in bound for n in p.names)), side)
        if not len(rows):
            return []
        outcomes = [rows.outcomes(p) for p in bound]
        return [
            (rows.summary(p), paired_difference(outcomes[0], o, rows.truth, groups=rows.groups) if i else None)
            for i, (p, o) in enumerate(zip(bound, outcomes, strict=True))
        ]

    @property
    def llm_alone(self) -> Policy | None:
        """The policy that asks the strongest LLM about everything; None where there is no LLM."""
        return None if self.llm is None else alone(self.llm)

    @property
    def cheap_alone(self) -> Policy:
        """The policy that takes the cheap tier's answer for everything."""
        return alone(self.cheap)

    def _at_hand(self, policy: Policy | None) -> Policy:
        if policy is None:
            policy = self.policy
            if policy is None:
                raise StudyError(self.missing)
        bound = self.bind(policy)
        if bound is None:
            gone = set(policy.names) - {t.name for t in self.tiers}
            raise StudyError(f"There is no tier called {', '.join(sorted(gone))} here: it was renamed or switched off.")
        return bound

    def scope_numbers(self, policy: Policy | None = None, side: str = "test") -> ScopeNumbers:
        """Return what setting texts aside does to a policy on one side: what it costs, and what it catches.

        Raises
        ------
        StudyError
            If the policy sets nothing aside, or there is not a single row.
        """
        _, right, out, on, policy = self._far(policy, side)
        aside = policy.set_aside(on.predictions)
        return on.remember(("scope", repr(policy)), lambda: scope_numbers(aside, right, out, groups=on.groups))

    def scope_curve(self, policy: Policy | None = None, side: str = "tune") -> ScopeCurve:
        """Return the same at every threshold.

        Raises
        ------
        StudyError
            As `scope_numbers`.
        """
        far, right, out, *_ = self._far(policy, side)
        return scope_curve(far, right, out)

    @property
    def n_known(self) -> int:
        """Tune texts that a text's distance is set among.

        Raises
        ------
        TierError
            If there are no texts, or too few.
        """
        return len(self.evidence.scope(self.out_class).model.distances)

    def _far(self, policy: Policy | None, side: str) -> tuple[Floats, Bools, Bools, Graded, Policy]:
        policy = self._at_hand(policy)
        if policy.scope is None:
            raise StudyError("This policy sets nothing aside: study.scoped(policy) returns one that does.")
        on = self.graded(policy.names, side)
        out = (
            np.zeros(len(on), dtype=bool) if self.out_class is None else on.truth == self.classes.index(self.out_class)
        )
        right = on.outcomes(policy.bare).label == on.truth
        return on.predictions.confidence[:, 0], right, out, on, policy

    # finding and promising

    def recommend(
        self,
        goal: Goal | None = None,
        *,
        policies: Sequence[Policy] | None = None,
        progress: Callable[[Searching], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        seconds: float = 30.0,
    ) -> Recommendation:
        """Find the best policy for a goal: chosen on tune, reported on test.

        Parameters
        ----------
        goal
            None: the cheapest that is as accurate as the strongest LLM.
        policies
            Ways of routing whose thresholds are to be set; None: everything that the patterns declare.
        progress, cancel, seconds
            See `hybrid.tuning.recommend`.

        Raises
        ------
        HybridError
            If there is nothing to choose from, or no row to choose on.
        """
        goal = goal or self.usual_goal()
        scope, now = None, self.policy
        if now is not None and now.scope is not None:  # the user's choice: it stands before every way that is tried
            scope = now.scope
        also = [] if scope is None or self.scope_tier is None else [self.scope_tier.name]
        tune, test = (self.answers.every_answer(side, *also) for side in SIDES)
        found = recommend(
            tune.predictions,
            tune.truth,
            goal,
            test=test,
            groups=tune.groups,
            ways=None if policies is None else [way for p in policies for way in one_way(p)],
            known=self._known(scope) if policies is None else (),
            order=self._terms.order or None,
            scope=scope,
            progress=progress,
            cancel=cancel,
            seconds=seconds,
        )
        on_tune, on_test = (self.graded(found.policy.names, side) for side in SIDES)
        measured = on_test.summary(found.policy) if len(on_test) else None
        found = replace(found, tune=on_tune.summary(found.policy), test=measured)
        self.suggested = promises.Suggested(self._terms, found)
        return found

    def _known(self, scope: Scope | None) -> list[Policy]:
        """Return the policies at hand, pinned and suggested before, behind this scope."""
        before = [] if self.suggested is None else [c.policy for c in self.suggested.found.candidates]
        bound = (self.bind(p) for p in [*filter(None, [self.policy]), *before, *(p.policy for p in self.pins)])
        found = [p.bare for p in bound if p is not None]
        tier = self.scope_tier
        return found if scope is None or tier is None else [p.within(tier, scope) for p in found]

    def usual_goal(self) -> Goal:
        """Return the goal without a wish: as accurate as the strongest LLM on tune, for less; else as the best tier.

        Where the LLM's own answers are the truth: the cheapest that agrees with most of them.
        """
        if self.dataset.teacher is not None:
            return Goal(CHEAPEST, floor=defaults.MIN_AGREEMENT)
        accuracy = self.accuracy()
        best = accuracy[self.llm.name] if self.llm is not None else max(accuracy.values())
        return Goal(CHEAPEST, floor=float(np.floor(1000 * best) / 1000))

    def certify(
        self, policy: Policy | None = None, *, alpha: float, delta: float = 0.1, risk: str = SELECTIVE
    ) -> Certificate:
        """Find the thresholds of a policy whose risk can be promised, by groups, on tune; see `hybrid.tuning.certify`.

        Parameters
        ----------
        policy
            None: the one at hand.
        alpha, delta
            Risk at most `alpha` with probability at least ``1 - delta``.
        risk
            ``selective``: of what is answered before the last tier; ``system``: of all answers.

        Raises
        ------
        HybridError
            If these make no sense, or there is nothing to certify.
        """
        policy = self._at_hand(policy)
        on = self.graded(policy.names, "tune")
        found = certify(policy, on.predictions, on.truth, alpha=alpha, delta=delta, risk=risk, groups=on.groups)
        self.certified = promises.Certified(self._terms, found)
        return found

    def rows_to_label(self, policy: Policy | None = None, n: int = 50) -> NextLabels | None:
        """Return the unlabelled rows of the file whose labels would change most; see `hybrid.tuning.labelling`.

        Returns
        -------
        NextLabels or None
            None where the file has no row with a text and without a label, or no tune row has every answer.
        """
        policy = self._at_hand(policy)
        tune, rows = self.graded(policy.names, "tune"), unlabelled_rows(self)
        if not len(rows) or not len(tune):
            return None
        looked_at, cheap = sampled(self, policy, rows), defaults.cheap_of(policy.tiers).name
        found = rows_to_label(policy, answered(self, policy, looked_at), tune.predictions, tune.truth, cheap=cheap, n=n)
        table = laid_out(self, looked_at, found, cheap=cheap)
        return NextLabels(table, looked_at[found.rows], found, len(rows), len(looked_at))

    # leaving

    def export(
        self,
        policy: Policy | None = None,
        path: str | Path | None = None,
        *,
        on_failure: OnFailure = "best_so_far",
        chosen: Policy | None = None,
    ) -> bytes:
        """Pack a policy as a bundle that runs in production; returns its bytes, and writes them where a path is given.

        Parameters
        ----------
        chosen
            The policy as it was chosen on tune, where `at_share` moved its thresholds for the models that ship.

        Raises
        ------
        HybridError
            If it cannot be packed.
        """
        policy = self._at_hand(policy)
        dataset = self.dataset
        # golden rows come from test, which the shipped models were not fitted on; from tune where test has no answers
        on = self.headline(policy).graded
        own = [self.answers.as_answered(name)[1].confidence[on.rows] for name in (t.name for t in on.predictions.tiers)]
        learned = {name: self.learned(name) for name in policy.names}
        texts = dataset.texts if dataset.texts is not None else dataset.ids
        content = save_bundle(
            policy=policy,
            classes=dataset.classes,
            models=self.models,
            texts=[str(t) for t in texts[on.rows]],
            recorded=replace(on.predictions, confidence=np.column_stack(own)),
            evidence=promises.evidence(self, policy, chosen=chosen),
            llms=self.llm_models,
            confidences={name: model for name, model in learned.items() if model is not None},
            on_failure=on_failure,
            measured={
                n: self.answers.as_answered(n)[1].cost[on.rows] for n in dict(self._terms.prices) if n in policy.names
            },
            reference=promises.reference(self, policy),
        )
        if path is not None:
            Path(path).write_bytes(content)
        return content

    def snippet(self, policy: Policy | None = None, file: str = "policy.zip") -> str:
        """Return the lines of Python that run a policy's bundle, as they stand."""
        policy = self._at_hand(policy)
        return snippet(file, policy, classes=self.dataset.classes, models=self.models, llms=self.llm_models)

    def external(self, policy: Policy | None = None) -> list[str]:
        """Return the tiers of a policy that a bundle can neither hold nor ask."""
        return [n for n in self._at_hand(policy).names if n not in self.models and n not in self.llm_models]

    def save(self, folder: str | Path) -> None:
        """Keep everything in a folder; see `hybrid.study.project`."""
        from hybrid.study.project import save

        save(self, Path(folder))

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Return the study that `save` kept; see `hybrid.study.project`.

        Raises
        ------
        StudyError
            If there is none, or it is damaged.
        """
        from hybrid.study.project import open_folder

        return open_folder(Path(folder))


def _read(source: str | Path | bytes, name: str | None) -> tuple[str, Read]:
    if isinstance(source, bytes):
        if name is None:
            raise DatasetError("Bytes have no name: say name='tickets.csv', whose ending tells the format.")
        return name, read(name, source)
    name = name or Path(source).name
    try:
        return name, read(name, Path(source).read_bytes())
    except OSError as error:
        raise DatasetError(f"{str(source)!r} cannot be read: {error.strerror}.") from error
