"""Data: load labelled texts, see what is in them, and fit the tiers that run here."""

import numpy as np
import pandas as pd
import streamlit as st

from hybrid.dashboard import answer, charts, controls, login, state, views, wording, working
from hybrid.dashboard.data import (
    asking,
    columns_panel,
    first_screen,
    gallery_panel,
    llm_panel,
    local_panel,
    privacy,
    questions_panel,
    small_model,
)
from hybrid.dashboard.data.rules_table import edit_rules
from hybrid.dashboard.inert import in_table, inert
from hybrid.data.join import join as join_tables
from hybrid.data.limits import UPLOAD
from hybrid.data.notes import Note
from hybrid.data.opening import SUFFIXES
from hybrid.data.read import Read, joined
from hybrid.errors import HybridError
from hybrid.metrics.summary import expected_calibration_error, share
from hybrid.study import gallery, reading
from hybrid.study.answer import is_unpriced
from hybrid.study.evidence import CLASSIFIER
from hybrid.study.naming import named
from hybrid.study.study import Study

TYPES = [*SUFFIXES, "gz"]
# kinds of tiers, and where their answers come from
ALONE = {"recorded": "recorded", "llm": "recorded here", "embedding": "fitted here"}
place = controls.open_page("Data")


def upload(label: str, key: str) -> tuple[str, str, Read] | None:
    """Draw an uploader; returns a token of the upload, the file's name and what it holds, or None."""
    file = st.file_uploader(
        label,
        TYPES,
        key=key,
        max_upload_size=UPLOAD.value(),
        help="CSV, TSV, JSON, JSONL, Parquet or Excel (.xlsx); .gz is fine.",
    )
    if file is None:
        return None
    header, sheet = (st.session_state.get(f"{key}.{what}.{file.file_id}") for what in ("header", "sheet"))
    try:
        found = working.read_once(file, f"{key}.read", header=header, sheet=sheet)
    except HybridError as error:
        controls.show_error(error)
        return None
    if len(found.sheets) > 1:
        st.selectbox("Sheet", found.sheets, key=f"{key}.sheet.{file.file_id}")
    if not found.headed or header is not None:
        st.checkbox("The first line holds the columns' names", found.headed, key=f"{key}.header.{file.file_id}")
    return f"{file.file_id} {found.headed} {found.sheet}", file.name, found


def show_draft(draft: state.Draft) -> None:
    """Draw a table that can be loaded: what its columns are, the models in it, a second file to join."""
    drawn = draft.study
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.caption("What each column is, as far as it can be told. Click to change one: the rest is looked at again.")
        button_here = st.container(width="content")
    load_here = st.container()  # above what belongs to it, so that the answer comes where one looks
    columns_panel.draw(draft)
    every = asking.offer_one_label(draft)  # first: columns of yes and no leave open which holds the right class
    if not asking.settle(draft, every=bool(every)):
        return
    columns = columns_panel.draw_models(draft)
    drawn.columns = columns  # so that they are there again after a look at another page
    columns_panel.draw_preview(drawn.table)
    st.markdown("**Add a second file** with recorded answers for some of the rows, or with more labelled rows")
    second = upload("Second file", "upload_second")
    if second is not None and st.button("Join it", icon=":material/join_inner:"):
        try:
            both = join_tables(drawn.table, second[2].table, first_columns=columns)
        except HybridError as error:
            controls.show_error(error)
        else:
            notes = (*drawn.joined, *second[2].notes, *both.notes)
            study = Study(f"{drawn.name} + {second[1]}", both.table, both.columns, notes=notes)
            state.draft(state.Draft(draft.token, study))
            st.rerun()
    for note in drawn.joined:
        st.caption(inert(f"{note.what} {note.done}"))
    small = state.wanted_embedder(len(drawn.table))
    label = f"Fit {wording.plural(len(every), 'question')}" if every else "Load and fit"
    pressed = button_here.button(label, type="primary", icon=":material/model_training:")
    with load_here:
        if pressed and every:
            if questions_panel.fit(draft, every, columns, small):
                st.rerun()
        elif pressed and controls.load_with_progress(
            lambda report: state.fit(drawn, columns, embedder=small, progress=report)
        ):
            st.rerun()


def show_loaded(study: Study) -> None:
    """Draw what was loaded: its size, what was found, how the classifier does."""
    dataset, parts = study.dataset, study.split
    st.write(
        f"**{dataset.n_rows:,} rows** in {len(dataset.classes):,} classes: {len(parts.tune):,} to choose on (tune), "
        f"{len(parts.test):,} held out to check it (test)."
        + (
            ""
            if dataset.texts is None
            else f" Exact duplicates: {dataset.n_duplicates:,}; near-duplicates: {dataset.near_duplicate_share:.1%}; "
            f"texts with conflicting labels: {dataset.n_conflicts:,}."
        )
    )
    st.page_link("pages/1_Tune.py", label="**Tune thresholds**", icon=":material/arrow_forward:")
    asking.offer_mending(study)
    if study.evidence.raw_confidence is not None:
        show_classifier(study)
    small_model.offer_refit(study)
    if any(t.kind in ALONE for t in study.tiers):
        show_alone(study)
    controls.warn_at_chance(study, [t for t in (study.cheap, study.llm) if t is not None])
    llm_panel.show(study)
    show_notes(study)
    with st.expander(f"Class balance ({len(dataset.classes)} classes)"):
        counts = np.bincount(dataset.truth, minlength=len(dataset.classes))
        figure = charts.class_balance_figure(dict(zip(dataset.classes, counts.tolist(), strict=True)))
        st.plotly_chart(figure, key="balance", config={"displayModeBar": False}, alt="Rows of each class.")
    if dataset.texts is not None:
        edit_rules(study)
        preview = {"text": dataset.texts[:200], "label": np.array(dataset.classes, dtype=object)[dataset.truth[:200]]}
        narrow = {name: st.column_config.Column(width="small") for name in ("id", "label")}
        st.dataframe(
            pd.DataFrame({"id": dataset.ids[:200], **preview}), hide_index=True, height=300, column_config=narrow
        )


def show_notes(study: Study) -> None:
    """Draw what was found in the file, and what could not be made of it; open where something is to be looked at."""
    problems, left_out = study.evidence.problems, study.evidence.left_out
    found = [*study.notes, *(Note(p, "", "warning") for p in problems), *(Note(p, "", "info") for p in left_out)]
    if not found:
        return
    warned = sum(n.level == "warning" for n in found)
    with st.expander(f"What was found, and what was done about it ({len(found)})", expanded=warned > 0):
        notes = [
            {"": "⚠" if n.level == "warning" else "i", "Found": n.what, "Done": n.done}
            for n in sorted(found, key=lambda n: n.level != "warning")
        ]
        st.table(in_table(pd.DataFrame(notes).set_index("")))  # its cells wrap: how to mend a thing is read whole


def show_classifier(study: Study) -> None:
    """Draw how good and how well calibrated the fast classifier is."""
    dataset, recording = study.dataset, study.evidence
    answers = recording.predictions.answers(recording.predictions.index(CLASSIFIER))
    right = answers.label == dataset.truth
    assert recording.raw_confidence is not None
    measure = named("accuracy", dataset.agreement_with and inert(dataset.agreement_with))
    parts = []
    for name, rows in (("test rows", recording.split.test), ("tune rows, out of fold", recording.split.tune)):
        worth = share(right[rows], dataset.group[rows])
        before = expected_calibration_error(recording.raw_confidence[rows], right[rows])
        after = expected_calibration_error(answers.confidence[rows], right[rows])
        parts.append(
            f"{measure} **{wording.percent(worth.value)}** ({wording.interval_text(worth)}) on {name}, its confidence "
            f"off by {100 * after:.1f} points on average ({100 * before:.1f} before it was calibrated)"
        )
    st.caption(
        f"**Fast classifier** (all tiers were fitted in {study.seconds:.1f} s): {'; '.join(parts)}.",
        help="Off by: the expected calibration error (ECE). In brackets: 95% confidence intervals.",
    )


def show_alone(study: Study) -> None:
    """Draw what each tier is worth alone; those that are fitted here on rows that they were not fitted on."""
    truth, group = study.dataset.truth, study.dataset.group
    rows = []
    for tier in study.tiers:
        if tier.kind in ALONE or tier.name == CLASSIFIER:
            answers = study.column(tier.name)[1]
            asked = ~np.isnan(answers.confidence)
            accuracy = share(answers.label[asked] == truth[asked], group[asked])
            rows.append(
                {
                    "Tier alone": tier.name,
                    "Answers": ALONE.get(tier.kind, "fitted here"),
                    "Rows": int(asked.sum()),
                    named("Accuracy", study.dataset.agreement_with): wording.percent(accuracy.value),
                    "95% CI": wording.interval_text(accuracy),
                    "USD per 1,000": "unknown" if is_unpriced(study, tier) else wording.dollars(1000 * tier.price),
                    "Seconds": "unknown"
                    if views.is_untimed(study, tier)
                    else wording.seconds(float(np.nanmean(answers.latency))),
                }
            )
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="content")


def show_settings(n_rows: int) -> None:
    """Draw what seldom needs a change: the models that run on this machine."""
    with st.expander("**Settings**: models on this machine"):
        small_model.draw(n_rows)
        local_panel.draw()


def whole_log(half: tuple[str, str, Read]) -> tuple[str, str, Read] | None:
    """Return an upload as it is; of half a log, with the other half once that is there, for which it draws a place."""
    if half[2].log is None or half[2].log.half is None:
        return half
    if str(st.session_state.get("upload.drafted", "")).startswith(half[0]):
        return None  # both are there
    other = "replies" if half[2].log.half == "requests" else "requests"
    st.info(
        f"{inert(half[1])} holds the {half[2].log.half} of {half[2].log.n_calls:,} calls. Add the file with the "
        f"{other}: the two are joined by the id of each call.",
        icon=":material/join_inner:",
    )
    second = upload(f"The {other} of this log", "upload_half")
    if second is None:
        return None
    try:
        return f"{half[0]} {second[0]}", f"{half[1]} + {second[1]}", joined(half[2], second[2])
    except HybridError as error:
        controls.show_error(error)
        return None


def draw_ways(*, is_first: bool) -> tuple[str, str, Read] | None:
    """Draw the ways to begin: one's own file, the sample, and public sets; returns what was uploaded."""
    columns = st.columns([5, 4, 4, 4] if is_first else [4, 3, 3, 3], gap="small")
    with columns[0].container(border=True, height="stretch"):
        st.markdown(
            "**Your own texts**  \nWith the right class of each; or an LLM's log: its answers are the classes then."
        )
        uploaded = upload("Labelled texts", "upload")
    with columns[1].container(border=True, height="stretch", vertical_alignment="distribute"):
        gallery_panel.draw_words(
            "The sample: tickets of a shop",
            "Where few texts need the LLM",
            "1,520 tickets in seven classes, with a large language model's recorded answers. The texts are invented.",
        )
        controls.sample_button("sample")
    for column, one in zip(columns[2:], gallery.SETS, strict=True):
        with column.container(border=True, height="stretch", vertical_alignment="distribute"):
            gallery_panel.draw(one)
    return uploaded


def draw_draft(draft: state.Draft, study: Study | None) -> None:
    """Draw a table that can be loaded; once it is, what its columns are can still be changed."""
    is_loaded = study is not None and study.table is draft.study.table
    with st.expander(
        f"**{inert(draft.study.name)}** · {len(draft.study.table):,} rows · {len(draft.study.table.columns)} columns: "
        + ("change the columns or add a file" if is_loaded else "check the columns, then load"),
        expanded=not is_loaded and not questions_panel.is_of(draft),
    ):
        show_draft(draft)


study, draft = state.study(), state.drafted()
is_first = study is None and draft is None
if is_first:
    first_screen.draw_heading()
else:
    st.title("Data" if study is None else inert(study.name))
looked_at = st.container()  # what was just read, or what was found, stands above the ways to begin anew
if is_first:
    uploaded = draw_ways(is_first=True)
else:
    with st.expander("**Other data**: a file of yours, the sample, public sets", icon=":material/folder_open:"):
        uploaded = draw_ways(is_first=False)

if uploaded is not None:
    with looked_at:
        uploaded = whole_log(uploaded)
if uploaded is not None and st.session_state.get("upload.drafted") != uploaded[0]:
    st.session_state["upload.drafted"] = uploaded[0]
    with looked_at, st.spinner("Looking at the columns …"):
        guessed = reading.guessed(uploaded[2])
    fresh = reading.studied(uploaded[1], uploaded[2], guessed.columns)
    sure = {} if uploaded[2].log is None else {"label": guessed.columns.label, "text": guessed.columns.text}
    state.draft(state.Draft(uploaded[0], fresh, guessed, picked=sure))
    if is_first:
        st.rerun()  # what was drawn is the screen of who has nothing yet
draft = state.drafted()
is_new = draft is not None and (study is None or study.table is not draft.study.table)
with looked_at:
    if draft is not None and questions_panel.is_of(draft):
        questions_panel.draw()
    if draft is not None and is_new:
        draw_draft(draft, study)
    if study is not None:
        gallery_panel.draw_lesson(study)
        answer.draw(study)
privacy.draw(len(draft.study.table) if draft else 0)
if is_first:
    first_screen.draw_lessons()
if is_first and (state.is_local() or login.user() is not None) and state.keeping() != "never":
    first_screen.draw_recent()
show_settings(len(draft.study.table) if draft else 0)
if draft is not None and not is_new:
    draw_draft(draft, study)
if study is not None:
    show_loaded(study)
    controls.draw_header(place, study)  # last: the answer may have made its policy the one at hand
