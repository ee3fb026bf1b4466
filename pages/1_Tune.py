"""Tune: pick a pattern, drag its thresholds, and see at once what it does."""

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from hybrid.dashboard import assumptions, charts, class_table, controls, state, tiles, views, wording
from hybrid.dashboard.inert import inert
from hybrid.dashboard.tune import (
    axes,
    certify_panel,
    class_sliders,
    flow,
    human_panel,
    scope_panel,
    start,
    suggest_panel,
    threshold_line,
)
from hybrid.dashboard.tune.axes import Axis
from hybrid.metrics.curve import Surface, with_threshold
from hybrid.production.bundle import pattern_name
from hybrid.routing.engine import Policy, Threshold, answering
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER
from hybrid.study.graded import held
from hybrid.study.study import Study

MAP_LEVELS = 41  # of each threshold; those of the data's own confidences come on top
HEIGHT = 440  # pixels of the charts: with the tiles above they fit on one screen
MANY = 5  # thresholds above which a list takes the place of buttons
PANELS = ("suggest_open", "certify_open", "scope_open", "bar_link")  # open, they show the policy at hand


def switch() -> None:
    """Take over what can be of the policy at hand when another pattern is picked."""
    study = controls.require_study()
    before, pattern, left = study.policy, st.session_state["pattern"], start.left(study)
    if before is None:
        return
    left[pattern_name(before.pattern)] = before
    after = start.switched(study, before, pattern, left.get(pattern))
    if after is not None and pattern_name(after.pattern) == pattern:
        controls.show(after, study.classes)
        state.use(after)
        st.session_state["shown_policy"] = study.policy


def say_alone(study: Study, policy: Policy) -> None:
    """Say that one tier answers everything, and offer a pattern that has something to drag."""
    st.info(
        f"**{inert(policy.own[0].name)}** answers every text, so there is no threshold to drag. "
        "Pick another tier beside it, or another pattern.",
        icon=":material/looks_one:",
    )
    usual = study.start("triage")
    if usual is not None:
        cheap, strong = map(inert, usual.names)
        best = start.recommended(study, usual) or usual
        st.button(f"Try {cheap} before {strong}", icon=":material/tune:", key="try", on_click=state.use, args=(best,))


def take(policy: Policy) -> None:
    """Make a policy the one at hand, as the controls show it."""
    state.use(policy)
    st.session_state["shown_policy"] = study.policy


place = controls.open_page("Tune")
study = controls.require_study()
start.begin(study)
shown = st.session_state.get("shown_policy") if "pattern" in st.session_state else None  # a left page forgets
if shown != study.policy and study.policy is not None:
    controls.show(study.policy, study.classes)  # it was set elsewhere: by a suggestion, a link, another page
st.session_state.setdefault("pattern", "triage")
rail, stage = st.columns([1, 3], gap="medium")
with rail:
    pattern = st.segmented_control(
        "Pattern",
        list(PATTERNS),
        required=True,
        format_func=lambda name: PATTERNS[name].title,
        key="pattern",
        on_change=switch,
    )
    kind = PATTERNS[pattern]
    st.caption(kind.summary)
    if study.late or study.missing:
        controls.say_missing(study)
    if study.missing:
        assumptions.pick(study)
        st.stop()
    policy_here = st.container()  # filled after What if, which may add a tier
    buttons_here = st.container(horizontal=True, gap="small", vertical_alignment="center")
    with buttons_here:
        assumptions.pick(study)
    with policy_here:
        tiers = controls.pick_tiers(pattern, kind, study)
        policy = None if tiers is None else controls.pick_policy(pattern, kind, tiers, study, drawn=False)
        if tiers is not None and policy is None:
            controls.pick_policy(pattern, kind, tiers, study)  # says why there is none
    if policy is not None:
        with buttons_here:
            policy = scope_panel.pick(study, policy)
    statistics = controls.statistics_switch()
if tiers is None or policy is None:
    st.stop()
take(policy)
terms, side = study.terms, study.headline(policy).side

if views.summary(study, policy, "tune") is None:
    stage.warning(
        f"No tune row has an answer from all of {', '.join(map(inert, policy.names))}, in the class mix that you set. "
        "Pick other tiers, add a file with their answers on the Data page, or reset the mix under What if."
    )
    st.stop()
best = start.recommended(study, policy)
simulated = views.simulated(policy)
with buttons_here:
    suggest_panel.controls(study, policy)
    certificate = certify_panel.controls(study, policy)
    if st.button("Pin", icon=":material/push_pin:", help=f"Keep it for Compare; {len(study.pinned)} pinned so far"):
        fresh = study.pin(policy)
        state.save()
        st.caption(f"Pinned as {study.pins[-1].name}." if fresh else "This policy is pinned already.")
beside = views.saying(study, policy, statistics=statistics)
bar_here = controls.open_header(place)
with stage:
    suggest_panel.progress(study)
    certify_panel.progress()
    strip = st.container(key="strip")
    chart_here = st.container()
    axes_here = st.container(horizontal=True, vertical_alignment="bottom")  # below what takes the first screen


def lines_of(policy: Policy) -> list[Threshold]:
    """Return the thresholds that the curves can be drawn over: the common one last decides about no class."""
    own = class_sliders.lines(policy, study.classes)
    return own if len(own) == len(study.classes) else [*policy.thresholds(), *own]


own, lines = class_sliders.lines(policy, study.classes), lines_of(policy)
which, scale_name = 0, axes.PLAIN
if lines:
    with axes_here:
        if len(lines) > 1:
            titles = [line.title for line in lines]
            start_at = len(titles) - 1
            if own:  # the class that is predicted most often: its line moves most
                often = {r.code: r.n_rows for r in study.measure(policy, "tune").graded.by_predicted_class(policy)}
                start_at = len(lines) - len(own) + int(np.argmax([often.get(x.index or 0, 0) for x in own]))
            if len(lines) > MANY:
                picked = st.selectbox("Draw the curves over", titles, start_at, key=f"{pattern}.axis.list", width=330)
            else:
                picked = st.segmented_control(
                    "Draw the curves over",
                    titles,
                    default=titles[start_at],
                    required=True,
                    format_func=inert,
                    key=f"{pattern}.axis",
                )
            which = titles.index(picked)
        scale_name = st.segmented_control(
            "Horizontal axis", list(axes.NAMES), default=axes.PLAIN, required=True, key="axis"
        )
    line = lines[which]
    plain, curve, axis = views.threshold(study, policy, line, scale_name)
    star = start.star_of(best, line)
    fixed = (study.token, held(policy, line), line.title, scale_name, star, views.is_dark())
class_of = {class_table.slider_key(pattern, study.classes[x.index]): study.classes[x.index] for x in own}
keys = [
    class_table.slider_key(pattern, study.classes[x.index]) if x in own else controls.slider_key(pattern, x)
    for x in lines
]
pair = ()  # of the map
if len(lines) > 1 and not own:
    other = next(x for x in lines if x is not line)
    pair = tuple(sorted((line, other), key=lines.index))
    stars = tuple(start.star_of(best, x) for x in pair)
    still = (study.token, held(policy, *pair), scale_name, stars, views.is_dark())


def put(key: str, value: float) -> None:
    """Set a threshold that was dragged."""
    if key in class_of:
        class_sliders.put(pattern, class_of[key], value)
    else:
        st.session_state[key] = value


def rest_of(policy: Policy) -> object:
    """Return what the page hangs on beside the threshold that the curves are drawn over."""
    off = [x.value is None for x in policy.thresholds()]
    return held(policy, *lines[which : which + 1]), off, study.can_undo, st.session_state.get("save_problem")


parts, rest, whole = {}, rest_of(policy), True


@st.fragment
def release() -> None:
    """Draw what moves with the threshold that the curves are drawn over; after a drag, this alone is run."""
    if not whole and st.session_state["shown_policy"] != study.policy:
        st.rerun()  # a button here set another
    with policy_here:
        now = controls.pick_policy(pattern, kind, tiers, study)
    if now is not None and policy.scope is not None:
        now = now.within(policy.tiers[0], policy.scope)
    if not whole:
        if now is not None:
            take(now)
        is_shown = any(map(st.session_state.get, (*PANELS, class_table.switch_key(pattern))))  # and not by this
        if now is None or is_shown or rest_of(now) != rest:
            st.rerun()
    draw_moving(now)


def draw_moving(now: Policy) -> None:
    """Draw what a threshold moves, of the policy as it is now."""
    chosen = views.summary(study, now, "tune")
    summary = views.summary(study, now, side) or chosen
    if best is not None and any(x.value is not None for x in now.thresholds()):
        at = wording.short(best).removeprefix(kind.title).strip()
        policy_here.button(
            f"★ Recommended: {inert(at)}",
            key="to_star",
            type="tertiary",
            disabled=best == now,
            on_click=state.use,
            args=(best,),
            help=f"The star on the axis: {start.goal_of(study).words}, on tune rows. A drag near it lands on it.",
        )
    moving, point = moving_of(now)
    with strip:
        tiles.draw(summary, terms, tune=chosen if side == "test" else None, policy=now, saying=beside)
        with st.container(key="flow"):
            flow.draw(moving, point)
    controls.say_policy(bar_here, study)
    suggest_panel.result(study, now)
    certify_panel.result(study, now, certificate)
    if simulated:
        st.markdown(
            f":orange-badge[:material/science: simulated] Every number that involves "
            f"**{', '.join(map(inert, simulated))}** is made up at the accuracy, price and latency that you set under "
            "What if."
        )
    with st.container(key="verdict"):
        if len(now.own) > 1:
            controls.show_gain(study, now, simulated=bool(simulated))
        else:
            say_alone(study, now)
    controls.warn_at_chance(study, [t for t in answering(now.tiers) if t.kind != "rules"])
    scope_panel.result(study, now)
    human_panel.show_load(study, now)
    mixed = views.mix_note(study, now)
    if mixed:
        st.caption(mixed)
    if beside.unpriced:
        st.caption(
            f":material/payments: No price is known for {', '.join(map(inert, beside.unpriced))}: the curve of cost "
            "counts its answers as $0. Set it under What if."
        )
    state.write_address()
    if lines:
        if not parts:
            parts.update(parts_of(moving))
        dragged = zip(keys, lines_of(now), strict=True)
        values = {key: x.value for key, x in dragged if not own or key == keys[which]}
        threshold_line.mount(values, tiles.TARGETS | moving.targets, parts, put=put)


def moving_of(now: Policy) -> tuple[flow.Flow, int]:
    """Return where texts end along the threshold that the curves are drawn over, and the point that it is at."""
    dragged = lines_of(now)[which] if lines else None
    if dragged is None or dragged.value is None:
        return flow.flow_of(study.headline(now).graded, now), 0
    points, moving = views.along(study, now, dragged)
    return moving, int(np.searchsorted(points.threshold, dragged.value))


def parts_of(moving: flow.Flow) -> dict[str, threshold_line.Part]:
    """Return what the script needs of the figures."""
    found = {}
    if line.value is not None:
        shown, _ = views.along(study, policy, line)
        found["line"] = views.once(
            repr(("line", fixed, terms, beside)),
            lambda: threshold_line.line(
                shown,
                key=keys[which],
                label=line.title,
                axis=axis,
                panels=[(y, tint) for y, tint, _ in charts.panels(shown, dark=views.is_dark())],
                live=views.said_along(study, policy, line, shown, terms, beside) | moving.texts(),
                bars=moving.widths(),
                star=star,
            ),
        )
    if pair:
        *_, found["map"] = read_map(moving)
    return found


def read_map(moving: flow.Flow) -> tuple[tuple[Axis, ...], Surface, threshold_line.Part]:
    """Return the map's axes, its surface, and what its script needs."""

    def read() -> tuple[tuple[Axis, ...], Surface, threshold_line.Part]:
        passed = policy  # every row reaches both thresholds: where they stand is not in the picture
        for x in pair:
            passed = with_threshold(passed, x.name, x.index, NEVER)
        curves = [study.measure(passed, "tune").curve(x) for x in pair]
        levels = tuple(
            np.unique([*np.arange(MAP_LEVELS) / (MAP_LEVELS - 1), *c.thin(20).threshold, NEVER]) for c in curves
        )
        surface, said, over = views.over(study, policy, pair, levels, beside, moving.parts)
        axes_ = tuple(Axis(scale_name, c) for c in curves)
        part = threshold_line.map_(
            surface,
            keys=tuple(keys[lines.index(x)] for x in pair),
            label=" and ".join(x.title for x in pair),
            axes=axes_,
            live=said,
            bars=over,
            stars=stars if None not in stars else None,
        )
        return axes_, surface, part

    return views.once(repr(("map", still, terms, beside, moving.parts)), read)


with stage:
    release()
whole = False
controls.draw_header_buttons(bar_here, study)
if not lines:
    st.stop()


def draw_curves() -> None:
    """Draw the curves with what stands still while the line moves."""
    figure = go.Figure(certify_panel.mark(plain, axis, certificate)).update_layout(height=HEIGHT)
    if star is not None:
        charts.add_star(figure, float(axis.position([star])[0]), axis.range)
    st.plotly_chart(
        figure,
        key="curves",
        config={"displayModeBar": False},
        alt=f"Accuracy, escalation rate and cost per 1,000 texts against: {line.title}. "
        f"The tiles above tell the numbers at the threshold that is set.",
    )


def draw_map() -> None:
    """Draw the map with what stands still while its point moves."""
    drawn = charts.map_figure(surface, axes=map_axes, titles=tuple(x.title for x in pair))
    if None not in stars:
        charts.add_star_to_map(drawn, [float(a.position([s])[0]) for a, s in zip(map_axes, stars, strict=True)])
    drawn = charts.renamed(drawn, study.dataset.agreement_with)
    st.plotly_chart(
        certify_panel.mark_map(drawn, map_axes, certificate).update_layout(height=HEIGHT),
        key="map",
        config={"displayModeBar": False},
        alt=f"Accuracy over {pair[0].title} and {pair[1].title}, with lines of equal cost. Drag the point.",
    )


certified = certificate and (certificate.lowest, certificate.highest)
right = chart_here
if pair:
    map_axes, surface, _ = read_map(moving_of(policy)[0])
    path = certificate and (certificate.path, study.dataset.agreement_with)
    left, right = chart_here.columns([2, 3])
    with left:
        views.once(repr(("map drawn", still, path)), draw_map)
with right:
    views.once(repr(("curves", fixed, study.dataset.agreement_with, line.value is None, certified)), draw_curves)
threshold_line.send(parts)
with stage:
    if any(p.per_class for p in kind.params()):
        class_sliders.draw(study, policy, pattern)
    if line.value is None:
        st.caption(
            f"“{inert(line.title)}” is off: the curves show what it would do when on, the dotted lines the policy as "
            "set."
        )
    on = study.measure(policy, "tune").graded
    fold = (
        "; the answers of models that were fitted here are out of fold" if set(policy.names) & set(study.models) else ""
    )
    luck = ": there are no test rows with every answer"
    if side == "test":
        luck = ", which had no part in finding the star; whoever drags long by them chooses on them"
    st.caption(
        f"Drag the line, or step with the arrow keys through every threshold at which something changes. Curves are "
        f"of {len(on):,} of {on.n_side:,} tune rows (those that every tier answered"
        f"{', in the class mix that you set' if terms.mix else ''}){fold}. The large numbers are of {beside.rows}"
        f"{luck}."
    )
