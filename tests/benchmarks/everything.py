"""Everything: what the search over every way finds beside routers that learn which tier will be right.

    python tests/benchmarks/everything.py PATH [SEEDS] [--only NAME] [--learned]
    python tests/benchmarks/everything.py --time
    python tests/benchmarks/everything.py --brute PROBLEMS
    python tests/benchmarks/everything.py --shrink RUNS

PATH holds `frugalml/` and `banking77_llm_mipro.csv`; see `public_data`. Each set is cut in halves by seed: chosen on
one, measured on the other. The goal is the cheapest policy that is as accurate as the best tier alone on the tune half.

The rivals see what is known before anyone is paid: the free tier's label and confidence, and features of the text. A
random forest, and nearest neighbours, predict for each tier whether it is right; a row goes to the tier with the best
prediction less a price times its cost. Beside what each rival does at the price chosen on tune (out of fold), it is
given the cheapest price that reaches our accuracy on the test half itself, which no user could know.

A search's time is counted in CPU seconds of this process, so that others on the machine change nothing. With --learned
FrugalML's services get the confidence that the product learns of them, out of fold, instead of their own score.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hybrid.routing.engine import Policy, answering, replay
from hybrid.routing.patterns import Triage
from hybrid.routing.table import NEVER, UNKNOWN, Answers, Predictions, Tier
from hybrid.tiers.confidence import fit_confidence
from hybrid.tuning import Goal, Labelled, every_way, recommend
from hybrid.tuning.explore import Explorer, from_cheap
from hybrid.tuning.goals import violation
from hybrid.tuning.search import search, search_by_class
from hybrid.tuning.states import states_of

PRICES = np.concatenate([[0.0], np.geomspace(1e-2, 1e6, 400)])  # accuracy a USD
RIVALS = {
    "random forest": lambda: RandomForestClassifier(60, min_samples_leaf=5, random_state=0),
    "25 neighbours": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier(25)),
}


def graded(n, k, *, seed=0, n_classes=10):
    """Make up k tiers of graded price and skill, the first free, and three features that tell how hard a row is."""
    rng = np.random.default_rng(seed)
    truth, hard = rng.integers(0, n_classes, n), rng.normal(size=n)
    skill = np.linspace(-0.3, 2.6, k) + np.random.default_rng(99).normal(scale=0.35, size=k)
    price = np.concatenate([[0.0], np.geomspace(2e-5, 5e-3, k - 1)])
    answers, tiers = [], []
    for j in range(k):
        p = 1 / (1 + np.exp(-1.9 * (skill[j] - hard) - rng.normal(size=n)))
        p = (1 + (n_classes - 1) * p) / n_classes
        label = np.where(rng.random(n) < p, truth, (truth + 1 + rng.integers(0, 3, n)) % n_classes)
        sure = 1 / (1 + np.exp(-np.log(p / (1 - p)) - rng.normal(scale=0.7, size=n)))
        cost = price[j] * rng.lognormal(sigma=0.3, size=n)
        answers.append(Answers(label, np.round(np.clip(sure, 0.01, 0.999), 2 if j else 3), cost, np.full(n, 0.1 * j)))
        tiers.append(Tier(f"llm {j}" if j else "classifier", "recorded" if j else "classifier", float(price[j])))
    features = hard[:, None] + rng.normal(scale=(0.7, 1.0, 2.0), size=(n, 3))
    return Predictions.from_answers(tiers, tuple(map(str, range(n_classes))), answers), truth, features


def with_gate(table, truth, features, tune):
    """Add a gate: out of fold on tune, whether the free tier is right, from the features and its confidence."""
    seen = np.column_stack([features, table.confidence[:, 0]])
    right = table.label[:, 0] == truth
    score = np.empty(len(truth))
    score[tune] = cross_val_predict(LogisticRegression(), seen[tune], right[tune], cv=5, method="predict_proba")[:, 1]
    rest = np.setdiff1d(np.arange(len(truth)), tune)
    score[rest] = LogisticRegression().fit(seen[tune], right[tune]).predict_proba(seen[rest])[:, 1]
    none = np.zeros(len(truth))
    gate = Answers(np.full(len(truth), UNKNOWN), np.round(score, 4), none, none)
    columns = [table.answers(j) for j in range(len(table.tiers))]
    return Predictions.from_answers((*table.tiers, Tier("gate", "gate")), table.classes, [*columns, gate])


def frugal(path, name):
    """Read one of FrugalML's sets: the free model first."""
    from public_data import frugal as read

    table, truth = read(path, name)
    order = np.argsort(table.cost.mean(axis=0), kind="stable")
    table = table.select([table.tiers[j].name for j in order])
    features = np.column_stack([table.label[:, 0], table.confidence[:, 0]])
    return table, truth, features


def banking(path, seed):
    """Read BANKING77's rows that three LLMs answered, with the classifier's and the gate's answers out of fold."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    from hybrid.data.columns import Columns, RecordedColumns
    from hybrid.study.study import Study

    frame = pd.read_csv(path / "banking77_llm_mipro.csv", dtype=str).fillna("")
    side = np.where(np.random.default_rng(seed).permutation(len(frame)) % 2 == 0, "train", "test")
    frame["split"] = side
    prices = {"claude45sonnet": 0.003, "gpt52": 0.002, "gpt5mini": 0.0003}
    recorded = tuple(RecordedColumns(n, n, price=p) for n, p in prices.items())
    study = Study(
        "banking", frame.astype(object), Columns("label", text="text", split="split", recorded=recorded)
    ).fit()
    every = np.arange(study.dataset.n_rows)
    table = study.table_of([t.name for t in study.tiers], every)
    texts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(study.dataset.texts)
    features = TruncatedSVD(30, random_state=0).fit_transform(texts)
    return table, study.dataset.truth, features, study.split.tune, study.split.test


class Router:
    """A rival: a model for each tier that predicts from features whether it is right."""

    def __init__(self, make, table, truth, features, tune, test):
        self.columns = [j for j, t in enumerate(table.tiers) if t.kind not in ("gate", "rules")]
        free = self.columns[0]
        seen = np.column_stack([features, table.confidence[:, free]])
        right = table.label == truth[:, None]
        self.cost, self.right = table.cost[:, self.columns], right[:, self.columns]
        self.price = self.cost[tune].mean(axis=0)
        self.free = table.cost[:, free].mean()
        self.out_of_fold, self.on_test = [], []
        for j in self.columns:
            y = right[tune, j]
            if y.all() or not y.any():
                self.out_of_fold.append(np.full(len(tune), float(y[0])))
                self.on_test.append(np.full(len(test), float(y[0])))
                continue
            self.out_of_fold.append(cross_val_predict(make(), seen[tune], y, cv=3, method="predict_proba")[:, 1])
            self.on_test.append(make().fit(seen[tune], y).predict_proba(seen[test])[:, 1])

    def at(self, scores, rows, price):
        """Return accuracy and USD per row at a price; the free tier was asked for its confidence in any case."""
        chosen = np.argmax(np.column_stack(scores) - price * self.price, axis=1)
        return self.right[rows, chosen].mean(), self.cost[rows, chosen].mean()

    def tuned(self, tune, test, floor):
        """Return accuracy and cost on test at the cheapest price that keeps the floor out of fold on tune."""
        points = [(*self.at(self.out_of_fold, tune, p), p) for p in PRICES]
        kept = [x for x in points if x[0] >= floor] or [max(points)]
        return self.at(self.on_test, test, min(kept, key=lambda x: x[1])[2])

    def cheapest(self, test, accuracy):
        """Return the least cost on test at which it is as accurate as this; None where it never is."""
        points = [self.at(self.on_test, test, p) for p in PRICES]
        return min((c for a, c in points if a >= accuracy - 1e-12), default=None)


def compare(name, draws, seconds):
    """Print what is saved at the best tier's accuracy by ours and by the rivals, over the draws."""
    rows = []
    for table, truth, features, tune, test in draws:
        on, y = table.take(tune), truth[tune]
        alone = [j for j, t in enumerate(table.tiers) if t.kind not in ("gate", "rules")]
        best = max(alone, key=lambda j: np.mean(on.label[:, j] == y))
        floor = float(np.mean(on.label[:, best] == y))
        found = recommend(
            on, y, Goal("cheapest", floor=floor), test=Labelled(table.take(test), truth[test]), seconds=seconds
        )
        o = replay(found.policy, table.take(test))
        accuracy, cost = np.mean(o.label == truth[test]), o.cost.mean()
        best_cost, best_accuracy = table.cost[test, best].mean(), np.mean(table.label[test, best] == truth[test])
        row = {
            "saved": 1 - cost / best_cost,
            "gap": accuracy - best_accuracy,
            "on tune": 1 - found.tune.cost_per_1000.value / 1000 / on.cost[:, best].mean(),
            "held out": found.selection.saved_held_out if found.selection else np.nan,
            "seconds": found.effort.seconds,
            "ways": found.effort.ways,
            "pull": np.nan if found.pull is None else found.pull,
        }
        for rival, make in RIVALS.items():
            r = Router(make, table, truth, features, tune, test)
            theirs = r.tuned(tune, test, floor)
            least = r.cheapest(test, accuracy)
            row[f"{rival} saved"], row[f"{rival} gap"] = 1 - theirs[1] / best_cost, theirs[0] - best_accuracy
            row[f"{rival} at our accuracy"] = np.inf if least is None else least / max(cost, 1e-12)
        rows.append(row)
        pattern = type(found.policy.pattern).__name__
        at_ours = ", ".join(f"{rival} {row[f'{rival} at our accuracy']:.2f}" for rival in RIVALS)
        print(
            f"  {name}: {pattern} {' → '.join(found.policy.names)}: saved {row['saved']:.1%}, {row['gap']:+.3f}; "
            f"cost at our accuracy, of ours: {at_ours}",
            flush=True,
        )
    table = pd.DataFrame(rows)
    print(f"{name}: {len(rows)} halves of {len(tune):,} and {len(test):,} rows")
    print(
        f"  ours: saved {table['saved'].mean():.1%} (median {table['saved'].median():.1%}), accuracy against the "
        f"best tier {100 * table['gap'].mean():+.2f} points; on tune {table['on tune'].mean():.1%}, held out "
        f"{table['held out'].mean():.1%}; {table['ways'].iloc[0]:,} ways, {table['seconds'].median():.1f} s; "
        f"per class in {table['pull'].notna().sum()}"
    )
    for rival in RIVALS:
        ratio = table[f"{rival} at our accuracy"]
        print(
            f"  {rival}: saved {table[f'{rival} saved'].mean():.1%}, accuracy "
            f"{100 * table[f'{rival} gap'].mean():+.2f} points; its least cost at our accuracy is {ratio.median():.2f} "
            f"times ours (median; never reached in {np.isinf(ratio).sum()}, below ours in {(ratio < 1).sum()})"
        )


def halves(table, truth, features, seeds, *, gate=False, learned=False):
    """Yield a set cut in halves by each seed."""
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(truth))
        tune, test = order[: len(order) // 2], order[len(order) // 2 :]
        here = with_gate(table, truth, features, tune) if gate else table
        yield (with_learned(here, truth, tune, seed) if learned else here), truth, features, tune, test


def with_learned(table, truth, tune, seed):
    """Replace each tier's own confidence by what is learned of it on tune, where that is better, as a study does."""
    fold = np.full(len(truth), -1)
    fold[tune] = np.random.default_rng(seed).permutation(len(tune)) % 5
    every = np.arange(len(truth))
    columns = []
    for j in range(len(table.tiers)):
        found = fit_confidence(table.answers(j), truth, fold, reader=None, chances=None, group=every)
        columns.append(found.answers if found.better else table.answers(j))
    return Predictions.from_answers(table.tiers, table.classes, columns)


def count_cpu():
    """Let searches count CPU seconds of this process."""
    plain = Explorer.__init__

    def started(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        self._start = time.process_time()

    Explorer.__init__ = started
    Explorer.elapsed = property(lambda self: time.process_time() - self._start)


def timing(seconds):
    """Print how long everything takes."""
    print("| rows | tiers | ways | tried | dropped | left | on a sample only | s (CPU) | exact |")
    for n, k in product((1_000, 10_000, 100_000), (4, 8, 12)):
        table, truth, _ = graded(n, k)
        floor = float((table.label == truth[:, None]).mean(axis=0).max())
        start, cpu = time.perf_counter(), time.process_time()
        e = (found := recommend(table, truth, Goal("cheapest", floor=floor), seconds=seconds)).effort
        took, used = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"| {n:,} | {k} | {e.ways:,} | {e.tried:,} | {e.dropped:,} | {e.left:,} | {e.sketched:,} | "
            f"{took:.1f} ({used:.1f}) | {found.exact} |",
            flush=True,
        )


def small(seed):
    """Make up a small problem of two to four tiers with ties, and a gate; of up to three also one for each."""
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(2, 5)), int(rng.integers(8, 40))
    truth = rng.integers(0, 3, n)
    gates = [Tier("gate", "gate"), *(Tier(f"of t{j}", "gate", guards=f"t{j}") for j in range(k if k < 4 else 0))]
    tiers = (*(Tier(f"t{j}", "recorded", 0.001 * j) for j in range(k)), *gates)
    shape = n, len(tiers)
    confidence = np.round(rng.random(shape) * 5) / 5
    right = rng.random(shape) < 0.3 + 0.5 * confidence * np.linspace(0.4, 1, len(tiers))
    label = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, 3, shape)) % 3)
    label[:, k:] = UNKNOWN
    cost = np.array([*(0.001 * rng.integers(0, 6, k)), *[0.0] * len(gates)]) * rng.choice([1.0, 1.5], shape)
    latency = rng.choice([0.0, 0.1, 0.4], shape)
    return Predictions(tiers, ("a", "b", "c"), label, confidence, cost, latency), truth


TABLE = ((0.0, 0.01, 0.5), (0.02, 0.0, 0.03), (0.001, 0.2, 0.0))  # USD of a wrong answer, by truth and answer


def small_goal(seed, table, truth):
    """Return one of eight kinds of goals: each aim, with one limit, several, or none."""
    accuracy = float(np.max(np.mean(table.label == truth[:, None], axis=0)))
    return (
        Goal("most_accurate", budget=2.0),
        Goal("cheapest", floor=accuracy),
        Goal("cheapest", floor=accuracy - 0.1, seconds=0.3),
        Goal("most_accurate", budget=3.0, seconds=0.3),
        Goal("least_total", wrong=0.004),
        Goal("least_total", wrong=TABLE, floor=accuracy - 0.05),
        Goal("least_total", wrong=0.004, budget=2.0),
        Goal("most_accurate", budget=2.0, floor=accuracy),
    )[seed % 8]


def brute(problems, first=0):
    """Print on how many small problems no combination of thresholds of any way is better than what was found."""
    as_good = proven = wrong = 0
    for seed in range(first, first + problems):
        table, truth = small(seed)
        goal = replace(small_goal(seed, table, truth), by_class=False)
        found = recommend(table, truth, goal)
        mine, least = value(found.policy, table, truth, goal), (np.inf, np.inf)
        caps = goal.caps(len(truth))
        for way in every_way(from_cheap(table, None)):
            states = states_of(way, table, truth, goal)  # a property test holds them to the replay
            for values in product(*(np.union1d(g, [NEVER]) for g in states.gauges)):
                totals = states.rows_at(values).sum(axis=1)[goal.rows]
                over = missed(totals, caps)
                least = min(least, (over, float(totals[0])))
        fine = mine[0] <= least[0] + 1e-9 and mine[1] <= least[1] + 1e-9
        as_good, proven, wrong = as_good + fine, proven + found.exact, wrong + (found.exact and not fine)
    what = f"{problems} small problems from {first} on"
    print(f"{what}: nothing better in {as_good}, said to be proven in {proven}, wrongly in {wrong}")


def brute_by_class(problems):
    """Print the same of a threshold for each predicted class, over all combinations of all of them."""
    as_good = proven = wrong = 0
    for seed in range(problems):
        table, truth = small(seed)
        answers = answering(table.tiers)
        policy = Policy(Triage(), (answers[0], answers[-1]))
        goal = small_goal(seed, table, truth)
        found = search_by_class(policy, table, truth, goal, min_rows=1)
        own = np.unique(table.label[:, 0])
        values = np.union1d(table.confidence[:, 0], [NEVER])
        least = (np.inf, np.inf)
        for combination in product(values, repeat=len(own)):
            by_class = [None, None, None]
            for c, limit in zip(own, combination, strict=True):
                by_class[c] = limit
            p = replace(policy, pattern=Triage(NEVER, tuple(by_class)))
            least = min(least, value(p, table, truth, goal))
        mine = value(found.policy, table, truth, goal)
        fine = mine[0] <= least[0] + 1e-9 and mine[1] <= least[1] + 1e-9
        as_good, proven, wrong = as_good + fine, proven + found.exact, wrong + (found.exact and not fine)
    print(f"{problems} by class: nothing better in {as_good}, said to be exact in {proven}, wrongly in {wrong}")


def value(policy, table, truth, goal):
    """Return by how much a policy misses the goal's limits, and its aim."""
    totals = goal.terms(replay(policy, table), truth).sum(axis=1)
    return missed(totals, goal.caps(len(truth))), float(totals[0])


def missed(totals, caps):
    """Return by how much limits are missed, each as a share of itself, as the search weighs them."""
    return round(float(violation(totals[:, None], caps)[0]), 9)


def uneven(n, rng, *, n_classes, spread):
    """Make up two tiers; how good the cheap one is at a confidence differs by class as much as `spread`."""
    truth = rng.integers(0, n_classes, n)
    sure = np.round(np.clip(rng.beta(3, 1.3, n), 0.01, 1.0), 3)
    said = np.where(rng.random(n) < 0.7, truth, rng.integers(0, n_classes, n))  # class that the cheap tier will name
    p = np.clip(sure + spread * np.linspace(-1, 1, n_classes)[said], 0.02, 0.98)
    right = rng.random(n) < p
    truth = np.where(right, said, (said + 1 + rng.integers(0, n_classes - 1, n)) % n_classes)
    strong = np.where(rng.random(n) < 0.93, truth, (truth + 1) % n_classes)
    none, paid = np.zeros(n), np.full(n, 0.003)
    tiers = (Tier("cheap", "classifier"), Tier("llm", "recorded", 0.003))
    answers = [Answers(said, sure, none, none), Answers(strong, np.ones(n), paid, none)]
    return Predictions.from_answers(tiers, tuple(map(str, range(n_classes))), answers), truth


def shrinkage(runs):
    """Print what thresholds per class cost on fresh rows beside one threshold, where classes differ and where not."""
    goal = Goal("least_total", wrong=0.012)
    sizes = ((300, 10), (1_000, 10), (4_000, 10), (1_000, 2), (4_000, 2), (12_000, 2))
    for spread, (n, n_classes) in product((0.0, 0.1, 0.3), sizes):
        lost = {"no pull": [], "as chosen": []}
        per_class = 0
        for run in range(runs):
            rng = np.random.default_rng((run, n))
            (table, truth), (fresh, theirs) = (uneven(m, rng, n_classes=n_classes, spread=spread) for m in (n, 20_000))
            policy = Policy(Triage(), table.tiers)
            one = search(policy, table, truth, goal).policy
            chosen = recommend(table, truth, goal, ways=[policy])
            per_class += chosen.pull is not None
            found = {"no pull": search_by_class(policy, table, truth, goal).policy, "as chosen": chosen.policy}
            base = goal.total_cost(replay(one, fresh), theirs).mean()
            for name, p in found.items():
                lost[name].append(goal.total_cost(replay(p, fresh), theirs).mean() / base - 1)
        said = "; ".join(f"{name} {np.mean(x):+.2%} (worst {np.max(x):+.1%})" for name, x in lost.items())
        print(
            f"spread {spread:g}, n = {n:,}, {n_classes} classes, {runs} runs: total cost against one threshold: "
            f"{said}; per class chosen in {per_class}",
            flush=True,
        )


def main():
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("seeds", nargs="?", type=int, default=10)
    parser.add_argument("--only", choices=("YELP", "IMDB", "banking", "twelve"))
    parser.add_argument("--from-seed", type=int, default=0)
    parser.add_argument("--learned", action="store_true")
    parser.add_argument("--seconds", type=float, default=30.0, help="of CPU, for each search")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--brute", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first of the small problems")
    parser.add_argument("--shrink", type=int)
    given = parser.parse_args()
    count_cpu()
    seeds = range(given.from_seed, given.from_seed + given.seeds)
    if given.time:
        timing(given.seconds)
    if given.brute:
        brute(given.brute, given.first)
        if not given.first:
            brute_by_class(given.brute)
    if given.shrink:
        shrinkage(given.shrink)
    wanted = (given.only,) if given.only else ("YELP", "IMDB", "banking", "twelve")
    for name in wanted if given.path else ():
        if name == "twelve":
            made = graded(4_000, 12)
            compare("twelve simulated LLMs", halves(*made, seeds, gate=True), given.seconds)
        elif name == "banking":
            compare("BANKING77, three LLMs", (banking(given.path, s) for s in seeds), given.seconds)
        else:
            compare(name, halves(*frugal(given.path, name), seeds, learned=given.learned), given.seconds)


if __name__ == "__main__":
    main()
