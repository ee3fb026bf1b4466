"""Bundle: a chosen policy as a reviewable, self-checking zip or folder that loads without running code."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, ValidationError

from hybrid.errors import BundleError
from hybrid.production.archive import AGAIN, MANIFEST, SIGNATURE, pack_files, read_files, read_json
from hybrid.production.checking import check_confidence, check_llm, check_model, check_names
from hybrid.production.reference import Reference, packed, read_reference
from hybrid.production.signature import check_signature
from hybrid.routing.engine import Outcomes, Pattern, Policy, Scope, parameters, route
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER, NONE, NONE_LABEL, UNKNOWN, Answers, Floats, Predictions, Rows, Tier
from hybrid.tiers import KINDS, LocalModel
from hybrid.tiers.confidence import LearnedConfidence, Reader
from hybrid.tiers.llm.packing import MODEL as LLM
from hybrid.tiers.llm.packing import pack_llm, unpack_llm
from hybrid.tiers.llm.tier import LLMTier

SCHEMA_VERSION = 3  # 1 knew no prices of What if, 2 no reference
READABLE = (1, 2, 3)
GOLDEN_PER_TIER = 20
MOST_GOLDEN, MOST_CLASSES, MOST_TIERS = 10_000, 20_000, 100
EXTRAS = ("support.json",)
EXTERNAL = "external"  # what policy.json calls the model of a tier that the bundle does not hold

_M = TypeVar("_M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


OnFailure = Literal["best_so_far", "unknown"]
"""What is decided where the last tier could not be asked."""


class ReaderConfig(_Strict):
    """A model of the bundle that a learned confidence reads: its kind, and what its files are called."""

    model: str
    files: str


class ConfidenceConfig(_Strict):
    """What a tier's learned confidence rests on."""

    file: str
    rests_on: list[str]
    reader: ReaderConfig | None = None


class TierConfig(_Strict):
    """A tier as the bundle stores it.

    `model` names what answers: ``rules``, ``classifier``, ``trained_gate`` or ``heuristic_gate`` ship in the bundle;
    of ``embedding`` and ``embedding_average`` the fitted numbers do, and the embedding model has to be installed or
    reachable; ``llm`` is asked over the network, as `llm` says; ``external`` is supplied when it is loaded.
    `default_confidence` stands in where a model gives none. `files` names its files where another tier of its kind has
    the kind's own name. `cost_factor` scales, and `cost_fixed` replaces, what an answer costs: a price that was set
    under What if does the same here as there. `confidence` says that what the model says of itself is replaced by what
    was learned. `picks_from` is the tier whose likeliest answers a person is shown.
    """

    name: str
    kind: str
    price: StrictFloat = Field(ge=0)
    simulated: StrictBool
    model: str
    default_confidence: StrictFloat | None = Field(default=None, ge=0, le=1)
    llm: dict[str, Any] | None = None
    files: str | None = None
    cost_factor: StrictFloat | None = Field(default=None, ge=0)
    cost_fixed: StrictFloat | None = Field(default=None, ge=0)
    confidence: ConfidenceConfig | None = None
    picks_from: str = ""

    def priced(self, answers: Answers) -> Answers:
        """Return answers of a model at the price that was set."""
        if self.cost_fixed is not None:
            return replace(answers, cost=np.full(len(answers.cost), self.cost_fixed))
        return answers if self.cost_factor is None else replace(answers, cost=answers.cost * self.cost_factor)


class ScopeConfig(_Strict):
    """What is set aside before anybody is asked; the first tier scores how far a text is from anything seen.

    Texts whose score is at or above `threshold` go to a person where the last tier is one. Else they are answered
    `answer`: a class, or None for "none of these".
    """

    threshold: StrictFloat | Literal["never"]
    answer: str | None = None


class PolicyConfig(_Strict):
    """The reviewable part of a bundle: ``policy.json``.

    `on_failure` says what is decided where the last tier could not be asked: the surest answer so far, or nothing.
    """

    schema_version: StrictInt
    pattern: str
    parameters: dict[str, Any]
    classes: list[str] = Field(min_length=2, max_length=MOST_CLASSES)
    tiers: list[TierConfig] = Field(min_length=1, max_length=MOST_TIERS)
    on_failure: OnFailure = "best_so_far"
    scope: ScopeConfig | None = None

    def policy(self) -> Policy:
        """Return the policy that this describes.

        Raises
        ------
        BundleError
            If the pattern or one of its parameters is not known here.
        """
        if self.pattern not in PATTERNS:
            raise BundleError(
                f"policy.json: the pattern {self.pattern!r} is not one of {', '.join(PATTERNS)}. "
                "It may come from a newer version: upgrade hybrid-tuner."
            )
        known = {p.name: p for p in PATTERNS[self.pattern].params()}
        given = {p.name: {} for p in known.values() if p.per_class} | self.parameters
        if set(given) != set(known):
            raise BundleError(
                f"policy.json: {self.pattern} has the parameters {', '.join(known)}, but the file gives "
                f"{', '.join(self.parameters) or 'none'}. Export the bundle again."
            )
        for n, v in given.items():
            wanted = list if known[n].per_tier else dict if known[n].per_class else object
            if not isinstance(v, wanted) or isinstance(v, bool):
                raise BundleError(f"policy.json: {self.pattern}'s {n} = {str(v)[:100]} is not what it takes. {AGAIN}")
        given = {n: spoken(v, "never", NEVER) if known[n].high == NEVER else v for n, v in given.items()}
        values = {n: tuple(v) if known[n].per_tier else v for n, v in given.items()}
        values |= {n: self._by_code(n, v) for n, v in given.items() if known[n].per_class}
        tiers = tuple(Tier(t.name, t.kind, t.price, t.simulated, picks_from=t.picks_from) for t in self.tiers)
        scope = None if self.scope is None else scope_from(self.scope.model_dump(), self.classes)
        return Policy(PATTERNS[self.pattern](**values), tiers, scope)

    def _by_code(self, name: str, by_name: Mapping[str, float]) -> tuple[float | None, ...]:
        unknown = [c for c in by_name if c not in self.classes]
        if unknown:
            raise BundleError(f"policy.json: {name} names the class {unknown[0]!r}, which is not among the classes.")
        return tuple(by_name.get(c) for c in self.classes) if by_name else ()


class GoldenRow(_Strict):
    """A text, what the external tiers said of it, and what was decided when the bundle was saved."""

    text: str
    # tier: label code, confidence, cost, latency
    answers: dict[str, tuple[StrictInt, StrictFloat, StrictFloat, StrictFloat]]
    label: StrictInt
    tier: str
    confidence: StrictFloat
    cost: StrictFloat


class _Golden(_Strict):
    rows: list[GoldenRow] = Field(max_length=MOST_GOLDEN)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What `load_bundle` brings back; every golden row was decided again, and alike."""

    config: PolicyConfig
    policy: Policy
    models: dict[str, LocalModel]  # by tier name; the external tiers are not in it
    evidence: dict[str, Any]
    golden: tuple[GoldenRow, ...]
    llms: dict[str, LLMTier] = field(default_factory=dict)  # by tier name; they are asked over the network
    confidences: dict[str, LearnedConfidence] = field(default_factory=dict)  # by tier name; instead of their own
    extras: dict[str, bytes] = field(default_factory=dict)  # members that belong to what is built on the policy
    reference: Reference | None = None  # what labelled rows looked like; bundles of before have none

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the tiers that the caller has to supply."""
        return tuple(t.name for t in self.config.tiers if t.model == EXTERNAL)


def save_bundle(
    *,
    policy: Policy,
    classes: Sequence[str],
    models: Mapping[str, LocalModel],
    texts: Sequence[str],
    recorded: Predictions,
    evidence: Mapping[str, Any],
    llms: Mapping[str, LLMTier] | None = None,
    confidences: Mapping[str, LearnedConfidence] | None = None,
    on_failure: OnFailure = "best_so_far",
    measured: Mapping[str, Floats] | None = None,
    reference: Reference | None = None,
) -> bytes:
    """Pack a policy with everything that decides with it.

    Parameters
    ----------
    policy
        What was chosen.
    models
        The fitted models by tier name; a tier of the policy without one becomes external.
    texts, recorded
        Rows to take golden rows from, and what each tier said of them (only external tiers are read);
        rows that an external tier has not answered are passed over.
    evidence
        What the choice rests on; must be JSON. Versions are added.
    llms
        LLM tiers by name, which the bundle can ask itself; their keys are never in it.
    confidences
        By tier name: what was learned to replace a tier's own confidence by, which stands in `recorded`.
    on_failure
        See `PolicyConfig`.
    measured
        By tier whose price was set under What if: what its answers about these rows cost before, while `recorded` is at
        that price. The models that the bundle asks itself then cost in production what they cost in the dashboard.
    reference
        What production will be compared with, see `hybrid.production.reference`; None: there is nothing.

    Returns
    -------
    bytes
        A zip. Unpacked into a folder it loads just as well.

    Raises
    ------
    BundleError
        If no row was answered by every tier that the bundle cannot ask by itself: nothing would prove it.
    """
    asked = {
        n: pack_llm(model, f"examples-{policy.names.index(n)}.json")
        for n, model in (llms or {}).items()
        if n in policy.names
    }
    learned = {n: c for n, c in (confidences or {}).items() if n in policy.names}
    shelf = _Shelf()
    config = PolicyConfig(
        schema_version=SCHEMA_VERSION,
        pattern=pattern_name(policy.pattern),
        parameters=by_name(policy.pattern, classes),
        classes=list(classes),
        tiers=[
            TierConfig(
                name=t.name,
                kind=t.kind,
                price=t.price,
                simulated=t.simulated,
                model=LLM if t.name in asked else models[t.name].kind if t.name in models else EXTERNAL,
                default_confidence=_constant(recorded, t.name),
                llm=asked[t.name][0] if t.name in asked else None,
                files=shelf.put(models[t.name]) if t.name in models else None,
                confidence=_describe(learned[t.name], f"confidence-{j}", shelf) if t.name in learned else None,
                picks_from=t.picks_from,
                **_terms(recorded, measured, t.name, held=t.name in asked or t.name in models),
            )
            for j, t in enumerate(policy.tiers)
        ],
        on_failure=on_failure,
        scope=None if policy.scope is None else ScopeConfig(**plain_scope(policy.scope, classes)),
    )
    files: dict[str, bytes] = {"policy.json": config.model_dump_json(indent=2).encode()}
    for tier in config.tiers:
        if tier.model == LLM:
            files |= asked[tier.name][1]
        if tier.confidence is not None:
            files |= learned[tier.name].to_files(tier.confidence.file)
    files |= shelf.files()
    local = {n: models[n] for n in policy.names if n in models and models[n].answers_alike}
    golden = _golden_rows(config, policy, local, texts, recorded, learned)
    files["golden.json"] = _Golden(rows=golden).model_dump_json(indent=1).encode()
    files["evidence.json"] = json.dumps({**evidence, "versions": _versions()}, indent=2, allow_nan=False).encode()
    if reference is not None:
        files |= packed(reference)
    return pack_files(files)


def load_bundle(source: str | Path | bytes, *, trust: Sequence[str] = ()) -> Bundle:
    """Read a bundle and prove it: checksums, schema, every number, and every golden row decided again.

    Nothing in it is run, and nobody is asked: an endpoint's and an LLM's answers to the golden rows are those that were
    stored.

    Parameters
    ----------
    source
        Path of a zip or of the folder that it was unpacked into, or a zip's bytes.
    trust
        Public keys, as `hybrid.production.signature` reads them: the bundle must be signed with one of them.

    Raises
    ------
    BundleError
        If it is missing, damaged, edited, too large, from a newer version, not signed by whom you trust, or decides a
        golden row differently.
    """
    files = _Read(read_files(source))
    if trust:
        check_signature(files, trust)
    config = _parse(PolicyConfig, files, "policy.json")
    if config.schema_version not in READABLE:
        raise BundleError(
            f"policy.json has schema version {config.schema_version}, this version reads {SCHEMA_VERSION}: "
            "install the hybrid-tuner that exported it, or export it again."
        )
    check_names("classes", config.classes)
    check_names("tiers", [t.name for t in config.tiers])
    golden = _parse(_Golden, files, "golden.json").rows
    evidence = read_json(files, "evidence.json")
    if not isinstance(evidence, dict):
        raise BundleError(f"evidence.json is damaged: it is no object. {AGAIN}")
    try:
        policy = config.policy()
        _check_picked(config)
        unpacked: dict[tuple[str, str], LocalModel] = {}
        models = {
            t.name: _unpack(t.model, t.files or t.model, files, unpacked)
            for t in config.tiers
            if t.model not in (EXTERNAL, LLM)
        }
        confidences = {
            t.name: LearnedConfidence.from_files(
                t.confidence.file, files, reader=_reader(t.confidence.reader, files, unpacked)
            )
            for t in config.tiers
            if t.confidence is not None
        }
        llms = {t.name: unpack_llm(t.llm or {}, tuple(config.classes), files) for t in config.tiers if t.model == LLM}
        for name, model in models.items():
            check_model(name, model, len(config.classes))
        for name, llm in llms.items():
            check_llm(name, llm)
        for name, confidence in confidences.items():
            check_confidence(name, confidence, len(config.classes))
        extras = {name: files[name] for name in EXTRAS if name in files}
        reference = read_reference(files, len(config.classes))
        bundle = Bundle(config, policy, models, evidence, tuple(golden), llms, confidences, extras, reference)
        if files.unread:
            raise BundleError(f"The bundle holds {files.unread[0]}, which nothing in it uses. {AGAIN}")
        _check_golden(bundle)
    except BundleError:
        raise
    except Exception as error:  # a stranger's values, wherever they lead: said, and never carried on with
        said = str(error) or type(error).__name__
        raise BundleError(f"The bundle is damaged: {said.rstrip('.')}. Export it again from the dashboard.") from error
    return bundle


def _check_picked(config: PolicyConfig) -> None:
    """Refuse a person who picks from the answers of a model that has no likeliest ones in the bundle."""
    models = {t.name: KINDS.get(t.model) for t in config.tiers}
    for tier in config.tiers:
        if tier.picks_from and not hasattr(models.get(tier.picks_from), "answer_likely"):
            raise BundleError(
                f"policy.json: {tier.name!r} picks from the likeliest answers of {tier.picks_from!r}, of which the "
                f"bundle knows none. {AGAIN}"
            )


class _Read(Mapping[str, bytes]):
    """The files of a bundle, and which of them nobody looked at."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._seen = {MANIFEST, SIGNATURE}

    def __getitem__(self, name: str) -> bytes:
        self._seen.add(name)
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def unread(self) -> list[str]:
        return [name for name in self._files if name not in self._seen]


class _Shelf:
    """Which models lie in a bundle, each once, and what their files are called."""

    def __init__(self) -> None:
        self._models: dict[str, LocalModel] = {}

    def put(self, model: LocalModel) -> str:
        """Return what the model's files are called: like its kind, with a number where that is taken."""
        for name, one in self._models.items():
            if one is model:
                return name
        name = model.kind if model.kind not in self._models else f"{model.kind}-{len(self._models)}"
        self._models[name] = model
        return name

    def files(self) -> dict[str, bytes]:
        """Return all files."""
        return {name: content for prefix, m in self._models.items() for name, content in m.to_files(prefix).items()}


def _describe(learned: LearnedConfidence, file: str, shelf: _Shelf) -> ConfidenceConfig:
    reader = learned.reader
    return ConfidenceConfig(
        file=file,
        rests_on=list(learned.rests_on),
        reader=None if reader is None else ReaderConfig(model=reader.kind, files=shelf.put(reader)),
    )


def _unpack(
    kind: str, name: str, files: Mapping[str, bytes], unpacked: dict[tuple[str, str], LocalModel]
) -> LocalModel:
    """Return a model of the bundle; one that is read twice is unpacked once."""
    if kind not in KINDS:
        raise BundleError(f"policy.json: nothing here is called {kind!r}. Upgrade hybrid-tuner or export again.")
    if (kind, name) not in unpacked:
        unpacked[kind, name] = KINDS[kind].from_files(name, files)
    return unpacked[kind, name]


def _reader(
    config: ReaderConfig | None, files: Mapping[str, bytes], unpacked: dict[tuple[str, str], LocalModel]
) -> Reader | None:
    if config is None:
        return None
    found = _unpack(config.model, config.files, files, unpacked)
    if not hasattr(found, "probabilities"):
        raise BundleError(f"policy.json: {config.model!r} has no probabilities that a confidence could read.")
    if not found.answers_alike:
        raise BundleError(f"policy.json: a confidence reads {config.model!r}, which asks a server: it must run here.")
    return found  # type: ignore[return-value]  # it has them


def by_name(pattern: Pattern, classes: Sequence[str]) -> dict[str, Any]:
    """Return a pattern's parameters as a person reviews them: values of a class under its name."""
    values = dict(parameters(pattern))
    for p in pattern.params():
        if p.per_class:
            own = zip(classes, values[p.name], strict=False)
            values[p.name] = {name: value for name, value in own if value is not None}
        if p.high == NEVER:
            values[p.name] = spoken(values[p.name], NEVER, "never")
    return values


def plain_scope(scope: Scope, classes: Sequence[str]) -> dict[str, Any]:
    """Return a scope as JSON values; `scope_from` reads it back."""
    answer = None if scope.label == NONE else classes[scope.label]
    return {"threshold": spoken(scope.threshold, NEVER, "never"), "answer": answer}


def scope_from(stored: Mapping[str, Any], classes: Sequence[str]) -> Scope:
    """Return the scope that `plain_scope` wrote.

    Raises
    ------
    BundleError
        If its answer is not one of the classes.
    """
    answer = stored["answer"]
    if answer is not None and answer not in classes:
        raise BundleError(f"What is out of scope is answered {answer!r}, which is not among the classes.")
    label = NONE if answer is None else list(classes).index(answer)
    return Scope(spoken(stored["threshold"], "never", NEVER), label)


def spoken(value: Any, old: float | str, new: float | str) -> Any:
    """Return a parameter, be it one value, a list or a mapping of them, with one value said otherwise."""
    if isinstance(value, Mapping):
        return {name: spoken(each, old, new) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [spoken(each, old, new) for each in value]
    return new if value == old else value


def pattern_name(pattern: Pattern) -> str:
    """Return the name under which a pattern is registered."""
    return next(name for name, kind in PATTERNS.items() if kind is type(pattern))


def decide(
    bundle: PolicyConfig,
    policy: Policy,
    models: Mapping[str, LocalModel],
    texts: Sequence[str],
    external: Mapping[str, Answers],
    confidences: Mapping[str, LearnedConfidence],
) -> Outcomes:
    """Decide texts with the local models, and with given answers of the external tiers (one per text)."""
    tiers = {t.name: t for t in bundle.tiers}

    def ask(name: str, rows: Rows) -> Answers:
        asked = [texts[int(i)] for i in rows]
        if name in models:
            return tiers[name].priced(models[name].answer(asked))
        said = external[name].take(rows)
        return confidences[name].answer(asked, said) if name in confidences else said

    return route(policy, ask, len(texts))


def _golden_rows(
    config: PolicyConfig,
    policy: Policy,
    models: Mapping[str, LocalModel],
    texts: Sequence[str],
    recorded: Predictions,
    confidences: Mapping[str, LearnedConfidence],
) -> list[GoldenRow]:
    external = [n for n in policy.names if n not in models]
    columns = {n: recorded.answers(recorded.index(n)) for n in external}
    answered = np.all([~np.isnan(a.confidence) for a in columns.values()] or [np.ones(len(texts), bool)], axis=0)
    rows = np.flatnonzero(answered)
    if not len(rows):
        raise BundleError(
            f"No row was answered by all of {', '.join(external) or 'the tiers'}: nothing would prove the bundle when "
            "it is loaded. Choose tiers that answered the same rows, or record more answers."
        )
    # an even walk through the rows, at most this many, leaves enough of each tier
    rows = rows[:: max(1, len(rows) // 500)]
    given = {n: a.take(rows) for n, a in columns.items()}
    sample = [texts[int(i)] for i in rows]
    o = decide(config, policy, models, sample, given, confidences)
    chosen = np.concatenate([np.flatnonzero(o.tier == j)[:GOLDEN_PER_TIER] for j in range(len(policy.tiers))])
    return [
        GoldenRow(
            text=sample[int(i)],
            answers={
                n: (int(a.label[i]), float(a.confidence[i]), float(a.cost[i]), float(a.latency[i]))
                for n, a in given.items()
            },
            label=int(o.label[i]),
            tier=policy.names[int(o.tier[i])],
            confidence=float(o.confidence[i]),
            cost=float(o.cost[i]),
        )
        for i in np.sort(chosen)
    ]


def _check_golden(bundle: Bundle) -> None:
    rows, names = bundle.golden, bundle.policy.names
    if not rows:
        raise BundleError(f"golden.json is empty: nothing proves this bundle. {AGAIN}")
    local = {n: m for n, m in bundle.models.items() if m.answers_alike}
    given = [n for n in names if n not in local]  # what the others said is stored: loading asks nobody
    n_classes = len(bundle.config.classes)
    for i, row in enumerate(rows, 1):
        codes = [row.label, *(a[0] for a in row.answers.values())]
        if set(row.answers) != set(given) or row.tier not in names or not all(NONE <= c < n_classes for c in codes):
            raise BundleError(f"Golden row {i} names tiers or classes that the policy does not have. {AGAIN}")
    answers = {n: Answers(*(np.array(c) for c in zip(*(r.answers[n] for r in rows), strict=True))) for n in given}
    o = decide(bundle.config, bundle.policy, local, [r.text for r in rows], answers, bundle.confidences)
    for i, row in enumerate(rows):
        now = (int(o.label[i]), names[int(o.tier[i])])
        if now != (row.label, row.tier) or abs(o.confidence[i] - row.confidence) > 1e-6:
            raise BundleError(
                f"Golden row {i + 1} is decided differently here: {_name(bundle, row.label)} by {row.tier} when it was "
                f"exported, {_name(bundle, now[0])} by {now[1]} now. Compare the versions in evidence.json with those "
                "installed here, or export the bundle again on this machine."
            )
        if not np.isclose(o.cost[i], row.cost, rtol=1e-6, atol=1e-12):
            raise BundleError(
                f"Golden row {i + 1} costs ${o.cost[i]:.6g} here and cost ${row.cost:.6g} when it was exported: a "
                f"price was changed. {AGAIN}"
            )


def _name(bundle: Bundle, code: int) -> str:
    return "unknown" if code == UNKNOWN else NONE_LABEL if code == NONE else repr(bundle.config.classes[code])


def _parse(model: type[_M], files: Mapping[str, bytes], name: str) -> _M:
    try:
        return model.model_validate_json(files[name])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top"
        raise BundleError(f"{name}, {where}: {first['msg']}. Export the bundle again.") from error


def _constant(recorded: Predictions, name: str) -> float | None:
    """Return the confidence that a tier gave with every known answer, if it was always the same one."""
    if name not in [t.name for t in recorded.tiers]:
        return None
    column = recorded.answers(recorded.index(name))
    values = np.unique(column.confidence[column.label != UNKNOWN])
    return float(values[0]) if len(values) == 1 else None


def _terms(recorded: Predictions, measured: Mapping[str, Floats] | None, name: str, *, held: bool) -> dict[str, Any]:
    """Return how a price that was set under What if changes what each answer costs; nothing where none was."""
    if measured is None or name not in measured or not held:
        return {}
    before, now = measured[name], recorded.answers(recorded.index(name)).cost
    known = np.flatnonzero(np.isfinite(before) & np.isfinite(now))
    if not len(known) or (before[known] == now[known]).all():
        return {}
    most = known[before[known].argmax()]
    return {"cost_factor": float(now[most] / before[most])} if before[most] else {"cost_fixed": float(now[most])}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("hybrid-tuner", "numpy", "scipy", "scikit-learn", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
