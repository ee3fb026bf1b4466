"""How much strange text is set aside at a share of texts in scope that is: python tests/benchmarks/scope.py FOLDER.

The folder holds ``banking77.csv`` (text, label) and ``headlines4.csv`` (text, …). Of BANKING77 15 classes are left out
of the known texts; the sample's tickets and the headlines are farther away.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid.metrics.auroc import auroc
from hybrid.tiers.embedders import MiniLM, is_installed
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.scope import fit_scope

KINDS = ("tune", "fresh", "classes left out", "tickets", "headlines")
SIZES = (2000, 1000, 400, 300, 300)
TICKETS = Path(__file__).parents[2] / "sample_data" / "support_tickets.csv"


def texts_of(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return texts of each kind, in their order, and the labels of all."""
    rng = np.random.default_rng(seed)
    bank, headlines = (pd.read_csv(folder / name) for name in ("banking77.csv", "headlines4.csv"))
    text, label = bank["text"].astype(str).to_numpy(), bank["label"].to_numpy()
    out = np.isin(label, rng.permutation(np.unique(label))[:15])
    inside, near = rng.permutation(np.flatnonzero(~out))[:3000], rng.permutation(np.flatnonzero(out))[:400]
    rows = np.concatenate([inside, near])
    far = [frame["text"].astype(str).sample(300, random_state=seed) for frame in (pd.read_csv(TICKETS), headlines)]
    every = np.array([*text[rows], *far[0], *far[1]], dtype=object)
    return every, pd.factorize(np.concatenate([label[rows], np.full(600, "")]))[0]


def main(folder: Path) -> None:
    """Print shares set aside, and the AUROC against fresh texts in scope."""
    kind = np.repeat(np.arange(len(SIZES)), SIZES)
    fold = np.where(kind == 0, np.arange(len(kind)) % 10, -1)
    models = {"words": None, **({"MiniLM": MiniLM.installed()} if is_installed() else {})}
    print(f"{'by':8}{'from':>6}{'seed':>6}" + "".join(f"{k:>18}" for k in KINDS))
    for seed in range(3):
        texts, truth = texts_of(folder, seed)
        for name, model in models.items():
            cache = None if model is None else EmbeddingCache(model.identity)
            key = pd.util.hash_array(texts)
            far = fit_scope(texts, truth, fold, key=key, embedder=model, cache=cache).answers.confidence
            for threshold in (0.99, 0.95):
                shares = [float((far[kind == k] >= threshold).mean()) for k in range(len(KINDS))]
                print(f"{name:8}{threshold:>6}{seed:>6}" + "".join(f"{s:>18.1%}" for s in shares))
            found = []
            for k in (2, 3, 4):
                both = np.concatenate([far[kind == k], far[kind == 1]])
                found.append(auroc(both, np.arange(len(both)) < SIZES[k]).value)
            print(f"{name:8}{'AUROC':>6}{seed:>6}" + " " * 36 + "".join(f"{v:>18.3f}" for v in found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
