"""Chat log: records of an LLM's calls → a table of texts and answers, with what was cut off, left out and assumed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from hybrid.data.calls import BATCH, CUT_OFF, FAILED, REFUSED, Call, Record, call_of, may_be_call
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.labels import Matcher, clean, fold, most_frequent, spelling
from hybrid.data.limits import ROWS
from hybrid.data.notes import Note, plural
from hybrid.data.said import LABEL_KEYS, bare_name, declines, keyed_names, names, objects, without_thoughts
from hybrid.errors import DatasetError
from hybrid.routing.table import UNKNOWN

LOOKED_AT = 60  # records by which a file is taken for a log
FEWEST = 10  # readable answers
LONGEST = 80  # characters of a name that stands alone
SHARED = 0.95  # of the texts, that a template is around
LEAST_CUT = 12  # characters of a template: fewer may be chance
HELD = 0.9  # of the answers, that must say a number for the others to get the usual one
APART = 0.05  # of the calls, from which on a prompt is one of several
CONFIDENCES = ("confidence", "probability", "score", "certainty", "conf", "confidence_score")
_STOPS = "\n\"'`<>[]:“”«»"  # signs that a prompt may end with
REQUESTS, REPLIES = "requests", "replies"  # what half of a log holds

ID, TEXT, LABEL, MODEL, TIME, SESSION = "id", "text", "llm_label", "llm_name", "llm_time", "session"
PARTS = ("confidence", "cost", "prompt_tokens", "completion_tokens", "latency")


@dataclass(frozen=True, slots=True)
class ChatLog:
    """What is known of a log besides its rows.

    Parameters
    ----------
    form
        Who wrote it, in words.
    model
        Whose answers it holds; of several the most frequent one's, and that there are others.
    asked
        The model as the log writes it, to look up its price.
    half
        `REQUESTS` or `REPLIES` where the other half of it is in another file.
    n_calls, n_left_out
        Calls that were read, and those among them without a readable answer.
    """

    form: str
    model: str
    asked: str
    half: str | None = None
    n_calls: int = 0
    n_left_out: int = 0

    @property
    def batch(self) -> bool:
        """Whether it was asked through a batch, at a batch's price."""
        return self.form == BATCH

    def columns(self, table: pd.DataFrame) -> Columns:
        """Return what the columns of its table are: the model's answers are the truth, and a tier that costs."""
        here = {part: f"llm_{part}" for part in PARTS if f"llm_{part}" in table}
        tier = RecordedColumns(self.model, LABEL, **here)  # type: ignore[arg-type]
        group = SESSION if SESSION in table else None
        return Columns(LABEL, text=TEXT, id=ID, group=group, recorded=(tier,), reference=self.model)


def is_log(records: Sequence[Record]) -> bool:
    """Whether most of these records are calls of an LLM.

    Examples
    --------
    >>> is_log([{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "Hi"}]}}])
    True
    >>> is_log([{"text": "Hi", "label": "greeting"}])
    False
    """
    some = list(records[:LOOKED_AT])
    worth = [r for r in some if may_be_call(list(r))]
    return bool(some) and 2 * len(worth) >= len(some) and any(call_of(r) is not None for r in worth)


def read_log(name: str, records: Iterable[Record]) -> tuple[pd.DataFrame, ChatLog, tuple[Note, ...]]:
    """Read a log: a row for each call with a text, blank where its answer cannot be read.

    Parameters
    ----------
    name
        Of the file, for messages.

    Raises
    ------
    DatasetError
        If it holds no calls, or they are of no classification.
    """
    calls, n_others = _calls(name, records)
    calls, notes = _latest(calls)
    if n_others:
        what = plural(n_others, "record is", "records are")
        notes.append(Note(f"{what} of no call of an LLM.", "Left out.", "info"))
    form = Counter(c.form for c in calls).most_common(1)[0][0]
    if not any(c.text for c in calls):
        return _replies(name, form, calls, notes)
    without = sum(not c.text for c in calls)
    if without:
        notes.append(Note(f"{plural(without, 'call has', 'calls have')} no text.", "Left out.", "info"))
        calls = [c for c in calls if c.text]
    if all(c.answer is None and not c.problem for c in calls):
        texts, cut = without_template([c.text or "" for c in calls])
        table = pd.DataFrame({ID: [c.id for c in calls], TEXT: texts, "allowed": ["\n".join(c.allowed) for c in calls]})
        return table.astype(object), ChatLog(form, "", "", REQUESTS, len(calls)), (*notes, *cut)
    calls, more = _one_prompt(calls)
    table, log, read = _table(name, form, calls)
    return table, log, (*notes, *more, *read)


def together(
    first: tuple[pd.DataFrame, ChatLog], second: tuple[pd.DataFrame, ChatLog]
) -> tuple[pd.DataFrame, ChatLog, tuple[Note, ...]]:
    """Join the two halves of a log by the id of each call.

    Raises
    ------
    DatasetError
        If they are no two halves, or have no call in common.
    """
    halves = {log.half: (table, log) for table, log in (first, second)}
    if set(halves) != {REQUESTS, REPLIES}:
        both = first[1].half or "a whole log"
        raise DatasetError(f"Both files hold {both}: one file with the requests and one with the replies are needed.")
    (asked, _), (said, log) = halves[REQUESTS], halves[REPLIES]
    replies = said.drop_duplicates(ID, keep="last").set_index(ID)
    found = asked[ID].isin(replies.index)
    if not found.any():
        raise DatasetError(
            f"No request has a reply: ids such as {asked[ID].iloc[0]!r} and {said[ID].iloc[0]!r} do not meet. Are the "
            "two files of the same batch?"
        )
    calls = [
        Call(log.form, id=i, text=t, allowed=tuple(filter(None, a.split("\n"))), **_call(replies.loc[i]))
        for i, t, a in zip(asked.loc[found, ID], asked.loc[found, TEXT], asked.loc[found, "allowed"], strict=True)
    ]
    table, whole, notes = _table("The log", log.form, calls)
    missing = int((~found).sum())
    if missing:
        what = f"{plural(missing, 'request has', 'requests have')} no reply."
        notes = (Note(what, "Left out: it failed, or is in another file.", "info"), *notes)
    return table, whole, notes


def without_template(texts: Sequence[str]) -> tuple[list[str], list[Note]]:
    """Cut off what stands before and behind the text in nearly every message: the prompt around it.

    Examples
    --------
    >>> bare, notes = without_template([f'Which intent has this message?\\n"{t}"\\nAnswer:' for t in ("hi", "my card")])
    >>> bare
    ['hi', 'my card']
    """
    different = sorted(set(texts))
    if len(different) < 2:
        return list(texts), []
    start = _ended(_common(different), from_left=True)
    rest = [t[len(start) :] for t in different if t.startswith(start)]
    end = _ended(_common(sorted(t[::-1] for t in rest))[::-1], from_left=False)
    if len(start) + len(end) < LEAST_CUT:
        return list(texts), []
    inside, kept = [], 0
    for text in texts:
        fits = text.startswith(start) and text.endswith(end) and len(text) >= len(start) + len(end)
        kept += not fits
        inside.append(text[len(start) : len(text) - len(end)].strip() if fits else text)
    words = [f"{_shown(start)} before" if start.strip() else "", f"{_shown(end)} behind" if end.strip() else ""]
    done = "Cut off, so that only what differs is read."
    if kept:
        done += f" {plural(kept, 'message has', 'messages have')} it not: kept whole."
    return inside, [Note(f"A prompt stands around the texts: {' and '.join(filter(None, words))} each.", done, "info")]


def _calls(name: str, records: Iterable[Record]) -> tuple[list[Call], int]:
    calls, n_others, same = [], 0, {}  # type: ignore[var-annotated]
    for record in records:
        found = call_of(record)
        if found is None:
            n_others += 1
            continue
        # a prompt that comes with every call is kept once
        words = same.setdefault(found.instructions, found.instructions)
        calls.append(replace(found, instructions=words, allowed=same.setdefault(found.allowed, found.allowed)))
        ROWS.check(name, len(calls))
    if not calls:
        raise DatasetError(f"{name} holds no call of an LLM: a record needs a request, with messages, and its reply.")
    return calls, n_others


def _latest(calls: list[Call]) -> tuple[list[Call], list[Note]]:
    """Return the calls, of several with one id the last that has an answer."""
    latest: dict[str, Call] = {}
    for n, call in enumerate(calls):
        key = call.id or f"\0{n}"
        before = latest.get(key)
        if before is None or call.answer is not None or before.answer is None:
            latest[key] = call if before is None else _filled(before, call)
    again = len(calls) - len(latest)
    if not again:
        return calls, []
    what = f"{plural(again, 'record has', 'records have')} the id of another."
    return list(latest.values()), [Note(what, "Of each id the last counts.", "info")]


def _filled(before: Call, call: Call) -> Call:
    """Return a call with the text of a record of the same id, as where requests and replies are in one file."""
    if call.text is None and before.text is not None:
        return replace(call, text=before.text, instructions=before.instructions, allowed=before.allowed)
    return call


def _one_prompt(calls: list[Call]) -> tuple[list[Call], list[Note]]:
    """Keep the calls of the prompts that sort into the same labels as the most frequent one does."""
    counts = Counter((c.instructions, c.allowed) for c in calls)
    often = [p for p, n in counts.most_common(20) if n >= max(FEWEST, APART * len(calls))]
    if len(often) < 2 or sum(counts[p] for p in often) < HELD * len(calls):
        return calls, []  # one prompt, or one that differs from text to text
    own = {p: _names_said([c for c in calls if (c.instructions, c.allowed) == p]) for p in often}
    first = own[often[0]]
    others = [p for p in often[1:] if own[p] and len(first & own[p]) < 0.5 * min(len(first), len(own[p]))]
    kept = [c for c in calls if (c.instructions, c.allowed) not in others]
    if len(kept) == len(calls):
        return calls, []
    what = f"{plural(len(calls) - len(kept), 'call has', 'calls have')} another prompt with other answers."
    return kept, [Note(what, "Left out: another task, to be looked at by itself.", "warning")]


def _names_said(calls: Sequence[Call]) -> set[str]:
    said = Counter(spelling(n) for c in calls[:500] if c.answer for n in _sure_names(c.answer)[:1])
    return {name for name, n in said.items() if n > 1}


def _replies(
    name: str, form: str, calls: Sequence[Call], notes: list[Note]
) -> tuple[pd.DataFrame, ChatLog, tuple[Note, ...]]:
    """Return the half of a log that holds no texts, as it stands."""
    if any(not c.id for c in calls):
        raise DatasetError(
            f"{name} holds replies without texts, and without ids that would tell which request they belong to: export "
            "the requests with them."
        )
    fields = (
        "id",
        "answer",
        "problem",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "cost",
        "latency",
        "time",
        "sure",
    )
    columns = {f: ["" if (v := getattr(c, f)) is None else str(v) for c in calls] for f in fields}
    table = pd.DataFrame(columns, dtype=object)
    return table, ChatLog(form, _model(calls)[0], _model(calls)[1], REPLIES, len(calls)), tuple(notes)


def _call(row: pd.Series) -> dict[str, Any]:
    """Return the fields of a call from a row that `_replies` wrote."""
    found: dict[str, Any] = {k: row[k] for k in ("problem", "model")}
    found["answer"] = row["answer"] or None
    for k in ("prompt_tokens", "completion_tokens"):
        found[k] = int(row[k]) if row[k] else None
    for k in ("cost", "latency", "time", "sure"):
        found[k] = float(row[k]) if row[k] else None
    return found


def _table(name: str, form: str, calls: Sequence[Call]) -> tuple[pd.DataFrame, ChatLog, tuple[Note, ...]]:
    labels, why, notes = _labels(calls)
    read = [i for i, label in enumerate(labels) if label]
    distinct = len({labels[i] for i in read})
    if len(calls) < FEWEST:
        raise DatasetError(f"{name} holds {plural(len(calls), 'call', 'calls')} only: at least {FEWEST} are needed.")
    if len(read) < FEWEST or distinct > len(read) / 2:
        some = next((c.answer for c in calls if c.answer), None)
        like = "" if some is None else f", such as {_shown(some)}"
        hardly = (
            f"the {len(read):,} answers that can be read hardly repeat"
            if len(read) >= FEWEST
            else (f"only {len(read):,} of {len(calls):,} answers name a class")
        )
        raise DatasetError(
            f"{name} is a log of an LLM, but of no classification: {hardly}{like}. A bare label is read, or JSON with "
            "a label, class, category or intent in it."
        )
    texts, cut = without_template([c.text or "" for c in calls])
    model, asked = _model(calls)
    columns: dict[str, list[str]] = {
        ID: [c.id or str(i + 1) for i, c in enumerate(calls)],
        TEXT: texts,
        LABEL: labels,
        MODEL: [c.model for c in calls],
    }
    answered = [calls[i] for i in read]
    sure, more = _confidences(calls, answered)
    numbers: list[tuple[str, Callable[[Call], float | None], str]] = [
        ("cost", lambda c: c.cost, "a cost"),
        ("prompt_tokens", lambda c: c.prompt_tokens, "tokens"),
        ("completion_tokens", lambda c: c.completion_tokens, "tokens"),
        ("latency", lambda c: c.latency, "a latency"),
    ]
    if sure is not None:
        columns["llm_confidence"] = sure
    for part, of, what in numbers:
        if part.endswith("tokens") and "llm_cost" in columns:
            continue  # what was paid is known
        values, said = _numbers(calls, answered, of, what)
        if values is not None:
            columns[f"llm_{part}"] = values
        more += [n for n in said if n not in more]
    if any(c.time is not None for c in calls):
        columns[TIME] = ["" if c.time is None else f"{c.time:.3f}" for c in calls]
    sessions = Counter(c.session for c in calls if c.session)
    if len(sessions) >= max(20, 0.05 * len(calls)) and len(sessions) < sum(sessions.values()):
        columns[SESSION] = [c.session for c in calls]
        what = f"The calls are of {len(sessions):,} sessions."
        more.append(Note(what, "Those of one session are never split, and count once in every interval.", "info"))
    log = ChatLog(form, model, asked, None, len(calls), len(calls) - len(read))
    lead = Note(
        f"A log of {form}: {plural(len(calls), 'call', 'calls')} of {model}, {len(read):,} with an answer that names "
        f"one of {distinct:,} classes.",
        "The answers are taken for the truth, so every number is agreement with them.",
        "info",
    )
    return pd.DataFrame(columns, dtype=object), log, (lead, *_left_out(why), *cut, *notes, *more)


def _model(calls: Sequence[Call]) -> tuple[str, str]:
    """Return what the model is called, and as the log writes it."""
    counts = Counter(c.model for c in calls if c.model)
    if not counts:
        return "LLM", ""
    asked = counts.most_common(1)[0][0]
    name = clean(asked.rpartition("/")[2]) or "LLM"
    others = len({m.rpartition("/")[2] for m in counts}) - 1
    return (f"{name} and {others} more" if others else name), asked


def _left_out(why: Counter[str]) -> list[Note]:
    said = {
        FAILED: ("call failed", "calls failed"),
        REFUSED: ("answer is a refusal", "answers are refusals"),
        CUT_OFF: ("answer was cut off", "answers were cut off"),
        "": ("answer names no class", "answers name no class"),
    }
    parts = [plural(why[k], *said[k]) for k in said if why[k]]
    if not parts:
        return []
    return [Note(f"{', '.join(parts)}.", "Left out of all numbers; their texts stay, without a label.", "warning")]


def _sure_names(answer: str) -> list[str]:
    """Return the names that an answer surely gives: of its JSON, or itself where it is one short line."""
    said = without_thoughts(answer)
    keyed = keyed_names(said)
    if keyed:
        return [keyed[0]] if len(set(keyed)) == 1 else []
    bare = bare_name(said)
    alone = bool(bare) and len(bare) <= LONGEST and "\n" not in bare and not said.startswith(("{", "["))
    return [bare] if alone and not declines(said) else []


def _labels(calls: Sequence[Call]) -> tuple[list[str], Counter[str], list[Note]]:
    """Return each call's label, blank where there is none, why, and what was assumed."""
    notes: list[Note] = []
    answers = {c.answer for c in calls if c.answer and not c.problem}
    key = _own_key(answers)
    if key is not None:
        what = f"The answers are JSON without a label of a usual name; {key!r} is what repeats."
        notes.append(Note(what, "Read as the label.", "warning"))
    sure: dict[str, str] = {}
    for answer in answers:
        found = _value(answer, key) if key is not None else _sure_names(answer)
        if found:
            sure[answer] = clean(found[0])
    counts = Counter(sure[c.answer] for c in calls if c.answer in sure and not c.problem)
    allowed = tuple(dict.fromkeys(clean(n) for c in calls for n in c.allowed))
    if allowed:
        classes = fold({n: counts.get(n, 0) + 1 for n in allowed}).classes
    else:
        said = Counter(spelling(n) for n in counts.elements())
        keyed = {n for a, n in sure.items() if "{" in a}  # under a label's name, once is enough
        bare = sum(counts[n] for n in counts if n not in keyed) > (1 - HELD) * counts.total()  # else JSON was asked for
        classes = fold({n: k for n, k in counts.items() if n in keyed or (bare and said[spelling(n)] > 1)}).classes
    match = Matcher(classes)
    labels: dict[str, str] = {}
    for answer in answers:
        tried = [sure[answer]] if answer in sure else []
        codes = {match(n) for n in tried} - {UNKNOWN}
        codes = codes or ({match(n) for n in names(without_thoughts(answer))} - {UNKNOWN})
        labels[answer] = classes[codes.pop()] if len(codes) == 1 else ""
    found, why, strange = [], Counter[str](), Counter[str]()
    for call in calls:
        label = "" if call.problem else labels.get(call.answer or "", "")
        if not label and call.problem == CUT_OFF and call.answer:
            label = next((classes[c] for n in _sure_names(call.answer) if (c := match(n)) != UNKNOWN), "")
        found.append(label)
        if not label:
            refused = bool(call.answer) and declines(without_thoughts(call.answer or ""))
            reason = call.problem or (REFUSED if refused else "" if call.answer else FAILED)
            why[reason] += 1
            if not reason:
                strange[_shown(call.answer or "")] += 1
    if strange:
        notes.append(Note(f"Answers without a class: {most_frequent(strange)}.", "Left out.", "info"))
    return found, why, notes


def _own_key(answers: Iterable[str]) -> str | None:
    """Return the key of JSON answers that repeats as labels do, where none of the usual ones is there; else None."""
    found = [o[0] for a in itertools.islice(answers, 2_000) if (o := objects(without_thoughts(a)))]
    if len(found) < FEWEST or any(str(k).strip().casefold() in LABEL_KEYS for o in found[:200] for k in o):
        return None
    values = {k: [o[k] for o in found if isinstance(o.get(k), str)] for k in dict.fromkeys(k for o in found for k in o)}
    able = {
        k: len(set(v))
        for k, v in values.items()
        if len(v) >= 0.8 * len(found) and len(set(v)) >= 2 and max(map(len, v)) <= LONGEST
    }
    # answers are distinct here, so a label repeats where what stands beside it, such as a reason, does not
    return max((k for k, n in able.items() if n <= max(2, len(found) / 3)), key=lambda k: able[k], default=None)


def _value(answer: str, key: str) -> list[str]:
    found = objects(without_thoughts(answer))
    return [str(found[0][key])] if found and isinstance(found[0].get(key), str) else []


def _confidences(calls: Sequence[Call], answered: Sequence[Call]) -> tuple[list[str] | None, list[Note]]:
    """Return what the answers say of themselves: of their JSON, else of their tokens."""
    stated = {c.answer: _stated(c.answer or "") for c in calls}
    for of, what in ((lambda c: stated[c.answer], "a confidence"), (lambda c: c.sure, "token probabilities")):
        values, notes = _numbers(calls, answered, of, what)
        if values is not None:
            most = max(float(v) for v in values if v)
            scale = 100.0 if most > 1 else 1.0
            if most <= 100:
                return [f"{float(v) / scale:.9g}" if v else "" for v in values], notes
    return None, []


def _stated(answer: str) -> float | None:
    for value in objects(without_thoughts(answer)):
        for name, said in value.items():
            if str(name).casefold() in CONFIDENCES and isinstance(said, int | float) and not isinstance(said, bool):
                return float(said) if 0 <= said <= 100 else None
    return None


def _numbers(
    calls: Sequence[Call], answered: Sequence[Call], of: Callable[[Call], float | None], what: str
) -> tuple[list[str] | None, list[Note]]:
    """Return a number of each call; where nearly all say it the others get the mean, where few do there is none."""
    known = [v for c in answered if (v := of(c)) is not None]
    if not known:
        return None, []
    missing = len(answered) - len(known)
    if len(known) < HELD * len(answered):
        what = f"{missing:,} of {len(answered):,} answers come without {what}."
        return None, [Note(what, "Not read of the others either.", "warning")]
    mean = sum(known) / len(known)
    values = [mean if (v := of(c)) is None else v for c in calls]
    some = f"{plural(missing, 'answer comes', 'answers come')} without {what}."
    return [f"{v:.9g}" for v in values], [Note(some, "The mean of the others stands in.", "info")] if missing else []


def _common(different: Sequence[str]) -> str:
    """Return how nearly all of these begin, which are sorted: some may begin otherwise."""
    n = len(different)
    window = max(2, min(n, int(SHARED * n + 0.999)))
    return max((_shared(different[i], different[i + window - 1]) for i in range(n - window + 1)), key=len)


def _shared(one: str, other: str) -> str:
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _ended(shared: str, *, from_left: bool) -> str:
    """Return what is shared up to where a prompt may end: at a line, quote, bracket or colon, else between words.

    Texts may begin alike, too: "My card", "My parcel".
    """
    ordered = shared if from_left else shared[::-1]
    at = max(ordered.rfind(sign) for sign in _STOPS)
    at = max(map(ordered.rfind, " \t")) if at < 0 else at
    kept = ordered[: at + 1]
    return kept if from_left else kept[::-1]


def _shown(words: str, most: int = 60) -> str:
    line = " ".join(words.split())
    return f"“{line if len(line) <= most else '…' + line[-most:]}”"
