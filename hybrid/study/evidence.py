"""Recording: fit the local tiers on a dataset, and put every tier's answer about every row into one table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import numpy as np
from scipy.special import logit

from hybrid.data.dataset import Dataset
from hybrid.data.leaks import too_good
from hybrid.data.split import Split
from hybrid.errors import TierError
from hybrid.metrics.auroc import Worth, auroc, worth
from hybrid.metrics.summary import Interval
from hybrid.routing.table import UNKNOWN, Answers, Floats, Labels, Predictions, Rows, Tier, likeliest
from hybrid.tiers import LocalModel
from hybrid.tiers.calibration import DECIMALS, Again
from hybrid.tiers.classifier import FittedClassifier, fit_classifier
from hybrid.tiers.confidence import EPSILON, Chances, FittedConfidence, Reader, fit_confidence
from hybrid.tiers.embedders import Embedder, MiniLM
from hybrid.tiers.embedding import EmbeddingClassifier, FittedEmbedding, fit_embedding
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.gate import NO_WORDS, FittedGate, HeuristicGate, KeyWords, TrainedGate, check_enough, fit_gates
from hybrid.tiers.rules import NO_EDITS, Edits, fit_rules
from hybrid.tiers.scope import FittedScope, fit_scope

RULES, CLASSIFIER = "rules", "classifier"
TRAINED_GATE, HEURISTIC_GATE = "trained gate", "heuristic gate"
LEARNS = ("recorded", "llm")  # kinds of tiers whose confidence is learned; what runs here is calibrated already
CHANCE = 0.5  # the AUROC of scores that tell nothing


Progress = Callable[[float, str], None]


def gate_for(tier: str) -> str:
    """Return the name of the trained gate that tells whether a tier is right."""
    return TRAINED_GATE if tier == CLASSIFIER else f"{TRAINED_GATE} for {tier}"


@dataclass(frozen=True, slots=True, eq=False)
class TierConfidence:
    """What a tier says of its own answers, and what was learned of them.

    Parameters
    ----------
    fitted
        The model that ships, the answers with the learned confidence, and whether it is the better one.
    said, learned
        What either confidence is worth on "tune" (out of fold) and on "test", over the answers with a known label;
        without a side that has none.
    """

    fitted: FittedConfidence
    said: Mapping[str, Worth]
    learned: Mapping[str, Worth]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Every tier's answers about a dataset, and the models that can give them again.

    Parameters
    ----------
    predictions
        Of all rows: out of fold on tune, the shipped models' on test; from cheap to dear, gates last.
        Rows that a recorded tier was never asked about are nan there.
    models
        By tier name; only of tiers that run here.
    raw_confidence
        The classifier's before calibration, shape ``(n_rows,)``; None without texts.
    problems
        What could not be fitted and why, or is too good to be true, for the user.
    left_out
        The gates that tell right from wrong no better than chance, in words.
    reader
        Name of the tier among `models` whose probabilities tell how likely another tier's answer is right.
    chances
        These probabilities, shape ``(n_rows, n_classes)``: out of fold on tune, the shipped model's on test.
    again
        By tier name: what some of the folds' models say of the test rows; only of what is fitted here.
    likely
        By tier name: the likeliest classes of each row, shape ``(n_rows, TOP)``, out of fold on tune; only of what is
        fitted here and has probabilities.
    """

    dataset: Dataset
    split: Split
    predictions: Predictions
    models: dict[str, LocalModel]
    raw_confidence: Floats | None
    problems: tuple[str, ...]
    reader: str | None = None
    chances: Chances | None = None
    again: Mapping[str, tuple[Again, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    likely: Mapping[str, Labels] = field(default_factory=dict)
    _learned: dict[str, TierConfidence] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[str, TierConfidence] = field(default_factory=dict, init=False, repr=False)
    _scopes: dict[str | None, FittedScope] = field(default_factory=dict, init=False, repr=False)

    def scope(self, out: str | None = None) -> FittedScope:
        """Return how far each text is from anything seen: by the small model's embeddings, else by words; fitted once.

        Parameters
        ----------
        out
            The class whose texts are out of scope; None, there is none.

        Raises
        ------
        TierError
            If there are no texts, or too few.
        """
        if out not in self._scopes:
            dataset, fold = self.dataset, self.split.fold
            if dataset.texts is None:
                raise TierError("What is out of scope is read off texts, and this file has predictions only.")
            embedder = next((m.embedder for m in self.models.values() if isinstance(m, EmbeddingClassifier)), None)
            if not isinstance(embedder, MiniLM):  # an endpoint costs money a text, and may answer otherwise tomorrow
                embedder = None
            self._scopes[out] = fit_scope(
                dataset.texts,
                dataset.truth,
                fold,
                key=dataset.key,
                out=None if out is None else dataset.classes.index(out),
                embedder=embedder,
                cache=None if embedder is None else EmbeddingCache(embedder.identity),
            )
        return self._scopes[out]

    @property
    def scopes(self) -> dict[str | None, FittedScope]:
        """What was fitted so far of what is out of scope, by the class that is."""
        return self._scopes

    def confidence(self, name: str) -> TierConfidence:
        """Return what is known of a recorded tier's confidence; learned once."""
        if name not in self._learned:
            self._learned[name] = self.learn(self.predictions.answers(self.predictions.index(name)))
        return self._learned[name]

    def train_gate(self, tier: str, answers: Answers) -> tuple[TrainedGate, Answers]:
        """Learn from the words whether a tier is right; scores are nan where it was not asked.

        Raises
        ------
        TierError
            If there is too little to learn from, or what was learned is no better than chance.
        """
        found = _train_gates(self.dataset, self.split, {tier: answers})[tier]
        if isinstance(found, TierError):
            raise found
        _check_gate(self.dataset, self.split, tier, found.answers, answers)
        return found.model, found.answers

    @property
    def kept(self) -> dict[str, TierConfidence]:
        """What a project brought back of what was learned before, by `basis`."""
        return self._kept

    def basis(self, answers: Answers) -> str:
        """Return a checksum of all that `learn` reads, hex."""
        rows = self.dataset
        read: list[np.ndarray] = [answers.label, answers.confidence, rows.truth, self.split.fold, rows.group]
        if self.reads is not None and self.chances is not None:
            read.append(self.chances)
        digest = hashlib.sha256()
        for values in read:
            digest.update(f"{values.dtype} {values.shape} ".encode())
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    @property
    def reads(self) -> Reader | None:
        """The model whose probabilities tell how likely another tier's answer is right; None where it is not here."""
        return None if self.reader is None else cast("Reader | None", self.models.get(self.reader))

    def learn(self, answers: Answers) -> TierConfidence:
        """Learn how likely answers about all rows are right; nan where nothing was asked."""
        if self._kept and (kept := self._kept.get(self.basis(answers))) is not None:
            own = replace(answers, confidence=kept.fitted.answers.confidence)  # at its own costs
            return replace(kept, fitted=replace(kept.fitted, answers=own))
        truth, fold, group = self.dataset.truth, self.split.fold, self.dataset.group
        fitted = fit_confidence(
            answers,
            truth,
            fold,
            reader=self.reads,
            chances=None if self.reads is None else self.chances,
            group=group,
        )
        known, right = (answers.label != UNKNOWN) & ~np.isnan(answers.confidence), answers.label == truth
        sides = {"tune": np.flatnonzero(known & (fold >= 0)), "test": np.flatnonzero(known & (fold < 0))}
        said, learned = (
            {s: worth(c[rows], right[rows], group=group[rows]) for s, rows in sides.items() if len(rows)}
            for c in (answers.confidence, fitted.answers.confidence)
        )
        return TierConfidence(fitted, said, learned)


def record(
    dataset: Dataset,
    split: Split,
    *,
    edits: Edits = NO_EDITS,
    key_words: KeyWords = NO_WORDS,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Fit what can be fitted and ask every tier about every row.

    Parameters
    ----------
    edits
        What the user changed about the mined rules.
    key_words
        Of the user's, for the heuristic gate.
    embedder
        Makes the small-model tiers; None: there are none. Where it fails, `problems` says so and they are left out.
    progress
        Called with the share done and what is being done.

    Raises
    ------
    TierError
        If the classifier cannot be fitted.
    """
    report = progress or (lambda share, doing: None)
    recorded = dataset.recorded
    order = np.argsort([t.price for t in recorded.tiers], kind="stable")
    columns = [(recorded.tiers[j], recorded.answers(j)) for j in order]
    if dataset.texts is None:
        found = Recording(dataset, split, _table(columns, dataset.classes), {}, None, ())
        for j, (tier, _) in enumerate(columns):
            report(j / len(columns), f"Learning how sure {tier.name} is")
            found.confidence(tier.name)
        report(1.0, "Read the recorded answers")
        return found

    texts, truth, fold = dataset.texts, dataset.truth, split.fold
    n_classes = len(dataset.classes)
    report(0.02, "Mining rules")
    rules = fit_rules(texts, truth, fold, n_classes=n_classes, edits=edits)
    fast_share = 0.7 if embedder is None else 0.2
    fitted = fit_classifier(
        texts, truth, fold, n_classes=n_classes, progress=lambda share, doing: report(0.1 + fast_share * share, doing)
    )
    heuristic = HeuristicGate(key_words=key_words.checked())
    models: dict[str, LocalModel] = {RULES: rules.model, CLASSIFIER: fitted.model}
    again = {RULES: rules.again, CLASSIFIER: fitted.again}
    local = [(Tier(RULES, "rules"), rules.answers), (Tier(CLASSIFIER, "classifier"), fitted.answers)]
    doubt = too_good(CLASSIFIER, (fitted.answers.label == truth)[fold >= 0])
    problems = (f"{doubt.what} {doubt.done}",) if doubt else ()
    reader, chances = CLASSIFIER, fitted.probabilities
    likely = {CLASSIFIER: likeliest(fitted.probabilities)}
    if embedder is not None:
        try:
            small = _small_models(
                dataset, split, embedder, fitted, models, lambda share, doing: report(0.3 + 0.5 * share, doing)
            )
            local += small.columns
            own = small.fitted.again, small.fitted.averaged_again
            every = small.fitted.probabilities, small.fitted.averaged_probabilities
            likely |= {tier.name: likeliest(p) for (tier, _), p in zip(small.columns, every, strict=True)}
            again |= {tier.name: said for (tier, _), said in zip(small.columns, own, strict=True)}
            if small.fitted.averaged.answers_alike:
                reader, chances = small.columns[1][0].name, small.fitted.averaged_probabilities
        except TierError as error:
            problems = (*problems, f"The small-model tiers are left out. {error}")
    gates: list[tuple[Tier, Answers]] = []
    left_out = []
    guarded = [(t, a) for t, a in (*local, *columns) if t.kind != "rules" and t.name != dataset.teacher]
    every_gate = _train_gates(
        dataset,
        split,
        {tier.name: said for tier, said in guarded},
        lambda share, _: report(0.8 + 0.14 * share, "Training the gates"),
    )
    for tier, said in guarded:
        try:
            name, trained = gate_for(tier.name), every_gate[tier.name]
            if isinstance(trained, TierError):
                raise trained
            if tier.name != CLASSIFIER:  # that one stays whatever it is worth: the router needs a gate to start with
                _check_gate(dataset, split, tier.name, trained.answers, said)
            models[name], again[name] = trained.model, trained.again
            gates.append((Tier(name, "gate", guards=tier.name), trained.answers))
        except TierError as error:
            left_out.append(str(error))
    rated = heuristic.answer(list(texts))
    of_use = any(gate_auroc(dataset, split.tune, rated, said, fold=split.fold).low > CHANCE for _, said in guarded)
    if not of_use:
        verdict, also = ("is left out", ", or use a trained gate") if gates else ("is of no use here", "")
        left_out.append(
            f"The heuristic gate {verdict}: on tune its scores tell of no tier better than chance whether it is right. "
            f"Give it key words of your own{also}."
        )
    if of_use or not gates:  # without any gate there is no router to try
        models[HEURISTIC_GATE] = heuristic
        gates.append((Tier(HEURISTIC_GATE, "gate"), rated))
    answering = sorted([*local, *columns], key=lambda column: column[0].price)  # stable: what runs here comes first
    table = _table([*answering, *gates], dataset.classes)
    found = Recording(
        dataset,
        split,
        table,
        models,
        fitted.raw_confidence,
        problems,
        reader=reader,
        chances=chances.astype(np.float32),
        again={name: tuple(one._replace(probabilities=None) for one in said) for name, said in again.items()},
        left_out=tuple(left_out),
        likely=likely,
    )
    for tier, _ in columns:
        report(0.95, f"Learning how sure {tier.name} is")
        found.confidence(tier.name)
    report(1.0, "Done")
    return found


def _train_gates(
    dataset: Dataset, split: Split, said: Mapping[str, Answers], progress: Progress | None = None
) -> dict[str, FittedGate | TierError]:
    """Return the gate of each tier with its scores about all rows, nan where it was not asked; or why there is none."""
    if dataset.texts is None:
        raise TierError("A gate reads texts, and there are none.")
    report = progress or (lambda share, doing: None)
    found: dict[str, FittedGate | TierError] = {}
    alike: dict[bytes, list[str]] = {}  # tiers that were asked about the same rows learn together
    for name, answers in said.items():
        asked = ~np.isnan(answers.confidence)
        try:
            check_enough((answers.label == dataset.truth)[asked], split.fold[asked], name)
            alike.setdefault(asked.tobytes(), []).append(name)
        except TierError as error:
            found[name] = error
    for k, (rows, names) in enumerate(alike.items()):
        at = np.flatnonzero(np.frombuffer(rows, dtype=bool))
        fold, truth = split.fold[at], dataset.truth[at]
        right = np.column_stack([said[name].label[at] == truth for name in names])

        def report_part(share: float, doing: str, before: int = k) -> None:
            report((before + share) / len(alike), doing)

        try:
            gates = fit_gates(dataset.texts[at], right, fold, progress=report_part)
        except TierError as error:
            found |= dict.fromkeys(names, error)
            continue
        tested = np.searchsorted(split.test, at[fold < 0])
        for name, gate in zip(names, gates, strict=True):
            again = []
            for said_again in gate.again:
                score = np.full(len(split.test), np.nan)
                score[tested] = said_again.confidence
                again.append(Again(np.full(len(score), UNKNOWN), score))
            found[name] = FittedGate(gate.model, spread(gate.answers, at, dataset.n_rows), tuple(again))
    return found


def _check_gate(dataset: Dataset, split: Split, tier: str, scores: Answers, answers: Answers) -> None:
    found = gate_auroc(dataset, split.tune, scores, answers, fold=split.fold)
    if not found.low > CHANCE:
        raise TierError(
            f"The gate for {tier} is left out: on tune its scores tell right from wrong no better than chance (AUROC "
            f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f})."
        )


def gate_auroc(dataset: Dataset, rows: Rows, gate: Answers, answers: Answers, *, fold: Labels) -> Interval:
    """Return how well a gate's scores tell whether a tier's answers are right, on some rows.

    Each fold was scored by a model that did not see it, so its level is the lower, the more often the fold's own rows
    are right. That says nothing of the gate, and is taken out.
    """
    both = rows[~np.isnan(gate.confidence[rows]) & ~np.isnan(answers.confidence[rows])]
    right = answers.label[both] == dataset.truth[both]
    score = logit(np.clip(gate.confidence[both], EPSILON, 1 - EPSILON))
    _, code, times = np.unique(fold[both], return_inverse=True, return_counts=True)
    level = np.bincount(code, score) / times
    return auroc(np.round(score - level[code], DECIMALS), right, group=dataset.group[both])


def spread(answers: Answers, at: Rows, n: int) -> Answers:
    """Lay the answers of some rows out over all; the others were not asked."""
    label = np.full(n, UNKNOWN, dtype=np.int64)
    label[at] = answers.label
    columns = []
    for values in (answers.confidence, answers.cost, answers.latency):
        column = np.full(n, np.nan)
        column[at] = values
        columns.append(column)
    return Answers(label, *columns)


class _Small(NamedTuple):
    fitted: FittedEmbedding
    columns: list[tuple[Tier, Answers]]


def _small_models(
    dataset: Dataset,
    split: Split,
    embedder: Embedder,
    fast: FittedClassifier,
    models: dict[str, LocalModel],
    progress: Progress,
) -> _Small:
    """Fit the embedding tiers, add them to the models, and return them with their columns."""
    assert dataset.texts is not None
    fitted = fit_embedding(
        dataset.texts,
        dataset.truth,
        split.fold,
        n_classes=len(dataset.classes),
        embedder=embedder,
        fast=fast,
        cache=EmbeddingCache(embedder.identity),
        progress=progress,
    )
    taken = {t.name for t in dataset.recorded.tiers}
    # a file may hold recorded answers of the same model: both are shown, and told apart
    name = f"{embedder.name} (fitted here)" if embedder.name in taken else embedder.name
    both = f"{name} + {CLASSIFIER}"
    models[name], models[both] = fitted.model, fitted.averaged
    columns = [
        (Tier(name, "embedding", price=embedder.price), fitted.answers),
        (Tier(both, "embedding", price=embedder.price), fitted.averaged_answers),
    ]
    return _Small(fitted, columns)


def _table(columns: list[tuple[Tier, Answers]], classes: tuple[str, ...]) -> Predictions:
    return Predictions.from_answers([t for t, _ in columns], classes, [a for _, a in columns])
