"""How fast the rules path of the support pipeline is, and which part of it takes the time.

Run from the project's folder: ``python tests/benchmarks/support.py``. Prints medians of repeated runs over the sample's
tickets; the alternative in the same run finds the same kinds of fields with one library for each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from hybrid import load
from hybrid.data.columns import Columns
from hybrid.data.dataset import build
from hybrid.data.read import read
from hybrid.data.split import split
from hybrid.production.bundle import save_bundle
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.study.evidence import CLASSIFIER, RULES, record
from hybrid.support import RuleExtractor, SupportPipeline, default_config
from hybrid.support.pipeline import facts_of

SAMPLE = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"


def median_seconds(work, repeats):
    """Return the median CPU time of calls, in seconds, after one that is not counted: others may use the machine."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def pipeline_of(dataset, recording):
    """Return a pipeline in which rules read every ticket: two local tiers, and every category simple."""
    test = recording.split.test
    tiers = recording.predictions.select([RULES, CLASSIFIER]).tiers
    bundle = save_bundle(
        policy=Policy(Triage(0.85), tiers),
        classes=dataset.classes,
        models=recording.models,
        texts=list(dataset.texts[test]),
        recorded=recording.predictions.take(test),
        evidence={},
    )
    config = default_config(dataset.classes)
    every = {"simple_categories": tuple(dataset.classes), "easy_tiers": (RULES, CLASSIFIER)}
    return SupportPipeline(load(bundle), config.model_copy(update=every))


def search_dates_with_a_library(texts):
    """Find dates with dateparser, which is not a dependency; None where it is not installed."""
    try:
        from dateparser.search import search_dates
    except ImportError:
        return None
    return lambda: [search_dates(t, languages=["en"]) for t in texts]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--tickets", type=int, default=1520)
    given = arguments.parse_args()
    dataset = build(read(SAMPLE.name, SAMPLE.read_bytes()).table, Columns("label", text="text", id="id"))
    recording = record(dataset, split(dataset))
    flow = pipeline_of(dataset, recording)
    texts = [str(t) for t in dataset.texts[: given.tickets]]
    rules = RuleExtractor(flow.config.extraction)
    decisions = flow.runtime.decide(texts)
    read_before = [flow._by_rules(t) for t in texts]

    def act():
        for text, decision, extraction in zip(texts, decisions, read_before, strict=True):
            flow.config.actions.decide(decision.label, facts_of(text, decision, extraction))

    whole = median_seconds(lambda: flow.analyze(texts), given.repeats)
    parts = {
        "classify": median_seconds(lambda: flow.runtime.decide(texts), given.repeats),
        "extract by rules": median_seconds(lambda: [rules.fields(t) for t in texts], given.repeats),
        "look the action up": median_seconds(act, given.repeats),
    }
    assert all(a.depth == "rules" for a in flow.analyze(texts))
    n = len(texts)
    length = np.mean([len(t) for t in texts])
    print(f"{n:,} tickets of {length:.0f} characters on average, medians of CPU time over {given.repeats} runs")
    print(f"whole rules path      {n / whole:>9,.0f} tickets/s  {1e6 * whole / n:>7.0f} µs a ticket")
    for name, seconds in parts.items():
        each = 1e6 * seconds / n
        print(f"  {name:<20}{n / seconds:>9,.0f} tickets/s  {each:>7.0f} µs a ticket  {seconds / whole:>5.0%}")
    one = median_seconds(lambda: flow(texts[0]), given.repeats)
    print(f"one ticket at a time  {1 / one:>9,.0f} tickets/s  {1e6 * one:>7.0f} µs")
    other = search_dates_with_a_library(texts[:100])
    if other is not None:
        seconds = median_seconds(other, 1)
        ours = median_seconds(lambda: [rules.fields(t) for t in texts[:100]], given.repeats)
        print(f"dateparser, dates alone: {1e4 * seconds:,.0f} µs a ticket, {seconds / ours:.0f} times all fields here")


if __name__ == "__main__":
    main()
