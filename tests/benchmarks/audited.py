"""Audited: how often intervals from few labels by hand hold the true accuracy, and how wide they are.

python tests/benchmarks/audited.py [runs]

Worlds of 10,000 rows in 10 classes, drawn anew in every run. An LLM labels all rows; a student learnt from its labels
and copies part of its mistakes; a policy takes the student's answer where it is sure, else the LLM's. Rows are checked
by hand as the page draws them, and as many at random.
"""

import sys
from dataclasses import dataclass

import numpy as np

from hybrid.metrics.audited import Checked, difference, draw, share
from hybrid.metrics.intervals import wilson

N, CLASSES = 10_000, 10
AUDITED = (50, 200, 500)
SPREAD = np.array([0.5, 0.5, 0.4, 0.25])


@dataclass(frozen=True)
class World:
    """An LLM's mistakes by class, how many of them the student copies, and how often it agrees where they are right."""

    wrong: tuple[float, ...]
    copied: float = 0.5
    agree: float = 0.92

    def draw(self, rng, n=N):
        """Return right or not of the LLM, the student and the policy, agreement of the latter two, and strata."""
        truth = rng.integers(0, CLASSES, n)
        ease = rng.beta(3, 1, n)  # of a text
        wrong = rng.random(n) < np.clip(np.array(self.wrong)[truth] * 4 * (1 - ease), 0, 0.98)
        llm = np.where(wrong, (truth + 1) % CLASSES, truth)
        same = rng.random(n) < np.where(wrong, self.copied, np.clip(self.agree + 0.3 * (ease - 0.75), 0, 1))
        student = np.where(same, llm, np.where(rng.random(n) < 0.5, truth, (truth + 2) % CLASSES))
        sure = np.clip(0.15 + 0.75 * ease + 0.15 * (student == llm) + rng.normal(0, 0.08, n), 0, 1)
        policy = np.where(sure >= 0.75, student, llm)
        chance = np.where(student == llm, sure, 0.4 * (1 - sure))  # that the LLM's label is right, as the student says
        agreed = np.where(sure < np.quantile(sure, 0.3), 2, 3)
        stratum = np.where(policy != llm, 0, np.where(student != llm, 1, agreed))
        right = [x == truth for x in (llm, student, policy)]
        known = [chance, (student == llm).astype(float), (policy == llm).astype(float)]
        return right, known, stratum, policy != llm


GOOD, BAD = (0.05,) * 10, (0.3,) * 10
BIASED = (0.02,) * 7 + (0.3, 0.5, 0.7)
WORLDS = {
    "good LLM (95 % right)": World(GOOD),
    "bad LLM (70 %)": World(BAD),
    "biased by class (85 %)": World(BIASED),
    "biased, copied by the student": World(BIASED, copied=0.9),
    "nearly perfect (99 %)": World((0.01,) * 10),
}
TIERS = ("LLM", "student", "policy")


def main(runs):
    """Print coverage and mean half-width, in points, by world, rows audited and method."""
    print(f"{runs:,} runs; coverage / mean half-width in points\n")
    print("| world | audited | what | at random, by hand alone | at random, with the log | by strata, with the log |")
    print("|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        right, _, _, _ = world.draw(np.random.default_rng(99), 4_000_000)
        true = [float(r.mean()) for r in right]
        truth = [*true, true[2] - true[0]]
        for n in AUDITED:
            held, width = np.zeros((4, 3)), np.zeros((4, 3))
            for run in range(runs):
                rng = np.random.default_rng([run, n])
                right, known, stratum, differ = world.draw(rng)
                found = draw(stratum, n, spread=SPREAD, seed=int(rng.integers(1 << 31)))
                checked = Checked(found.stratum, found.sizes)
                plain = rng.choice(N, n, replace=False)
                everywhere = Checked(np.zeros(n, dtype=np.int64), np.array([float(N)]))
                for k in range(4):
                    if k < 3:
                        low, high = wilson(right[k][plain].sum(), n)
                        mean = float(known[k].mean())
                        alone = share(right[k][plain], everywhere, predicted=known[k][plain], mean=mean)
                        both = share(right[k][found.rows], checked, predicted=known[k][found.rows], mean=mean)
                    else:
                        gain, apart = right[2].astype(float) - right[0], float(differ.mean())
                        d = gain[plain]
                        half = 1.96 * np.sqrt((d.var() + 2 / n / n) / n)
                        low, high = d.mean() - half, d.mean() + half
                        alone = difference(d, everywhere, differ[plain], differ=apart)
                        both = difference(gain[found.rows], checked, differ[found.rows], differ=apart)
                    for j, (a, b) in enumerate(((low, high), (alone.low, alone.high), (both.low, both.high))):
                        held[k, j] += a <= truth[k] <= b
                        width[k, j] += (b - a) / 2
            for k, what in enumerate((*TIERS, "policy − LLM")):
                cells = " | ".join(
                    f"{h / runs:.3f} / {100 * w / runs:.1f}" for h, w in zip(held[k], width[k], strict=True)
                )
                print(f"| {name} | {n} | {what} {truth[k]:.3f} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
