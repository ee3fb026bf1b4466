"""Support quality: how well rules, and LLMs whose words were kept, read tickets that were marked by hand."""

from __future__ import annotations

import json
from typing import NamedTuple

import streamlit as st

from hybrid.dashboard.inert import inert
from hybrid.dashboard.state import SAMPLE
from hybrid.dashboard.support import view as support_view
from hybrid.data.read import read
from hybrid.support import FIELDS, ExtractionSettings, RuleExtractor, SupportConfig
from hybrid.support.gold import FieldScore, GoldTicket, read_gold, score
from hybrid.support.llm_extraction import LLMExtractor, reader_settings
from hybrid.tiers.llm.replies import Reply

GOLD = SAMPLE.with_name("support_fields.jsonl")
LLM_WORDS = SAMPLE.with_name("support_llm_words.jsonl")


class LLMScores(NamedTuple):
    """How well a model reads some of the test tickets, and how well rules read the same ones."""

    model: str
    tickets: int
    scores: list[FieldScore]
    rules: list[FieldScore]


def show(config: SupportConfig) -> None:
    """Draw precision, recall and F1 of each field."""
    with st.expander("How well are fields read?"):
        scores, n = _rule_scores(config.extraction.model_dump_json())
        st.caption(
            f"Rules, with your patterns, on {n} tickets of the sample. Their fields were marked by hand before the "
            "rules were written, and the rules were corrected on other tickets only. The interval of F1 is the wider "
            "of a bootstrap over tickets and Wilson's."
        )
        st.dataframe(support_view.score_table(scores), hide_index=True, height="content")
        measured = _llm_scores()
        for model, n, by_llm, by_rules in measured:
            st.caption(
                f"**{inert(model)}**, whose words were kept, on {n} of these tickets, beside rules on the same ones."
            )
            st.dataframe(
                support_view.score_pair_table(by_llm, by_rules), hide_index=True, height="content", key=f"llm.{model}"
            )
        if not measured:
            st.caption("No LLM's reading of these tickets was recorded.")


@st.cache_data(max_entries=20, show_spinner=False)
def _rule_scores(extraction: str) -> tuple[list[FieldScore], int]:
    gold = gold_of("test")
    return rule_scores(gold, RuleExtractor(ExtractionSettings.model_validate_json(extraction))), len(gold)


def rule_scores(gold: list[GoldTicket], rules: RuleExtractor) -> list[FieldScore]:
    """Score rules on these tickets."""
    texts = gold_texts()
    return score([t.fields for t in gold], [rules.fields(texts[t.ticket_id]) for t in gold], list(FIELDS))


_llm_scores = st.cache_data(max_entries=1, show_spinner=False)(lambda: llm_scores())


def llm_scores() -> list[LLMScores]:
    """Score every model whose words were kept; what is no reading has found nothing."""
    if not LLM_WORDS.exists():
        return []
    rows = [json.loads(line) for line in LLM_WORDS.read_text(encoding="utf-8").splitlines()]
    texts, gold = gold_texts(), {t.ticket_id: t for t in gold_of("test")}
    found = []
    for model in dict.fromkeys(str(row["model"]) for row in rows):
        extractor = LLMExtractor(reader_settings(model))
        mine = [row for row in rows if row["model"] == model and row["id"] in gold]
        read_by = [extractor.read(texts[r["id"]], Reply(r["kind"], r["content"])).fields for r in mine]
        tickets = [gold[r["id"]] for r in mine]
        scores = score([t.fields for t in tickets], read_by, list(FIELDS))
        found.append(LLMScores(model, len(mine), scores, rule_scores(tickets, RuleExtractor())))
    return found


def gold_of(part: str) -> list[GoldTicket]:
    """Return the marked tickets of one part: ``dev``, on which the rules were written, or ``test``."""
    return [t for t in read_gold(GOLD.read_bytes()) if t.part == part]


def gold_texts() -> dict[str, str]:
    """Return the sample's tickets by id."""
    table = read(SAMPLE.name, SAMPLE.read_bytes()).table
    return dict(zip(table["id"].astype(str), table["text"].astype(str), strict=True))
