"""Project: a study as a folder; what was written last is whole, whenever the machine stops.

A folder holds ``project.json`` (terms, policy, pins, what was typed) and one folder of data that it names: rows as
Parquet, columns as JSON, every tier's answers and the fitted models as plain numbers. Data are written into a folder
of their own and named last; ``project.json`` is replaced in one step. So a reader finds the old state or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.notes import Note
from hybrid.data.read import strings
from hybrid.data.split import Split
from hybrid.errors import HybridError, StudyError
from hybrid.metrics.auroc import Worth
from hybrid.metrics.summary import Interval
from hybrid.routing.table import UNKNOWN, Answers, Predictions, Tier
from hybrid.study.answers import AnsweredLLM
from hybrid.study.evidence import LEARNS, Recording, TierConfidence, gate_for
from hybrid.study.plain import columns_from, plain_columns, plain_policy, policy_from
from hybrid.study.promises import Certified, Suggested, plain_promise, promise_from
from hybrid.study.study import Pin, Study
from hybrid.study.terms import Terms
from hybrid.study.tier_columns import Gate, NoGate, TierColumns
from hybrid.tiers import KINDS, LocalModel
from hybrid.tiers.calibration import GRADERS, Again
from hybrid.tiers.confidence import FittedConfidence, LearnedConfidence
from hybrid.tiers.embedders import Embedder, EndpointEmbedder, MiniLM, is_installed
from hybrid.tiers.gate import NO_WORDS, KeyWords, TrainedGate
from hybrid.tiers.llm.packing import pack_llm, unpack_llm
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.rules import Edits
from hybrid.tiers.scope import FittedScope

FORMAT = 1
FILE, ROWS, COLUMNS, ANSWERS = "project.json", "rows.parquet", "columns.json", "answers.npz"
NONE = "There is no such project here: it was deleted, or it is kept on another machine."
YOUNG = 600.0  # seconds that nobody takes to write a project
VARIABLE = "HYBRID_PROJECTS_DIR"  # names the folder of all projects; unset: the user's data folder of this system
ID = re.compile(r"[0-9a-f]{32}")  # 128 random bits: who does not know it does not find it


def projects_folder() -> Path:
    """Return the folder that holds this user's projects; it need not exist yet."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    import platformdirs  # its place differs between systems

    return Path(platformdirs.user_data_dir("hybrid-tuner", appauthor=False)) / "projects"


def new_id() -> str:
    """Return a random name for a project."""
    return secrets.token_hex(16)


def checked(project: str) -> str:
    """Return a project's name.

    Raises
    ------
    StudyError
        If it is not one that `new_id` makes: it comes out of a link.
    """
    if not ID.fullmatch(project):
        raise StudyError("The link names no project: 32 digits and letters from a to f are needed. Copy it again.")
    return project


def folder_of(project: str) -> Path:
    """Return a project's folder; see `checked`."""
    return projects_folder() / checked(project)


def holds_one(folder: Path) -> bool:
    """Whether a folder holds a project."""
    return (folder / FILE).is_file()


def id_of(folder: Path) -> str:
    """Return the id that opens a folder in the dashboard; a folder elsewhere gets a link among this user's projects.

    Raises
    ------
    StudyError
        If there is no project in it, or the link cannot be made.
    """
    if not holds_one(folder):
        raise StudyError(f"There is no project in {str(folder)!r}: make one with hybrid fit tickets.csv --project …")
    there, every = folder.resolve(), projects_folder()
    try:
        every.mkdir(parents=True, exist_ok=True, mode=0o700)
        for known in every.iterdir():
            if ID.fullmatch(known.name) and known.resolve() == there:
                return known.name
        name = new_id()
        (every / name).symlink_to(there, target_is_directory=True)
    except OSError as error:
        raise StudyError(
            f"The project cannot be named in {str(every)!r} ({error.strerror or error}): set {VARIABLE} to a folder "
            "that can be written."
        ) from error
    return name


@dataclass(frozen=True, slots=True)
class Kept:
    """A project as a list shows it; `saved` in seconds since 1970."""

    id: str
    name: str
    rows: int
    saved: float


def recent(most: int = 8) -> list[Kept]:
    """Return this user's projects, the latest first."""
    found = []
    with contextlib.suppress(OSError):
        for folder in projects_folder().iterdir():
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                if ID.fullmatch(folder.name):
                    stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
                    found.append(Kept(folder.name, str(stored["name"]), int(stored["rows"]), float(stored["saved"])))
    return sorted(found, key=lambda p: -p.saved)[:most]


def forget(project: str) -> None:
    """Delete a project and everything in it; no error where it is gone already.

    Of a folder that the user named, what is not part of the project stays.
    """
    folder = folder_of(project)
    with contextlib.suppress(FileNotFoundError):  # first what makes it one, so that no half of it is ever opened
        (folder / FILE).unlink()
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        for data in folder.glob("data-*"):
            shutil.rmtree(data, ignore_errors=True)
        folder.resolve().rmdir()  # fails where something else is in it
    with contextlib.suppress(OSError):
        folder.unlink()


def save(study: Study, folder: Path) -> None:
    """Keep a study in a folder; what did not change since is not written again.

    Raises
    ------
    StudyError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = data_name(study)
        if not (folder / data).is_dir():
            write_data(study, folder, data)
        stored = json.loads(json.dumps(plain_study(study, data)))  # as it is read again: lists, no tuples
        before = _stored(folder)
        if before is None or {k: v for k, v in before.items() if k != "saved"} != stored:
            _replace(folder / FILE, json.dumps({**stored, "saved": time.time()}, indent=1).encode())
        _clean(folder, data, before)
    except OSError as error:
        raise StudyError(f"The project cannot be kept in {str(folder)!r}: {error.strerror or error}.") from error


def open_folder(folder: Path) -> Study:
    """Return the study that is kept in a folder.

    Raises
    ------
    StudyError
        If there is none, or it cannot be read here.
    """
    stored = _stored(folder)
    if stored is None:
        raise StudyError(NONE)
    return opened(stored, folder / str(stored.get("data")))


def opened(stored: Mapping[str, Any], data: Path) -> Study:
    """Return the study of a state and a folder of data; see `open_folder`."""
    if stored.get("format") != FORMAT:
        raise StudyError(
            f"The project has the format {stored.get('format')!r}, and this version reads {FORMAT}: open it with the "
            "version of hybrid-tuner that wrote it."
        )
    try:
        return _read(stored, data)
    except HybridError as error:
        raise StudyError(f"The project {stored.get('name')!r} cannot be opened: {error}") from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StudyError(
            f"The project {stored.get('name')!r} is damaged ({type(error).__name__}: {error}): load its file again."
        ) from error


def _stored(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _clean(folder: Path, data: str, before: Mapping[str, Any] | None) -> None:
    """Delete what is not named any more, and what killed processes left half-written."""
    named = None if before is None else before.get("data")
    for old in folder.iterdir():
        half = old.name.startswith(f"{FILE}.") and old.name.endswith(".part")
        if not half and (old.name == data or not old.name.startswith("data-")):
            continue
        with contextlib.suppress(OSError):  # another process cleans as well
            # it may be writing one just now, so young ones stay
            if old.name == named or time.time() - old.stat().st_mtime > YOUNG:
                old.unlink() if half else shutil.rmtree(old, ignore_errors=True)


def plain_study(study: Study, data: str) -> dict[str, Any]:
    """Return a study without its data, as JSON takes it; `data` names those."""
    fitted = study.fitted is not None
    classes = study.classes if fitted else ()
    return {
        "format": FORMAT,
        "name": study.name,
        "rows": len(study.table),
        "data": data,
        "columns": plain_columns(study.columns),
        "terms": study.terms.plain(),
        "policy": plain_policy(study.policy, classes) if fitted and study.chosen and study.policy else None,
        "pins": [[p.name, plain_policy(p.policy, classes)] for p in study.pins],
        "form": study.form,
        "suggested": plain_promise(study.suggested, classes),
        "certified": plain_promise(study.certified, classes),
    }


def data_name(study: Study) -> str:
    """Return a name that tells these rows and answers from any other."""
    if study.fitted is not None:
        told = " ".join((study.key, *(f"scope {out!r}" for out in study.fitted.scopes)))
    else:
        table = study.table
        told = repr((study.name, list(table.columns), table.shape, id(table), study.columns))
    return f"data-{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def write_data(study: Study, folder: Path, name: str) -> None:
    """Write a study's data into a folder of that name, whole or not at all."""
    half = folder / f"data-{secrets.token_hex(8)}.part"
    half.mkdir(mode=0o700)
    study.table.to_parquet(half / ROWS, index=False)
    said: dict[str, Any] = {
        "notes": [asdict(n) for n in study.joined],
        "embedder": _plain_embedder(study.embedder),
        "edits": [sorted(study.edits.removed), list(study.edits.added)],
        "key_words": study.key_words,
        "seconds": study.seconds,
        "fitted": None,
        "llms": [],
    }
    arrays: dict[str, np.ndarray] = {}
    if study.fitted is not None:
        said["fitted"] = _write_fitted(study.fitted, half, arrays)
        said["llms"] = [_write_llm(one, i, half, arrays) for i, one in enumerate(study.llms)]
        said["learned"] = _write_learned(study.answers, half, arrays)
        said["gates"] = _write_gates(study.answers, half, arrays)
        np.savez(half / ANSWERS, **arrays)  # type: ignore[arg-type]
    (half / COLUMNS).write_text(json.dumps(said), encoding="utf-8")
    for path in half.iterdir():
        _sync(path)
    _sync(half)
    with contextlib.suppress(OSError):  # another process wrote the same data first
        half.rename(folder / name)
    shutil.rmtree(half, ignore_errors=True)
    _sync(folder)


def _write_fitted(fitted: Recording, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    table = fitted.predictions
    for field in ("label", "confidence", "cost", "latency"):
        arrays[field] = np.asarray(getattr(table, field)).T
    arrays |= {"tune": fitted.split.tune, "test": fitted.split.test, "fold": fitted.split.fold}
    if fitted.raw_confidence is not None:
        arrays["raw_confidence"] = fitted.raw_confidence
    if fitted.chances is not None:
        arrays["chances"] = fitted.chances
    for tier, likely in fitted.likely.items():
        arrays[f"likely{table.index(tier)}"] = likely.astype(np.int32)
    for tier, again in fitted.again.items():
        for k, one in enumerate(again):
            arrays[f"again{table.index(tier)}.{k}"] = np.stack([one.label, one.confidence])
    models: list[list[Any]] = []
    for tier, model in fitted.models.items():
        files = model.to_files(f"model-{len(models)}")
        for file, content in files.items():
            (folder / file).write_bytes(content)
        models.append([tier, model.kind, list(files)])
    scopes: list[list[Any]] = []
    for out, scope in fitted.scopes.items():
        name = f"scope{len(scopes)}"
        arrays[name] = np.stack([scope.answers.confidence, scope.answers.cost, scope.answers.latency, scope.known])
        files = scope.model.to_files(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        scopes.append([out, scope.model.kind, list(files)])
    return {
        "scopes": scopes,
        "tiers": [asdict(t) for t in table.tiers],
        "given": fitted.split.given,
        "problems": list(fitted.problems),
        "left_out": list(fitted.left_out),
        "models": models,
        "reader": fitted.reader,
    }


def _write_llm(one: AnsweredLLM, i: int, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for field in ("label", "confidence", "cost", "latency"):
        arrays[f"llm{i}.{field}"] = getattr(one.answers, field)
    stored, files = pack_llm(one.model, f"llm-{i}.json")
    for file, content in files.items():
        (folder / file).write_bytes(content)
    said = {str(row): reply.to_json() for row, reply in one.replies.items()}
    return {"tier": asdict(one.tier), "model": stored, "replies": said}


def _write_learned(answers: TierColumns, folder: Path, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Keep what was learned of tiers' confidence, which takes half a second a tier and more, and what it rests on."""
    kept: list[dict[str, Any]] = []
    every = [*answers.fitted.predictions.tiers, *(one.tier for one in answers.llms)]
    for i, tier in enumerate(t for t in every if t.kind in LEARNS):
        found, own = answers.confidence(tier.name), answers.as_answered(tier.name)[1]
        if found is None:
            continue
        fitted = found.fitted
        if fitted.model is not None:
            arrays[f"learned{i}"] = fitted.answers.confidence
            for file, content in fitted.model.to_files(f"learned-{i}").items():
                (folder / file).write_bytes(content)
        worth = {what: {s: asdict(w) for s, w in getattr(found, what).items()} for what in ("said", "learned")}
        of = {"tier": tier.name, "basis": answers.fitted.basis(own), "model": fitted.model is not None}
        kept.append({**of, "better": fitted.better, "reason": fitted.reason, **worth})
    return kept


def _read_learned(
    fitted: Recording,
    llms: Sequence[AnsweredLLM],
    said: list[dict[str, Any]],
    data: Path,
    arrays: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, TierConfidence]]:
    table, asked = fitted.predictions, {one.tier.name: one.answers for one in llms}
    for i, one in enumerate(said):
        answers, model = asked.get(one["tier"]), None
        if answers is None:
            answers = table.answers(table.index(one["tier"]))
        if one["model"]:
            name = f"learned-{i}"
            files = {f"{name}.json": (data / f"{name}.json").read_bytes()}
            model = LearnedConfidence.from_files(name, files, reader=fitted.reads)
            answers = replace(answers, confidence=arrays[f"learned{i}"])
        worth = ({s: _worth(w) for s, w in one[what].items()} for what in ("said", "learned"))
        found = FittedConfidence(model, answers, bool(one["better"]), str(one["reason"]))
        yield str(one["basis"]), TierConfidence(found, *worth)


def _worth(said: Mapping[str, Any]) -> Worth:
    auroc, ece, brier = (Interval(**said[what]) for what in ("auroc", "ece", "brier"))
    return Worth(auroc, ece, brier, int(said["n_rows"]))


def _write_gates(answers: TierColumns, folder: Path, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Keep the gates that were trained for LLM tiers, or why there is none."""
    kept: list[dict[str, Any]] = [
        {"tier": tier, "of": none.of, "why": none.why} for tier, none in answers.no_gate.items()
    ]
    for i, gate in enumerate(answers.gates.values()):
        arrays[f"gate{i}"] = np.stack([gate.answers.confidence, gate.answers.cost, gate.answers.latency])
        files = gate.model.to_files(f"gate-{i}")
        for file, content in files.items():
            (folder / file).write_bytes(content)
        kept.append(
            {"tier": gate.guards, "of": gate.of, "array": f"gate{i}", "model": f"gate-{i}", "files": list(files)}
        )
    return kept


def _read_gates(answers: TierColumns, said: list[dict[str, Any]], data: Path, arrays: Mapping[str, np.ndarray]) -> None:
    for one in said:
        tier, of = str(one["tier"]), str(one["of"])
        if "why" in one:
            answers.no_gate[tier] = NoGate(of, str(one["why"]))
            continue
        scores = arrays[one["array"]]
        model = TrainedGate.from_files(one["model"], {name: (data / name).read_bytes() for name in one["files"]})
        answers.gates[gate_for(tier)] = Gate(tier, of, model, Answers(np.full(scores.shape[1], UNKNOWN), *scores))


class _Data:
    """What studies of the same data share while one of them is there: nothing of it is changed."""

    def __init__(self, said: Mapping[str, Any], columns: Columns, data: Path) -> None:
        rows = pq.read_table(data / ROWS)
        self.table = pd.DataFrame({name: strings(rows.column(name)) for name in rows.column_names}, dtype=object)
        self.answers: TierColumns | None = None
        if said["fitted"] is not None:
            with np.load(data / ANSWERS, allow_pickle=False) as packed:
                arrays = {name: packed[name] for name in packed.files}
            fitted = _read_fitted(self.table, columns, said["fitted"], data, arrays)
            llms = tuple(_read_llms(fitted.dataset.classes, said["llms"], data, arrays))
            fitted.kept.update(_read_learned(fitted, llms, said.get("learned", []), data, arrays))
            self.answers = TierColumns(fitted, llms=llms)
            _read_gates(self.answers, said.get("gates", []), data, arrays)


_OPENED: WeakValueDictionary[str, _Data] = WeakValueDictionary()  # of all sessions, by what they were read from


def _shared(said: Mapping[str, Any], columns: Columns, data: Path) -> _Data:
    alike = {**said, "seconds": None}  # how long it took to fit is all that may differ
    digest = hashlib.sha256(repr((columns, alike)).encode("utf-8", "surrogatepass"))
    for path in sorted(data.iterdir()):
        if path.name != COLUMNS:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    found = _OPENED.get(digest.hexdigest())
    if found is None:
        found = _OPENED[digest.hexdigest()] = _Data(said, columns, data)
    return found


def _read(stored: Mapping[str, Any], data: Path) -> Study:
    said = json.loads((data / COLUMNS).read_text(encoding="utf-8"))
    columns = columns_from(stored["columns"])
    shared = _shared(said, columns, data)
    study = Study(str(stored["name"]), shared.table, columns, notes=[Note(**n) for n in said["notes"]])
    study.shared = shared
    study.form = dict(stored["form"])
    if shared.answers is not None:
        removed, added = said["edits"]
        edits = Edits(frozenset((p, int(c)) for p, c in removed), tuple((p, int(c)) for p, c in added))
        words = KeyWords(*(tuple(side) for side in said.get("key_words", NO_WORDS)))
        study.keep(shared.answers.fitted, embedder=_embedder(said["embedder"]), edits=edits, key_words=words)
        study.seconds = float(said["seconds"])
        study.answers.gates.update(shared.answers.gates)
        study.answers.no_gate.update(shared.answers.no_gate)
        study.add(shared.answers.llms)
        study.terms = Terms.from_plain(stored["terms"])
        if stored["policy"] is not None:
            with contextlib.suppress(StudyError):  # of a tier that is not there any more
                study.restore(policy_from(stored["policy"], study.every_tier(), study.classes))
        for name, plain in stored["pins"]:
            with contextlib.suppress(StudyError):
                study.pins.append(Pin(str(name), policy_from(plain, study.every_tier(), study.classes)))
        with contextlib.suppress(StudyError):  # of another version: it can be searched again
            if stored.get("suggested") is not None:
                study.suggested = promise_from(Suggested, study, stored["suggested"])
        with contextlib.suppress(StudyError):
            if stored.get("certified") is not None:
                study.certified = promise_from(Certified, study, stored["certified"])
    return study


def _read_fitted(
    rows: pd.DataFrame, of: Columns, said: Mapping[str, Any], data: Path, arrays: Mapping[str, np.ndarray]
) -> Recording:
    dataset = build(rows, of)
    columns = [np.asarray(arrays[field]).T for field in ("label", "confidence", "cost", "latency")]
    table = Predictions(tuple(Tier(**t) for t in said["tiers"]), dataset.classes, *columns)
    if table.n_rows != dataset.n_rows:
        raise StudyError("its answers belong to other rows: load its file again.")
    models: dict[str, LocalModel] = {}
    problems = list(said["problems"])
    for i, (tier, kind, names) in enumerate(said["models"]):
        files = {name: (data / name).read_bytes() for name in names}
        try:
            models[tier] = KINDS[kind].from_files(f"model-{i}", files)
        except HybridError as error:  # a library that it needs is gone; its answers are still there
            problems.append(f"{tier} cannot answer new texts here. {error}")
    scopes: dict[str | None, FittedScope] = {}
    for i, (out, kind, names) in enumerate(said.get("scopes", ())):
        confidence, *spent, known = arrays[f"scope{i}"]
        answers = Answers(np.full(len(confidence), UNKNOWN), confidence, *spent)
        with contextlib.suppress(HybridError):  # a library that it needs is gone: fitted anew where it is wanted
            model = KINDS[kind].from_files(f"scope{i}", {name: (data / name).read_bytes() for name in names})
            scopes[out] = FittedScope(model, answers, known > 0)  # type: ignore[arg-type]
    split = Split(arrays["tune"], arrays["test"], arrays["fold"], bool(said["given"]))
    found = Recording(
        dataset,
        split,
        table,
        models,
        arrays.get("raw_confidence"),
        tuple(problems),
        reader=said.get("reader"),
        chances=arrays.get("chances"),
        again={t.name: tuple(_read_again(j, arrays)) for j, t in enumerate(table.tiers)},
        left_out=tuple(said.get("left_out", ())),
        likely={
            t.name: arrays[f"likely{j}"].astype(np.int64) for j, t in enumerate(table.tiers) if f"likely{j}" in arrays
        },
    )
    found.scopes.update(scopes)
    return found


def _read_again(column: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Again]:
    for k in range(GRADERS):
        if f"again{column}.{k}" in arrays:
            label, confidence = arrays[f"again{column}.{k}"]
            yield Again(label.astype(np.int64), confidence)


def _read_llms(
    classes: tuple[str, ...], stored: list[dict[str, Any]], data: Path, arrays: Mapping[str, np.ndarray]
) -> Iterator[AnsweredLLM]:
    files = {path.name: path.read_bytes() for path in data.glob("llm-*.json")}
    for i, one in enumerate(stored):
        answers = Answers(*(arrays[f"llm{i}.{field}"] for field in ("label", "confidence", "cost", "latency")))
        model = unpack_llm(one["model"], classes, files)
        said = {int(row): Reply.from_json(text) for row, text in one.get("replies", {}).items()}
        yield AnsweredLLM(Tier(**one["tier"]), model, answers, said)


def _plain_embedder(embedder: Embedder | None) -> dict[str, Any] | None:
    match embedder:
        case EndpointEmbedder():
            return {"kind": "endpoint", "model": embedder.model, "base_url": embedder.base_url, "price": embedder.price}
        case MiniLM():
            return {"kind": "minilm"}
    return None


def _embedder(stored: Mapping[str, Any] | None) -> Embedder | None:
    if stored is None:
        return None
    if stored["kind"] == "endpoint":
        return EndpointEmbedder(str(stored["model"]), str(stored["base_url"]), float(stored["price"]))
    return MiniLM.installed() if is_installed() else None


def _replace(path: Path, content: bytes) -> None:
    half = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with open(half, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    with contextlib.suppress(OSError):  # some systems cannot open folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
