"""Lessons: the patterns on examples that can be checked by hand, and what such examples hide."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from hybrid.dashboard import controls, lessons, wording
from hybrid.dashboard.inert import inert
from hybrid.routing.engine import Outcomes
from hybrid.routing.table import UNKNOWN
from hybrid.routing.voting import STRATEGIES

PARTS = ("Triage", "Vote", "Cascade", "Router", "Tickets")
FIT = st.cache_resource(show_spinner="Fitting fifteen phrases …")(lessons.fit)


def messages(usual: Sequence[str], key: str) -> list[str]:
    """Draw a box for messages, one a line; returns them."""
    typed = st.text_area("Messages, one per line", "\n".join(usual), height=34 * len(usual) + 20, key=key)
    return [line.strip() for line in typed.splitlines() if line.strip()][:50] or list(usual)


def way(texts: Sequence[str], outcomes: Outcomes) -> None:
    """Draw each text with what was said of it, where it ended, and what that cost."""
    names, seen = outcomes.policy.names, outcomes.seen
    rows = []
    for i, text in enumerate(texts):
        row = {"Message": text}
        for j, name in enumerate(names):
            label, sure = seen.label[i, j], seen.confidence[i, j]
            said = "" if label == UNKNOWN else f"{lessons.CLASSES[label]} "
            row[name] = "not asked" if sure != sure else "asked" if name == lessons.LLM else f"{said}{sure:.2f}"
        ended = names[outcomes.tier[i]]
        row["Ends at"] = ended
        row["Cost"] = wording.dollars(float(outcomes.cost[i]))
        row["Waiting time"] = wording.seconds(float(outcomes.latency[i]))
        rows.append(row)
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    month = 100_000 * float(outcomes.cost.mean())
    alone = 100_000 * lessons.PRICES[lessons.LLM]
    st.caption(
        f"At 100,000 such messages a month {inert(wording.dollars(month))}; the LLM for everything would cost "
        f"{inert(wording.dollars(alone))}. The LLM is not asked here: only its price is known."
    )


def draw_triage(fitted: lessons.Fitted) -> None:
    """Draw the classifier of fifteen phrases before an LLM."""
    st.markdown("A classifier answers what it is sure of; the LLM gets the rest.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        threshold = st.slider("Confidence threshold", 0.0, 1.0, 0.85, 0.01, key="lesson.triage")
        measured = st.toggle("Confidence as it proves on phrases it has not seen", key="lesson.measured")
    with right:
        texts = messages(lessons.MESSAGES, "lesson.messages")
    way(texts, lessons.triage(fitted.calibrated if measured else fitted.raw, texts, threshold))
    a, b = st.columns(2)
    a.metric("Right on the phrases it was fitted on", wording.percent(fitted.seen), border=True)
    b.metric("Right on phrases it has not seen", wording.percent(fitted.unseen), border=True)
    st.info(
        f"Three hundred rows are fifteen phrases, each {lessons.COPIES} times. Tested on copies of what it has seen "
        f"the classifier is always right. Where no copy of a phrase was among its rows, right are {fitted.unseen:.0%}, "
        "less often than by guessing among five: hardly a word of one phrase helps with the next. Switch the toggle: a "
        "confidence that has learned this keeps nothing at any sensible threshold.",
        icon=":material/school:",
    )


def draw_vote() -> None:
    """Draw three models that vote about one message."""
    st.markdown(
        "Every model answers every message, and they vote. Change a vote and see the three ways of counting part."
    )
    said = []
    for column, (name, sure, price) in zip(st.columns(3), lessons.VOTES, strict=True):
        with column.container(border=True):
            st.markdown(f"**{name}** · {inert(wording.dollars(1000 * price))} per 1,000")
            label = st.selectbox("Says", lessons.CLASSES, 1, key=f"lesson.says.{name}")
            confidence = st.slider("as sure as", 0.0, 1.0, sure, 0.01, key=f"lesson.sure.{name}")
        said.append((name, label, confidence, price))
    rows = []
    for strategy in STRATEGIES:
        outcomes = lessons.votes(said, strategy)
        rows.append(
            {
                "Counted by": wording.words(strategy),
                "Answer": lessons.CLASSES[outcomes.label[0]],
                "Confidence": f"{outcomes.confidence[0]:.3f}",
                "Cost per 1,000": wording.dollars(1000 * float(outcomes.cost[0])),
            }
        )
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="content")
    st.info(
        "As it stands all three say billing, so no way of counting can differ: the example cannot show what it is for. "
        "And a vote pays for every model on every message, 17% more than its dearest member alone.",
        icon=":material/school:",
    )


def draw_cascade(fitted: lessons.Fitted) -> None:
    """Draw key words before a classifier before an LLM."""
    st.markdown("From cheap to dear: the first that is sure enough answers.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        first = st.slider("Threshold of the key words", 0.0, 1.0, 0.9, 0.01, key="lesson.first")
        second = st.slider("Threshold of the small model", 0.0, 1.0, 0.85, 0.01, key="lesson.second")
    with right:
        texts = messages(lessons.BILLS, "lesson.bills")
    way(texts, lessons.cascade(fitted.raw, texts, (first, second)))
    st.info(
        "The 0.99 of a key word was typed in, not counted: “you need not bill me” is billing too. Where such examples "
        "let a die stand in for the small model, its confidence says nothing, and a threshold on it draws lots; here "
        "the classifier of the fifteen phrases answers instead.",
        icon=":material/school:",
    )


def draw_router(fitted: lessons.Fitted) -> None:
    """Draw a gate that looks at a request first, and what the look costs."""
    st.markdown(
        "A gate looks at the request and picks who answers, before anybody is asked. The look is paid for each time."
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        threshold = st.slider("Easy enough for the classifier from", 0.0, 1.0, 0.85, 0.01, key="lesson.router")
        kept = st.slider("Texts that the router keeps from the LLM, %", 0, 100, 50, key="lesson.kept") / 100
        price = (
            st.number_input("The router costs, USD per 1,000", 0.0, 100.0, 0.3, 0.1, key="lesson.router_price") / 1000
        )
    with right:
        texts = messages(lessons.REQUESTS, "lesson.requests")
    way(texts, lessons.router(fitted.raw, texts, threshold))
    llm = lessons.PRICES[lessons.LLM]
    cost, least = lessons.with_router(kept, price=price, llm=llm)
    a, b = st.columns(2)
    change = f"{100 * (cost / (1000 * llm) - 1):+.0f}% against the LLM for everything"
    a.metric("Router and LLM, per 1,000", inert(wording.dollars(cost)), change, delta_color="inverse", border=True)
    b.metric("The router pays from", f"{least:.0%} kept from the LLM", border=True)
    st.info(
        "The score here is a rule of thumb of length, clauses and negations. An LLM as the router costs a tenth of the "
        "LLM behind it, so it has to keep a tenth of the texts away before it earns a cent. How hard a text looks is "
        "not whether the classifier is right about it. A gate that is trained on your rows asks just that.",
        icon=":material/school:",
    )


def draw_tickets() -> None:
    """Draw tickets that are classified, read and acted on."""
    st.markdown("Classify a ticket, read what is in it, look up what happens next.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        threshold = st.slider("Rules may read it from a confidence of", 0.0, 1.0, 0.85, 0.01, key="lesson.tickets")
    with right:
        texts = messages(lessons.TICKETS, "lesson.ticket_texts")
    found = lessons.tickets(texts, threshold)
    st.dataframe(
        pd.DataFrame(
            {
                "Ticket": t.text,
                "Category": f"{t.category} {t.confidence:.2f}",
                "Read by": t.reader,
                "Found by rules": ", ".join(f"{name} {value}" for name, value in t.fields) or "—",
                "Then": f"{t.action}{', by a person' if t.to_human else ''}",
            }
            for t in found
        ),
        hide_index=True,
    )
    st.info(
        "A key word gives 0.90 whatever stands around it, and a threshold of 0.85 lets each pass: try “the email "
        "said my package is broken”. The third ticket is the one that matters, and it is caught because nothing was "
        "known about it, not because anything understood it.",
        icon=":material/school:",
    )
    st.page_link("pages/5_Support.py", label="The same on your tickets", icon=":material/support_agent:")


controls.open_page("Lessons")
st.title("Hybrid patterns, small enough to check by hand")
st.markdown(
    "Everything below is decided by the engine that decides on your data. Change what you like, then read what the "
    "example does not say."
)
part = st.segmented_control(
    "Lesson", PARTS, default=PARTS[0], required=True, key="lesson", label_visibility="collapsed"
)
if part == "Vote":
    draw_vote()
elif part == "Tickets":
    draw_tickets()
else:
    {"Triage": draw_triage, "Cascade": draw_cascade, "Router": draw_router}[part](FIT())
