"""Support page: its parts, from the choice of tickets to the quality of what was read."""

from __future__ import annotations

from functools import partial

import streamlit as st

from hybrid.dashboard import trying, wording
from hybrid.dashboard.export import export
from hybrid.dashboard.inert import inert
from hybrid.dashboard.support import llm as support_llm
from hybrid.dashboard.support import run as support_run
from hybrid.dashboard.support import view as support_view
from hybrid.dashboard.support.run import NOT_YET, Batch, Kept
from hybrid.production.binding import Server
from hybrid.production.snippet import snippet
from hybrid.routing.engine import Policy
from hybrid.study.study import Study
from hybrid.support import SupportConfig, TicketAnalysis
from hybrid.support.fields import RULES
from hybrid.support.llm_extraction import LLMExtractor
from hybrid.support.packaging import add_to_bundle
from hybrid.support.pipeline import NO_LLM
from hybrid.support.results import to_csv, to_jsonl, total_by
from hybrid.tiers.llm.questions import settings_from

EXAMPLES = (
    "Please refund $49.99 charged on 2025-01-15\n"
    "My package tracking number XY123 shows no updates\n"
    "Your AI assistant gave me wrong medical advice and I want to speak to a manager about this serious issue"
)
PASTED, LOADED = "Paste", "Loaded data"
MOST_TYPED = 500


def say_if_stopped() -> None:
    """Say that a batch was left before it was done."""
    if st.session_state.pop("support_running", False):
        st.info("The batch was stopped before it was done. What an LLM read so far is kept.", icon=":material/cancel:")


def pick_tickets(study: Study, policy: Policy) -> Batch:
    """Draw the choice of tickets."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = st.segmented_control("Tickets", [PASTED, LOADED], default=PASTED, required=True, key="support_source")
        if source == LOADED:
            side = st.segmented_control("Rows", ["tune", "test"], default="test", required=True, key="support_rows")
            on = study.measure(policy, side).graded
            most = len(on.rows)
            if not most:
                return Batch(())
            n = st.number_input(f"The first, of {most:,}", 1, most, min(most, 1_000), key=f"support_n.{side}.{most}")
            return support_run.from_data(study, policy, side, int(n))
    # recorded tiers alone say nothing of a text that is not in the data
    any_text = trying.is_english(study) and len(study.external(policy)) < len(policy.names)
    typed = st.text_area(
        "Tickets, one per line; for longer ones, put a line of --- between them",
        EXAMPLES if any_text else "\n".join(trying.examples(study, 3)),
        height=130,
        key="support_typed",
    )
    st.button("Analyse them", type="primary", icon=":material/support_agent:")  # leaving the box submits, too
    batch = support_run.typed(typed)
    if len(batch.tickets) > MOST_TYPED:
        st.warning(f"The first {MOST_TYPED} of {len(batch.tickets):,} tickets are analysed. For more, load a file.")
        batch = Batch(batch.tickets[:MOST_TYPED])
    return batch


def results(
    study: Study, policy: Policy, config: SupportConfig, batch: Batch, llm: LLMExtractor | None
) -> list[TicketAnalysis] | None:
    """Return the analyses: made at once where they are few; an LLM is asked only when the button is pressed."""
    few = len(batch.tickets) <= support_run.AT_ONCE
    read = support_llm.kept(llm) if llm is not None else {}
    run = False
    if llm is not None or not few:
        asked = f" and let {inert(llm.name)} read the hard ones" if llm is not None else ""
        run = st.button(
            f"Run the batch of {len(batch.tickets):,}{asked}",
            type="primary",
            icon=":material/play_arrow:",
            key="support_run",
        )
    reader = Kept(llm, read, may_ask=run) if llm is not None else None
    key = support_run.key_of(study, policy, config, batch, f"{len(read)} read" if llm is not None else "")
    known = support_run.kept_results().get(key)
    if known is not None and not run:
        return known
    if not few and not run:
        return None
    # loaded here: a thread has no session to cache it in
    work = partial(support_run.analyse, trying.runtime(study, policy), config, batch, llm=reader)
    found = support_run.with_progress(key, lambda report: work(progress=report))
    if run and found is not None and llm is not None:  # what was read is part of the key by now
        key = support_run.key_of(study, policy, config, batch, f"{len(read)} read")
        support_run.kept_results()[key] = found
    return found


def show_notes(study: Study, policy: Policy, analyses: list[TicketAnalysis]) -> None:
    """Say what the numbers rest on: what is simulated, what could not be asked, and who read the hard tickets."""
    simulated = [inert(t.name) for t in policy.tiers if t.simulated]
    if simulated:
        st.markdown(
            f":orange-badge[:material/science: simulated] The answers, prices and times of **{', '.join(simulated)}** "
            "are made up as set under What if on Tune."
        )
    absent = study.external(policy)
    silent = sum(a.category is None for a in analyses)
    if absent and silent:
        st.caption(
            f":material/info: {', '.join(map(inert, absent))} cannot be asked here: on a ticket of your data it "
            "repeats what it said there, on any other it stays silent: "
            f"{silent:,} of {len(analyses):,} tickets have no category."
        )
    unread = sum(a.problem == NO_LLM for a in analyses)
    if unread:
        st.info(
            f"{unread:,} of {len(analyses):,} tickets are hard ones that an LLM should read. None is set up, so rules "
            "read them, and nobody looked for urgency, sentiment, issues or the need of a person. Nothing is simulated "
            "in its place, and its cost is not in these numbers.",
            icon=":material/neurology:",
        )
    waiting = sum(a.problem.startswith(NOT_YET) for a in analyses)
    if waiting:
        st.info(f"{waiting:,} hard tickets are not read by the LLM yet: press the button.", icon=":material/neurology:")
    failed = [a.problem for a in analyses if a.problem and a.problem != NO_LLM and not a.problem.startswith(NOT_YET)]
    if failed:
        st.warning(
            f"{len(failed):,} tickets could not be read by the LLM. The first: {inert(failed[0])}",
            icon=":material/error:",
        )


def show_totals(analyses: list[TicketAnalysis], policy: Policy) -> None:
    """Draw the tiles and the tables of what the batch adds up to."""
    n = len(analyses)
    by_rules = sum(a.depth == RULES for a in analyses)
    human = sum(a.to_human for a in analyses)
    cost = sum(a.cost for a in analyses)
    mark = " · simulated" if policy.simulated else ""
    tiles = st.container(horizontal=True, key="tiles")
    tiles.metric("Tickets", f"{n:,}", border=True)
    tiles.metric("Easy: rules read them", wording.percent(by_rules / n), border=True)
    tiles.metric("Sent to a person", wording.percent(human / n), border=True)
    tiles.metric(f"Cost per 1,000{mark}", wording.dollars(1000 * cost / n), border=True)
    reading = sum(s.cost for a in analyses for s in a.trace if s.name == "extract")
    if reading:
        tiles.metric("of it, reading by the LLM", wording.dollars(1000 * reading / n), border=True)
    money = st.column_config.NumberColumn(format="$%.3f")
    config = {"Share": st.column_config.NumberColumn(format="percent"), "USD": money, "USD per 1,000": money}
    left, right = st.columns(2)
    for place, title, attribute in (
        (left, "Per action", "action"),
        (right, "Per category", "category"),
        (left, "Per tier and reader", "routing_tier"),
        (right, "Per depth", "depth"),
    ):
        with place:
            st.subheader(title)
            st.dataframe(
                support_view.total_table(title[4:].capitalize(), total_by(analyses, attribute)),
                hide_index=True,
                column_config=config,
                height="content",
            )


def show_ticket(analyses: list[TicketAnalysis]) -> None:
    """Draw the list of tickets, and one of them stage by stage."""
    st.subheader("Ticket by ticket")
    actions = sorted({a.action for a in analyses})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        only = st.selectbox("Action", ["any", *actions], key="support_action")
        shown = [a for a in analyses if only in ("any", a.action)]
        at = st.selectbox(
            "Ticket", range(len(shown)), format_func=lambda i: f"{shown[i].ticket_id} · {shown[i].text[:60]}"
        )
    if at is None:
        st.info("No ticket has this action now.")
        return
    one = shown[at]
    with st.container(border=True, key="ticket"):
        st.html(support_view.marked(one))
        left, middle, right = st.columns(3)
        left.metric(
            "Category",
            inert(one.category or "no answer"),
            f"{one.confidence:.3f} confident",
            delta_color="off",
            delta_arrow="off",
        )
        middle.metric("Read by", inert(one.routing_tier), f"{one.depth} wanted", delta_color="off", delta_arrow="off")
        right.metric(
            "Action", inert(one.action), "to a person" if one.to_human else None, delta_color="off", delta_arrow="off"
        )
        st.text(f"Fired: {one.rule}")
        if one.insight is not None:
            st.text(
                f"Urgency {one.insight.urgency} · sentiment {one.insight.sentiment:+.2f} · "
                f"{'needs' if one.insight.requires_human else 'does not need'} a person · "
                f"{'; '.join(one.insight.key_issues)}"
            )
        if one.problem:
            st.caption(f":material/info: {inert(one.problem)}")
        st.dataframe(support_view.stage_table(one), hide_index=True, height="content")
        if one.fields:
            st.dataframe(support_view.field_table(one), hide_index=True, height="content")
    with st.expander(f"All {len(shown):,} as a table"):
        st.dataframe(support_view.ticket_table(shown), hide_index=True, height=360)


def show_downloads(
    study: Study, policy: Policy, config: SupportConfig, batch: Batch, analyses: list[TicketAnalysis]
) -> None:
    """Draw the buttons that hand results and pipeline out."""
    st.subheader("Take it with you")
    with st.container(horizontal=True):
        for label, make, name, mime in (
            ("Results as CSV", to_csv, "support_results.csv", "text/csv"),
            ("Results as JSON lines", to_jsonl, "support_results.jsonl", "application/x-ndjson"),
        ):
            st.download_button(
                label, partial(make, analyses), name, mime, icon=":material/download:", on_click="ignore"
            )
        content = export.bundle(study, policy)  # made here: what a button calls has no session to cache it in
        name = export.file_name(policy).replace(".zip", "-support.zip")
        texts = [text for _, text in batch.tickets[:200]]
        st.download_button(
            "The pipeline in its bundle",
            partial(add_to_bundle, content, config, texts),
            name,
            "application/zip",
            type="primary",
            icon=":material/inventory_2:",
            on_click="ignore",
        )
    reader = settings_from(config.llm) if config.llm is not None else None
    st.code(
        snippet(
            name,
            policy,
            classes=study.dataset.classes,
            models=study.models,
            llms=study.llm_models,
            load="hybrid.SupportPipeline.load",
            then='ticket = pipeline("Please refund $49.99 charged on 2025-01-15")\n'
            "print(ticket.category, ticket.action, ticket.extracted, ticket.cost)",
            also={reader.name: Server(reader.base_url, reader.key_variable)} if reader is not None else None,
        ),
        language="python",
    )
