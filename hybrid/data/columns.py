"""Columns: what each column of a table is, and what its name says about who wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

TEST_NAMES = frozenset({"test", "holdout", "eval"})
TUNE_NAMES = frozenset({"train", "tune", "valid", "validation", "val", "dev", "training"})

ANSWER = (
    "label|labels|pred|preds|prediction|predictions|answer|predicted|output|suggestion|suggested|"
    "antwort|vorhersage|vorschlag|respuesta|prediccion|réponse|reponse|prédiction|risposta|预测|予測"
)
LABEL_NAMES = (
    "label|labels|category|categories|intent|intents|class|classes|topic|topics|kategorie|kategorien|klasse|thema|"
    "categoría|categoria|categorías|categorias|catégorie|categorie|etiqueta|etiquetas|étiquette|étiquettes"
)
_MODEL = re.compile(
    r"llms?|(?:chat)?gpt.*|claude.*|gemini.*|gemma.*|mi[sx]tral.*|llama.*|qwen.*|deepseek.*|grok.*|phi\d.*|smollm.*|"
    r"minilm.*|\w*bert\w*|openai|anthropic|haiku|sonnet|opus|o[134]|models?|modell|modelo|modèle|ki|ai|ia|preds?|"
    r"predict(?:ed|ions?)|suggest(?:ed|ions?)|teacher|bot|chatbot|machine|ml|classifier|autolabel|vorschlag|vorhersage|"
    r"predicci[oó]n|pr[eé]diction|bayes|svm|xgboost|fasttext|模型|预测|予測"
)


def tokens(name: str) -> list[str]:
    """Return the words of a column's name, lower case.

    Examples
    --------
    >>> tokens("KI_Vorschlag#2"), tokens("ticketType"), tokens("Ticket ID")
    (['ki', 'vorschlag', '2'], ['ticket', 'type'], ['ticket', 'id'])
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", apart.lower())


def is_label(name: str) -> bool:
    """Whether a column's name says that it holds labels, which may then be several a row."""
    return bool({*tokens(name)} & {*LABEL_NAMES.split("|")})


def stem(name: str) -> str:
    """Return the model's name in the name of the column that holds its answers."""
    apart = r"[\s_.:-]+"
    found = re.fullmatch(rf"(?:(?:{ANSWER}){apart}(.+))|(?:(.+?){apart}(?:{ANSWER}))", name.strip(), re.IGNORECASE)
    return next(g for g in found.groups() if g) if found else name


def model_behind(name: str) -> str | None:
    """Return the model that wrote a column, as the column's name says; None where it says nothing of one.

    Examples
    --------
    >>> model_behind("gpt4o_label"), model_behind("KI_Vorschlag#2"), model_behind("Ticket Type")
    ('gpt4o', 'KI_Vorschlag#2', None)
    """
    return stem(name) if any(_MODEL.fullmatch(t) for t in tokens(name)) else None


@dataclass(frozen=True, slots=True)
class RecordedColumns:
    """The columns that hold another model's recorded answers.

    Parameters
    ----------
    name
        The tier's name.
    label, confidence, cost, prompt_tokens, completion_tokens, latency
        Column names; cost in USD and latency in seconds per row.
    price
        USD per answer where neither a cost nor a token column is given; 0 where that is not known.
    free
        Whether it was said that an answer costs nothing.
    prompt_price, completion_price
        USD per million tokens.
    default_latency
        Seconds where there is no latency column.
    blank_is_failure
        What a blank answer means: True, asked and failed; False, never asked.
    milliseconds
        Whether the latencies are in milliseconds; None: where the column's name says so. Seconds otherwise.
    """

    name: str
    label: str
    confidence: str | None = None
    cost: str | None = None
    prompt_tokens: str | None = None
    completion_tokens: str | None = None
    latency: str | None = None
    price: float = 0.0
    free: bool = False
    prompt_price: float = 0.0
    completion_price: float = 0.0
    default_latency: float = 0.0
    blank_is_failure: bool = True
    milliseconds: bool | None = None

    def used(self) -> list[str]:
        """Return the columns that this reads."""
        parts = (self.label, self.confidence, self.cost, self.prompt_tokens, self.completion_tokens, self.latency)
        return [c for c in parts if c]


_MADE_HERE = re.compile(r"rules|classifier|.* (?:gate|\+ classifier)|trained gate for .*|what-if LLM|person")


def named_apart(recorded: Sequence[RecordedColumns]) -> tuple[RecordedColumns, ...]:
    """Give each tier of a file a name of its own: not that of one that runs here, nor that of another of the file.

    Examples
    --------
    >>> twice = RecordedColumns("gpt", "gpt_label"), RecordedColumns("gpt", "gpt_answer")
    >>> [r.name for r in named_apart([RecordedColumns("classifier", "classifier_label"), *twice])]
    ['classifier (recorded)', 'gpt', 'gpt (gpt_answer)']
    """
    taken: set[str] = set()
    found = []
    for r in recorded:
        name = from_file(r.name.strip() or r.label)
        if name in taken:
            name = f"{name} ({r.label})"
        taken.add(name)
        found.append(replace(r, name=name))
    return tuple(found)


def from_file(name: str) -> str:
    """Return what a file's tier is called here: its own name, unless a tier that is made here has that."""
    return f"{name} (recorded)" if _MADE_HERE.fullmatch(name) else name


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of a table is; a column that is not named is not read.

    Only a second file, to be joined to a first, may have an empty `label`.

    Parameters
    ----------
    fold_labels
        Whether spellings of a label that differ in case, spaces, invisible signs or Unicode form alone are one class.
    reference
        The model whose answers the labels are, so that what is measured is agreement with it; empty: people wrote
        them; None: as the label column's name says.
    """

    label: str
    text: str | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    recorded: tuple[RecordedColumns, ...] = ()
    fold_labels: bool = True
    reference: str | None = None

    @property
    def agreement_with(self) -> str | None:
        """The model whose answers are taken for the truth; None where people labelled."""
        return model_behind(self.label) if self.reference is None else self.reference or None

    @property
    def teacher(self) -> RecordedColumns | None:
        """The model whose answers are the truth, as a tier that costs; None where people labelled, or it is none."""
        own = (r for r in self.recorded if r.label == self.label)
        return None if self.agreement_with is None else next(own, None)

    def by_people(self) -> Columns:
        """Return the columns as they are where people wrote the labels, whatever the column is called."""
        return replace(self, reference="", recorded=tuple(r for r in self.recorded if r.label != self.label))

    def taught_by(self, model: str) -> Columns:
        """Return the columns where the labels are this model's answers."""
        own = tuple(replace(r, name=model) if r.label == self.label else r for r in self.recorded)
        return replace(self, reference=model, recorded=own)

    def used(self) -> list[str]:
        """Return every column that is read, with repetitions."""
        own = [c for c in (self.label, self.text, self.id, self.group, self.split) if c]
        return own + [c for r in self.recorded for c in r.used()]
