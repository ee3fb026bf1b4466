"""Gallery: public data with recorded answers that come with the product, and what each of them shows."""

from __future__ import annotations

from dataclasses import dataclass

from hybrid.data.columns import Columns, RecordedColumns
from hybrid.data.read import read
from hybrid.study import app
from hybrid.study.study import Study


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A file in ``sample_data`` whose columns are known.

    Parameters
    ----------
    name
        What the user reads, also as the study's name.
    shows
        The lesson in a few words; what it says is measured on this very file by a test.
    holds, lesson
        What the rows are, and what can be learned from them, each a sentence or two.
    source
        Whose data they are, and under which licence.
    """

    name: str
    file: str
    columns: Columns
    shows: str
    holds: str
    lesson: str
    source: str

    def study(self) -> Study:
        """Read the file, ready to be fitted."""
        found = read(self.file, (app.folder() / "sample_data" / self.file).read_bytes())
        return Study(self.name, found.table, self.columns)


BANKING77 = PublicSet(
    name="BANKING77: questions to a bank",
    file="banking77_answers.csv.gz",
    columns=Columns(
        "label",
        text="text",
        recorded=tuple(
            RecordedColumns(name, column, blank_is_failure=False)  # blank: it was not asked about that row
            for name, column in (
                ("Claude Sonnet 4.5", "claude_sonnet_45"),
                ("GPT-5.2", "gpt_52"),
                ("GPT-5 mini", "gpt_5_mini"),
            )
        ),
    ),
    shows="Where labels beat the LLM",
    holds="9,999 questions to a bank in 77 classes; three LLMs answered 500 of them.",
    lesson="A free classifier that learned from the labels is right about 20 points more often than the best of three "
    "LLMs, so they are not worth their money here, whatever it is.",
    source="Texts and labels: BANKING77 by PolyAI, CC-BY-4.0. Answers: Evaluating-LLM-on-Banking77-Intent-"
    "Classification by Dinesh0401, MIT.",
)

_SERVICES = (("Vader", 0.001), ("Amazon", 0.75), ("Google", 2.5), ("Baidu", 3.5))  # USD per 10,000 texts
YELP = PublicSet(
    name="YELP: moods of reviews",
    file="yelp_answers.csv.gz",
    columns=Columns(
        "label",
        id="id",
        recorded=tuple(
            RecordedColumns(
                name, f"{name.lower()}_label", confidence=f"{name.lower()}_confidence", price=per_10_000 / 10_000
            )
            for name, per_10_000 in _SERVICES
        ),
    ),
    shows="Where a cheaper model goes first",
    holds="20,000 reviews, good or bad; the answers of three paid services and a free word list, without the texts.",
    lesson="The dearest service is a coin toss. Asking Amazon before Google saves 23% of Google's price with one "
    "threshold and 26% with one for each class, and nobody could tell the difference in accuracy on 6,000 rows.",
    source="FrugalML by Lingjiao Chen, Matei Zaharia and James Zou, Apache-2.0, with the prices published there.",
)

SETS = (BANKING77, YELP)


def lesson_of(study: Study) -> PublicSet | None:
    """Return the public set that a study is of; None of any other."""
    return next((s for s in SETS if s.name == study.name and s.columns == study.columns), None)
