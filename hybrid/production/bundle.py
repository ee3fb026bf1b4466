"""Bundle: a chosen policy as a reviewable, self-checking zip or folder that loads without running code."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hybrid.errors import BundleError, HybridError
from hybrid.routing.engine import Outcomes, Pattern, Policy, parameters, route
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER, UNKNOWN, Answers, Predictions, Rows, Tier
from hybrid.tiers import KINDS, LocalModel
from hybrid.tiers.llm.packing import MODEL as LLM
from hybrid.tiers.llm.packing import pack_llm, unpack_llm
from hybrid.tiers.llm.tier import LLMTier

SCHEMA_VERSION = 1
GOLDEN_PER_TIER = 20
MAX_MEMBER_BYTES = 500 * 1024 * 1024
EXTRAS = ("support.json",)
EXTERNAL = "external"  # what policy.json calls the model of a tier that the bundle does not hold

_M = TypeVar("_M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


OnFailure = Literal["best_so_far", "unknown"]
"""What is decided where the last tier could not be asked."""


class TierConfig(_Strict):
    """A tier as the bundle stores it.

    `model` names what answers: ``rules``, ``classifier``, ``trained_gate`` or ``heuristic_gate`` ship in the bundle;
    of ``embedding`` and ``embedding_average`` the fitted numbers do, and the embedding model has to be installed or
    reachable; ``llm`` is asked over the network, as `llm` says; ``external`` is supplied when it is loaded.
    `default_confidence` stands in where a model gives none. `files` names its files where another tier of its kind has
    the kind's own name.
    """

    name: str
    kind: str
    price: float = Field(ge=0)
    simulated: bool
    model: str
    default_confidence: float | None = None
    llm: dict[str, Any] | None = None
    files: str | None = None


class PolicyConfig(_Strict):
    """The reviewable part of a bundle: ``policy.json``.

    `on_failure` says what is decided where the last tier could not be asked: the surest answer so far, or nothing.
    """

    schema_version: int
    pattern: str
    parameters: dict[str, Any]
    classes: list[str] = Field(min_length=2)
    tiers: list[TierConfig] = Field(min_length=1)
    on_failure: OnFailure = "best_so_far"

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
        given = {n: _spoken(v, "never", NEVER) if known[n].high == NEVER else v for n, v in given.items()}
        values = {n: tuple(v) if known[n].per_tier else v for n, v in given.items()}
        values |= {n: self._by_code(n, v) for n, v in given.items() if known[n].per_class}
        tiers = tuple(Tier(t.name, t.kind, t.price, t.simulated) for t in self.tiers)
        return Policy(PATTERNS[self.pattern](**values), tiers)

    def _by_code(self, name: str, by_name: Mapping[str, float]) -> tuple[float | None, ...]:
        unknown = [c for c in by_name if c not in self.classes]
        if unknown:
            raise BundleError(f"policy.json: {name} names the class {unknown[0]!r}, which is not among the classes.")
        return tuple(by_name.get(c) for c in self.classes) if by_name else ()


class GoldenRow(_Strict):
    """A text, what the external tiers said of it, and what was decided when the bundle was saved."""

    text: str
    answers: dict[str, tuple[int, float, float, float]]  # tier: label code, confidence, cost, latency
    label: int
    tier: str
    confidence: float
    cost: float


class _Golden(_Strict):
    rows: list[GoldenRow]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What `load` brings back; every golden row was decided again, and alike."""

    config: PolicyConfig
    policy: Policy
    models: dict[str, LocalModel]  # by tier name; the external tiers are not in it
    evidence: dict[str, Any]
    golden: tuple[GoldenRow, ...]
    llms: dict[str, LLMTier] = field(default_factory=dict)  # by tier name; they are asked over the network
    extras: dict[str, bytes] = field(default_factory=dict)  # members that belong to what is built on the policy

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the tiers that the caller has to supply."""
        return tuple(t.name for t in self.config.tiers if t.model == EXTERNAL)


def save(
    *,
    policy: Policy,
    classes: Sequence[str],
    models: Mapping[str, LocalModel],
    texts: Sequence[str],
    recorded: Predictions,
    evidence: Mapping[str, Any],
    llms: Mapping[str, LLMTier] | None = None,
    on_failure: OnFailure = "best_so_far",
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
    on_failure
        See `PolicyConfig`.

    Returns
    -------
    bytes
        A zip. Unpacked into a folder it loads just as well.
    """
    packed = {
        n: pack_llm(model, f"examples-{policy.names.index(n)}.json")
        for n, model in (llms or {}).items()
        if n in policy.names
    }
    config = PolicyConfig(
        schema_version=SCHEMA_VERSION,
        pattern=pattern_name(policy.pattern),
        parameters=by_name(policy.pattern, classes),
        classes=list(classes),
        tiers=[
            TierConfig(
                **asdict(t),
                model=LLM if t.name in packed else models[t.name].kind if t.name in models else EXTERNAL,
                default_confidence=_constant(recorded, t.name),
                llm=packed[t.name][0] if t.name in packed else None,
                files=_prefix(t.name, policy.names, models),
            )
            for t in policy.tiers
        ],
        on_failure=on_failure,
    )
    files: dict[str, bytes] = {"policy.json": config.model_dump_json(indent=2).encode()}
    for tier in config.tiers:
        if tier.model == LLM:
            files |= packed[tier.name][1]
        elif tier.model != EXTERNAL:
            files |= models[tier.name].to_files(tier.files or tier.model)
    local = {n: models[n] for n in policy.names if n in models and models[n].answers_alike}
    golden = _golden_rows(policy, local, texts, recorded)
    files["golden.json"] = _Golden(rows=golden).model_dump_json(indent=1).encode()
    files["evidence.json"] = json.dumps({**evidence, "versions": _versions()}, indent=2, allow_nan=False).encode()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files["manifest.json"] = json.dumps({"sha256": sums}, indent=2).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def load(source: str | Path | bytes) -> Bundle:
    """Read a bundle and prove it: checksums, schema, and every golden row decided again.

    Parameters
    ----------
    source
        Path of a zip or of the folder that it was unpacked into, or a zip's bytes.

    Raises
    ------
    BundleError
        If it is missing, damaged, edited, from a newer version, or decides a golden row differently.
    """
    files = _read_files(source)
    _check_sums(files)
    config = _parse(PolicyConfig, files, "policy.json")
    if config.schema_version != SCHEMA_VERSION:
        raise BundleError(
            f"policy.json has schema version {config.schema_version}, this version reads {SCHEMA_VERSION}: "
            "install the hybrid-tuner that exported it, or export it again."
        )
    try:
        policy = config.policy()
        models = {t.name: _unpack(t, files) for t in config.tiers if t.model not in (EXTERNAL, LLM)}
        llms = {t.name: unpack_llm(t.llm or {}, tuple(config.classes), files) for t in config.tiers if t.model == LLM}
        golden = _parse(_Golden, files, "golden.json").rows
        evidence = json.loads(files["evidence.json"])
    except BundleError:
        raise
    except (HybridError, KeyError, ValueError, OSError, TypeError) as error:
        raise BundleError(f"The bundle is damaged: {error}. Export it again from the dashboard.") from error
    listed = json.loads(files["manifest.json"])["sha256"]  # what is not in it was not checked
    extras = {name: files[name] for name in EXTRAS if name in listed}
    bundle = Bundle(config, policy, models, evidence, tuple(golden), llms, extras)
    _check_golden(bundle)
    return bundle


def _prefix(name: str, names: Sequence[str], models: Mapping[str, LocalModel]) -> str | None:
    """Return what a tier's files are called where an earlier tier has the name of their kind, else None."""
    before = [models[n].kind for n in names[: names.index(name)] if n in models]
    if name not in models or models[name].kind not in before:
        return None
    return f"{models[name].kind}-{len(before)}"


def _unpack(tier: TierConfig, files: Mapping[str, bytes]) -> LocalModel:
    if tier.model not in KINDS:
        raise BundleError(f"policy.json: nothing here is called {tier.model!r}. Upgrade hybrid-tuner or export again.")
    return KINDS[tier.model].from_files(tier.files or tier.model, files)


def by_name(pattern: Pattern, classes: Sequence[str]) -> dict[str, Any]:
    """Return a pattern's parameters as a person reviews them: values of a class under its name."""
    values = dict(parameters(pattern))
    for p in pattern.params():
        if p.per_class:
            own = zip(classes, values[p.name], strict=False)
            values[p.name] = {name: value for name, value in own if value is not None}
        if p.high == NEVER:
            values[p.name] = _spoken(values[p.name], NEVER, "never")
    return values


def _spoken(value: Any, old: float | str, new: float | str) -> Any:
    """Return a parameter, be it one value, a list or a mapping of them, with one value said otherwise."""
    if isinstance(value, Mapping):
        return {name: _spoken(each, old, new) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_spoken(each, old, new) for each in value]
    return new if value == old else value


def pattern_name(pattern: Pattern) -> str:
    """Return the name under which a pattern is registered."""
    return next(name for name, kind in PATTERNS.items() if kind is type(pattern))


def decide(
    policy: Policy, models: Mapping[str, LocalModel], texts: Sequence[str], external: Mapping[str, Answers]
) -> Outcomes:
    """Decide texts with the local models, and with given answers of the external tiers (one per text)."""

    def ask(name: str, rows: Rows) -> Answers:
        if name in models:
            return models[name].answer([texts[int(i)] for i in rows])
        return external[name].take(rows)

    return route(policy, ask, len(texts))


def _golden_rows(
    policy: Policy, models: Mapping[str, LocalModel], texts: Sequence[str], recorded: Predictions
) -> list[GoldenRow]:
    external = [n for n in policy.names if n not in models]
    columns = {n: recorded.answers(recorded.index(n)) for n in external}
    answered = np.all([~np.isnan(a.confidence) for a in columns.values()] or [np.ones(len(texts), bool)], axis=0)
    rows = np.flatnonzero(answered)
    # an even walk through the rows, at most this many, leaves enough of each tier
    rows = rows[:: max(1, len(rows) // 500)]
    given = {n: a.take(rows) for n, a in columns.items()}
    sample = [texts[int(i)] for i in rows]
    o = decide(policy, models, sample, given)
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
    rows = bundle.golden
    if not rows:
        return
    given = {
        name: Answers(*(np.array(column) for column in zip(*(r.answers[name] for r in rows), strict=True)))
        for name in rows[0].answers
    }
    o = decide(bundle.policy, {n: m for n, m in bundle.models.items() if n not in given}, [r.text for r in rows], given)
    for i, row in enumerate(rows):
        now = (int(o.label[i]), bundle.policy.names[int(o.tier[i])])
        if now != (row.label, row.tier) or abs(o.confidence[i] - row.confidence) > 1e-6:
            raise BundleError(
                f"Golden row {i + 1} is decided differently here: {_name(bundle, row.label)} by {row.tier} when it was "
                f"exported, {_name(bundle, now[0])} by {now[1]} now. Compare the versions in evidence.json with those "
                "installed here, or export the bundle again on this machine."
            )


def _name(bundle: Bundle, code: int) -> str:
    return repr(bundle.config.classes[code]) if code != UNKNOWN else "unknown"


def _read_files(source: str | Path | bytes) -> dict[str, bytes]:
    if isinstance(source, bytes):
        return _unzip(source, "The bundle")
    path = Path(source)
    if path.is_dir():
        return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file()}
    try:
        return _unzip(path.read_bytes(), str(source))
    except FileNotFoundError:
        raise BundleError(f"There is no bundle at {str(source)!r}: check the path.") from None
    except OSError as error:
        raise BundleError(f"{str(source)!r} cannot be read: {error.strerror}.") from error


def _unzip(content: bytes, where: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_MEMBER_BYTES:
                    raise BundleError(f"{where}: {member.filename} unpacks to more than 500 MB; this is not a bundle.")
            return {m.filename: archive.read(m) for m in archive.infolist() if not m.is_dir()}
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise BundleError(
            f"{where} is not a zip or is damaged ({error}). Download it again from the Export page."
        ) from error


def _check_sums(files: Mapping[str, bytes]) -> None:
    again = "Export it again from the dashboard."
    if "manifest.json" not in files:
        raise BundleError(f"The bundle has no manifest.json, so it is not whole. {again}")
    try:
        sums = dict(json.loads(files["manifest.json"])["sha256"])
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"manifest.json is damaged. {again}") from None
    for name in ("policy.json", "golden.json", "evidence.json", *sums):
        if name not in files:
            raise BundleError(f"The bundle lacks {name}, so it is not whole. {again}")
        if sums.get(name) != hashlib.sha256(files[name]).hexdigest():
            raise BundleError(
                f"{name} was changed after the export (its checksum differs). A bundle is not edited by hand, because "
                f"its evidence would no longer hold: set the value in the dashboard and export again."
            )


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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("hybrid-tuner", "numpy", "scipy", "scikit-learn", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
