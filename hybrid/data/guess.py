"""Guess: what each column of a table is, by name first and by values then, and what has to be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pandas as pd

from hybrid.data.columns import ANSWER, TEST_NAMES, TUNE_NAMES, Columns, RecordedColumns, model_behind, stem, tokens
from hybrid.data.labels import fold, matcher
from hybrid.data.notes import listed
from hybrid.data.several import SeveralLabels, indicators, joined_labels
from hybrid.data.texts import UNSPACED
from hybrid.errors import DatasetError
from hybrid.routing.table import UNKNOWN

LOOKED_AT = 600  # rows, spread evenly over the table
FREE_ANSWERS = 100  # different answers that a model may give beside the classes, in those rows
BLANK_IS_FAILURE_UP_TO = 0.2  # share of blank answers beyond which blank is taken as "never asked"

# alternatives in the order of preference; a name is compared without case and with _ between its words
_TEXT = (
    "text|message|body|question|query|utterance|ticket|content|review|sentence|description|comment|input|instruction|"
    "narrative|complaint|prompt|tweet|headline|title|subject|nachricht|anliegen|anfrage|beschreibung|frage|inhalt|"
    "kommentar|beschwerde|betreff|texto|mensaje|pregunta|consulta|descripción|descripcion|texte|demande|testo|"
    "messaggio|文本|内容|问题|テキスト|本文|質問"
)
# written by the one who answers, when the label is known
_ANSWERED = (
    "response|reply|answer|antwort|respuesta|réponse|reponse|risposta|resolution|solution|lösung|agent|company|public|"
    "output|completion|generated|internal|summary"
)
_SURE_LABEL = "label|labels|gold|gold_label|truth|ground_truth|true_label|target|true|y|etikett|标签|ラベル"
_LABEL = (
    "category|categories|intent|intents|class|classes|topic|topics|kategorie|klasse|thema|absicht|categoría|categoria|"
    "catégorie|categorie|clase|classe|intención|intention|etiqueta|étiquette|类别|分类|意图|カテゴリ|カテゴリー|分類"
)
_PERHAPS_LABEL = "type|product|issue|reason|department|queue|tag|tags|typ|abteilung|tipo"
# said of a text and seldom what it is about: asked about, and never another model's answer unless its name says so
_ASIDE = (
    "rating|satisfaction|csat|nps|score|stars|status|priority|urgency|impact|severity|channel|timely|response|"
    "dringlichkeit|priorität|prioritaet|auswirkung|zufriedenheit|bewertung|prioridad|urgencia|priorité|urgence"
)
_NO_LABEL = (
    "gender|age|state|date|time|day|month|year|name|email|phone|zip|price|cost|tokens|latency|id|number|nr|no|count|"
    "amount|company|country|city|language|lang|url|version|datum"
)
_ID = r"id|ticket_?id|row_?id|example_?id|uid|uuid|key|number|nr|row|index"
_ID_END = r".*_(?:id|nr|no|number|key|uuid|nummer)"
# whose rows are seldom independent of each other; asked about where values repeat
_PERHAPS_GROUP = (
    "customer|client|cust|user|member|conversation|dialog|dialogue|thread|session|account|author|sender|caller|patient|"
    "kunde|kunden|kundennummer|nutzer|gespräch|cliente|usuario|utilisateur"
)
_GROUP = r"group|customer(_?id)?|conversation(_?id)?|user(_?id)?|thread(_?id)?|session(_?id)?|account(_?id)?"
_NO_GROUP = "type|tier|segment|status|count|age|since|agent|language|country|region|rating|satisfaction|class|category"
_SPLIT = r"split|fold|subset|partition|set"
_PARTS = {
    "confidence": r"confidence|conf|prob|probability|score|certainty|sicherheit|konfidenz|wahrscheinlichkeit|confianza|"
    r"confiance",
    "cost": r"cost|cost_usd|usd|kosten",
    "prompt_tokens": r"prompt_tokens|input_tokens",
    "completion_tokens": r"completion_tokens|output_tokens",
    "latency": r"latency|latency_s|seconds|latency_ms|ms|milliseconds|latenz|dauer",
}
_UNSPACED = re.compile(f"[{UNSPACED}]")
_NUMBERS = re.compile(r"[+-]?\d+(?:\.\d+)?|true|false|yes|no|ja|nein", re.IGNORECASE)


ROLES = ("label", "text", "id", "group", "split")  # of one column at most
ANSWERS, UNUSED = "answer", "unused"
PARTS = tuple(_PARTS)


@dataclass(frozen=True, slots=True)
class Ask:
    """Something that a guess is not sure of, and that the user is asked before anything is loaded.

    Parameters
    ----------
    about
        What the answer decides: the truth, the texts, or what rows belong together.
    question
        In words, with the reason.
    options
        Columns to choose from, the likeliest first, which is what `Guess.columns` holds meanwhile; of "group" it holds
        none.
    """

    about: Literal["label", "text", "group"]
    question: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """What the columns of a table seem to be.

    Parameters
    ----------
    asks
        What is not sure; empty where nothing needs to be asked.
    several
        How the labels are several a row, where they are; `hybrid.data.several` has what can be done about it.
    """

    columns: Columns
    asks: tuple[Ask, ...] = ()
    several: SeveralLabels | None = None

    def settled(self, *needed: str) -> Columns:
        """Return the columns, for a caller who cannot ask.

        Parameters
        ----------
        needed
            What it will read: ``label``, ``text`` or both.

        Raises
        ------
        DatasetError
            If one of them has to be asked about.
        """
        for ask in self.asks:
            if ask.about in needed:
                one_of = listed(ask.options)
                raise DatasetError(f"{ask.question} Name the column with --{ask.about}, such as one of {one_of}.")
        return self.columns


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What the values of a column look like, in the rows that were looked at."""

    values: list[str]  # trimmed
    filled: float  # share that is not blank
    distinct: int
    words: float  # spaces between words on average, or what stands for them where a script has none

    @classmethod
    def at(cls, column: pd.Series) -> _Look:
        values = list(map(str.strip, map(str, column.to_list())))
        some = [v for v in values if v]
        words = fmean(map(_n_words, some)) if some else 0.0
        return cls(values, len(some) / max(1, len(values)), len(set(some)), words)

    @property
    def has_classes(self) -> bool:
        """Whether values repeat as those of classes do."""
        return 2 <= self.distinct <= max(2, len(self.values) // 2)


def _look(whole: pd.Series, some: pd.Series) -> _Look:
    """Look at some rows of a column; where they are all blank, at the first that are not."""
    look = _Look.at(some)
    if look.filled:
        return look
    filled = np.flatnonzero(whole.to_numpy(dtype=object) != "")
    return replace(_Look.at(whole.iloc[filled[:LOOKED_AT]]), filled=len(filled) / max(1, len(whole)))


def _n_words(value: str) -> float:
    spaces = value.count(" ")
    return spaces if value.isascii() else spaces + len(_UNSPACED.findall(value)) / 2


def guess_columns(table: pd.DataFrame) -> Columns:
    """Guess what each column is, sure or not; see `guess`."""
    return guess(table).columns


def role_of(columns: Columns, column: str) -> str:
    """Return what a column is taken for: one of `ROLES`, of `PARTS`, `ANSWERS` or `UNUSED`.

    Examples
    --------
    >>> role_of(Columns("intent", text="message"), "message"), role_of(Columns("intent"), "note")
    ('text', 'unused')
    """
    for role in ROLES:
        if getattr(columns, role) == column:
            return role
    for r in columns.recorded:
        if r.label == column:
            return ANSWERS
        for part in PARTS:
            if getattr(r, part) == column:
                return part
    return UNUSED


def guess(
    table: pd.DataFrame,
    *,
    picked: Mapping[str, str | None] | None = None,
    said: Mapping[str, str] | None = None,
) -> Guess:
    """Guess what each column is, by name first and by content then; the user can change it.

    Parameters
    ----------
    table
        Strings, as `hybrid.data.read.read` gives them.
    picked
        Roles that the user has settled, by their names in `Columns`: ``{"label": "topic", "group": None}``. The rest is
        guessed around them, and they are not asked about.
    said
        What the user said of single columns, by name: one of `ROLES`, of `PARTS`, `ANSWERS` or `UNUSED`. Of two
        columns with the same role the later counts.
    """
    said = dict(said or {})
    picked = {**(picked or {}), **{role: column for column, role in said.items() if role in ROLES}}
    picked = {r: c for r, c in picked.items() if c is None or said.get(c, r) == r}  # it was said to be something else
    names = [str(c) for c in table.columns]
    step = np.unique(np.linspace(0, len(table) - 1, min(len(table), LOOKED_AT)).astype(int))
    rows = table.iloc[step]
    looks = {c: _look(table.iloc[:, j], rows.iloc[:, j]) for j, c in enumerate(names)}
    free = [c for c in names if c not in picked.values() and c not in said]

    def role(name: str, found: str | None) -> str | None:
        chosen = picked.get(name, found)
        if chosen in free:
            free.remove(chosen)
        return chosen

    split = role("split", next((c for c in _named(free, _SPLIT) if _is_split(looks[c])), None))
    labels = _named(free, f"{_SURE_LABEL}|{_LABEL}")
    text_like = picked.get("text") or _text(looks, [c for c in free if c not in labels and model_behind(c) is None])[0]
    label, ask_label = _label(looks, [c for c in free if c != text_like] or free or [c for c in names if c not in said])
    asks = [ask_label] if ask_label and not picked.get("label") else []
    label = role("label", label) or ""
    several = joined_labels(rows, label) if label in names else None
    if several is None and ask_label and not picked.get("label"):
        people = [c for c in names if c != text_like and model_behind(c) is None and not _is_part(c)]
        several = indicators(rows, people)
    row_id = role("id", _id(looks, free))
    group = role("group", next(iter(_named(free, _GROUP)), None))
    perhaps = [] if group or "group" in picked else [c for c in free if _may_group(table, c) and c != text_like]
    if "text" in picked:
        text, ask_text = role("text", None), None
    else:
        classes = _classes(looks[label]) if label in looks else ()
        # answers such as "late delivery" are several words, and still no texts
        text, ask_text = _text(looks, [c for c in free if _share_of(looks[c], classes) <= 0.5])
        role("text", text)
    if ask_text:
        asks.append(ask_text)
    if perhaps:
        question = (
            f"Rows with the same {perhaps[0]!r} seem to belong together. If they do, they must not be split, and count "
            "once: is this what groups them?"
        )
        asks.append(Ask("group", question, tuple(perhaps)))
    answers = [c for c in names if said.get(c) == ANSWERS]
    recorded = _recorded(table, looks, label, free, split, answers) if label in looks else ()
    if label in looks and model_behind(label) is not None:  # the truth is a model's: it is a tier as well
        parts = {part: _sibling(free, label, pattern) for part, pattern in _PARTS.items()}
        recorded = (*recorded, RecordedColumns(stem(label), label, **parts))  # type: ignore[arg-type]
    for column, part in said.items():
        if part in PARTS:
            recorded = _attached(recorded, column, part)
    return Guess(Columns(label, text, row_id, group, split, recorded), tuple(asks), several)


def guess_second(table: pd.DataFrame, first: Columns) -> Columns:
    """Guess what the columns of a second file are, to add it to a first.

    A column that is named as in the first file is the same thing; labels are only taken by name, for the second
    file may hold nothing but a model's answers. `label` is empty where it has none.
    """
    names = [str(c) for c in table.columns]
    found = guess_columns(table)

    def role(ours: str | None, pattern: str, guessed: str | None) -> str | None:
        return ours if ours in names else next(iter(_named(names, pattern)), guessed)

    return Columns(
        role(first.label, f"{_SURE_LABEL}|{_LABEL}", None) or "",
        text=role(first.text, _TEXT, found.text),
        id=role(first.id, _ID, None),
        group=role(first.group, _GROUP, None),
        split=first.split if first.split in names else found.split,
    )


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return "_".join(tokens(name))


def _named(names: list[str], pattern: str) -> list[str]:
    """Return the columns whose name is one of the alternatives, in the alternatives' order."""
    return [c for alternative in pattern.split("|") for c in names if re.fullmatch(alternative, _plain(c))]


def _is_split(look: _Look) -> bool:
    values = {v.lower() for v in look.values}
    return bool(values) and values <= TEST_NAMES | TUNE_NAMES


def _id(looks: Mapping[str, _Look], free: list[str]) -> str | None:
    """Return the column that numbers the rows: by its name, or by the end of its name where no value repeats."""
    ends = [c for c in free if re.fullmatch(_ID_END, _plain(c)) and looks[c].distinct == len(looks[c].values)]
    groups = set(_named(free, _GROUP))
    return next(iter([*_named(free, _ID), *(c for c in ends if c not in groups)]), None)


def _label(looks: Mapping[str, _Look], free: list[str]) -> tuple[str, Ask | None]:
    """Return the likeliest truth, and the question where it is not surely that."""
    people = [c for c in free if model_behind(c) is None and not _is_part(c)]
    sure = _named(people, _SURE_LABEL)
    if sure:
        return sure[0], None
    likely = [c for c in people if looks[c].has_classes and not _says(c, _NO_LABEL)]
    aside = [c for c in likely if _says(c, _ASIDE)]
    plain = [c for c in likely if c not in aside]
    named = [*_named(people, _LABEL), *(c for c in plain if _says(c, _LABEL))]
    perhaps = [c for t in _PERHAPS_LABEL.split("|") for c in plain if tokens(c)[-1:] == [t] and "sub" not in tokens(c)]
    # what has no name to go by: the last is likeliest, as labels come after the texts
    ranked = [list(dict.fromkeys(level)) for level in (named, perhaps, plain[::-1], aside[::-1])]
    options = tuple(dict.fromkeys(c for level in ranked for c in level))
    models = [c for c in free if model_behind(c) is not None and looks[c].has_classes and not _is_part(c)]
    for level in ranked:
        if len(level) == 1 and (level in ranked[:2] or (len(likely) == 1 and not models)):
            return level[0], None
        if level:
            return level[0], Ask("label", "Which column holds the true labels? No name says it surely.", options)
    if models:
        question = (
            f"{models[0]!r} seems to hold a model's answers, and no other column the true labels. Taken for the truth, "
            "it makes every number agreement with that model, not accuracy. Is it what you want?"
        )
        return models[0], Ask("label", question, tuple(models))
    last = (free or list(looks))[-1]
    return last, Ask("label", "No column looks like labels: no values repeat. Which one holds the truth?", tuple(free))


def _says(column: str, names: str) -> bool:
    """Whether a word of a column's name is one of these alternatives."""
    return bool({*tokens(column)} & {*names.split("|")})


def _may_group(table: pd.DataFrame, column: str) -> bool:
    """Whether a column's name is of who writes or where, and its values repeat, though not as those of classes do."""
    if not _says(column, _PERHAPS_GROUP) or _says(column, _NO_GROUP):
        return False
    filled = table[column][table[column] != ""]
    distinct = filled.nunique()
    return bool(20 <= distinct <= 0.95 * len(filled))


def _text(looks: Mapping[str, _Look], free: list[str]) -> tuple[str | None, Ask | None]:
    """Return the column of the texts that are to be classified; None where there is none."""
    asked = [c for c in free if not _says(c, _ANSWERED)]
    exact = _named(asked, _TEXT)
    prose = [c for c in exact if looks[c].words >= 0.5 and looks[c].filled >= 0.5]
    if prose or exact:
        best = (prose or exact)[0]
        # a subject or a title is short where there is a body
        longer = [c for c in _with_word(asked) if looks[c].words > 3 * looks[best].words and looks[c].filled >= 0.3]
        if _plain(best) not in ("title", "subject", "betreff") or not longer:
            return best, None
    wordy = [c for c in asked if looks[c].words >= 1.0]
    for candidates in (_with_word(wordy), wordy):
        if candidates:
            return max(candidates, key=lambda c: looks[c].words), None
    answers = [c for c in free if looks[c].words >= 1.0 and looks[c].distinct > 1]
    if not answers:
        return None, None
    best = max(answers, key=lambda c: looks[c].words)
    question = f"{best!r} seems to be written by who answers, when the label is known already. Are these the texts?"
    return best, Ask("text", question, tuple(answers))


def _with_word(names: list[str]) -> list[str]:
    wanted = {*_TEXT.split("|")} - {"ticket"}
    return [c for c in names if {*tokens(c)} & wanted]


def _classes(look: _Look) -> tuple[str, ...]:
    return fold(Counter(look.values)).classes


def _share_of(look: _Look, classes: tuple[str, ...]) -> float:
    """Return the share of a column's answers that are among the classes; 0 of one that hardly repeats itself."""
    if not classes or look.distinct > max(FREE_ANSWERS, 10 * len(classes)):
        return 0.0
    code = matcher(classes)
    known = {v: code(v) != UNKNOWN for v in {*look.values} if v}
    answered = [v for v in look.values if v]
    return sum(known[v] for v in answered) / len(answered) if answered else 0.0


def _recorded(
    table: pd.DataFrame,
    looks: Mapping[str, _Look],
    label: str,
    free: list[str],
    split: str | None,
    said: list[str],
) -> tuple[RecordedColumns, ...]:
    classes = _classes(looks[label])
    numbers = all(_NUMBERS.fullmatch(c) for c in classes)
    columns = [c for c in free if _may_answer(c, says_so=numbers) and _share_of(looks[c], classes) >= 0.6] + said
    exact = {c: {part: _sibling(free, c, pattern) for part, pattern in _PARTS.items()} for c in columns}
    taken = {c for parts in exact.values() for c in parts.values() if c}
    found = []
    for column in columns:
        parts = exact[column]
        for part, pattern in _PARTS.items():
            if parts[part] is None:
                parts[part] = _akin(free, taken, column, pattern)
                taken |= {parts[part] or column}
        name = stem(column)
        failed = looks[column].filled >= 1 - BLANK_IS_FAILURE_UP_TO and not _blank_on_one_side(table, column, split)
        name = column if name.isdigit() else name
        found.append(RecordedColumns(name, column, **parts, blank_is_failure=failed))  # type: ignore[arg-type]
    return tuple(found)


def _attached(recorded: tuple[RecordedColumns, ...], column: str, part: str) -> tuple[RecordedColumns, ...]:
    """Return the models with a column as a part of one: of the one that shares its name, else of the first without."""
    free = [
        replace(r, **{p: None for p in PARTS if getattr(r, p) == column})  # type: ignore[arg-type]
        for r in recorded
    ]
    if not free:
        return recorded
    alike = [len({*tokens(column)} & {*tokens(r.name), *tokens(r.label)}) for r in free]
    best = max(range(len(free)), key=lambda i: (alike[i], getattr(free[i], part) is None, -i))
    free[best] = replace(free[best], **{part: column})  # type: ignore[arg-type]
    return tuple(free)


def _may_answer(column: str, *, says_so: bool) -> bool:
    """Whether a column can hold a model's answers; numbers and yes or no do only where its name says so."""
    if _is_part(column):
        return False
    if model_behind(column) is not None or stem(column) != column:
        return True
    return not says_so and not _says(column, f"{_ASIDE}|{_NO_LABEL}")


def _blank_on_one_side(table: pd.DataFrame, column: str, split: str | None) -> bool:
    """Whether a column is blank on one side of the split and nowhere else: there it was never asked."""
    if split is None:
        return False
    blank = (table[column].str.strip() == "").to_numpy()
    test = table[split].str.strip().str.lower().isin(TEST_NAMES).to_numpy()
    return bool(blank.any() and ((blank == test).all() or (blank == ~test).all()))


def _is_part(column: str) -> bool:
    """Whether a column's name says that it holds a confidence, a cost or the like."""
    return any(re.fullmatch(rf"(?:.+_)?(?:{p})|(?:{p})_.+", _plain(column)) for p in _PARTS.values())


def _sibling(names: list[str], column: str, pattern: str) -> str | None:
    """Return the column that is named as a column of answers is, and holds this about them."""
    either = "|".join({re.escape(_plain(stem(column))), re.escape(_plain(column))})
    for c in names:
        if c != column and re.fullmatch(rf"(?:{either})_(?:{pattern})|(?:{pattern})_(?:{either})", _plain(c)):
            return c
    return None


def _akin(names: list[str], taken: set[str], column: str, pattern: str) -> str | None:
    """Return the column that shares the most of a name: ``Sicherheit GPT-4o`` beside ``Antwort GPT-4o (Prompt v3)``."""
    own = {*tokens(column)} - {*ANSWER.split("|")}
    best: tuple[int, Any] = (0, None)
    for c in names:
        found = re.fullmatch(rf"(?:(.+)_(?:{pattern}))|(?:(?:{pattern})_(.+))", _plain(c))
        rest = {*(found[1] or found[2]).split("_")} if found else set()
        if found and c not in taken and c != column and rest <= own and len(rest) > best[0]:
            best = len(rest), c
    found_column: str | None = best[1]
    return found_column
