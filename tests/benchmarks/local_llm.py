"""Ask a small local LLM about labelled rows, as the recorded answers of the sample data and `tiers.py` were asked.

Every answer is a line of a JSONL file, written when it arrives: a run that is stopped goes on where it was.
Needs the extras ``embedding`` and ``local``.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from openai import OpenAI
from sklearn.linear_model import LogisticRegression

from hybrid.data.dataset import Dataset
from hybrid.data.split import Split
from hybrid.tiers.embedders import MiniLM, embed
from hybrid.tiers.embedding_cache import EmbeddingCache
from hybrid.tiers.llm.local_server import LocalServer

EXAMPLES = 8  # nearest labelled rows of the training side
LONGEST = 600  # characters of the text that the model is shown; its context is short
LONGEST_EXAMPLE = 140
SYSTEM = "Classify the {what}. Answer with the label that fits best, one of: {classes}."
CORE_HOUR = 0.05  # USD for an hour of one rented core: what a model on a machine of one's own costs
TOP = 20  # alternatives of a token that the server tells


@dataclass(frozen=True)
class Asked:
    """One answer, as it came."""

    row: int
    label: str
    confidence: float  # of its label's first token among the labels' first tokens
    prompt_tokens: int
    completion_tokens: int
    seconds: float  # on the clock of a machine that did other work as well
    cpu_seconds: float  # of the server's process: one thread, so what the call takes on an idle core
    when: str


def neighbours(dataset: Dataset, parts: Split, rows: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """Return for each row the nearest rows it may see, the nearest last: tune rows of the other folds, or all for test.

    Near-duplicates share a fold, so a row never meets its own.
    """
    found = []
    for i in rows:
        allowed = parts.tune[parts.fold[parts.tune] != parts.fold[i]]  # a test row's fold is -1: all of tune
        nearness = vectors[allowed] @ vectors[i]
        found.append(allowed[np.argsort(-nearness, kind="stable")[:EXAMPLES]][::-1])
    return found


def messages(
    dataset: Dataset, i: int, near: np.ndarray, *, what: str, classes: tuple[str, ...]
) -> list[dict[str, str]]:
    """Return the chat: the task, each example as a question and its answer, then the text."""
    chat = [{"role": "system", "content": SYSTEM.format(what=what, classes=", ".join(classes))}]
    for j in near:
        chat.append({"role": "user", "content": str(dataset.texts[j])[:LONGEST_EXAMPLE]})
        chat.append({"role": "assistant", "content": json.dumps({"label": dataset.classes[dataset.truth[j]]})})
    return [*chat, {"role": "user", "content": str(dataset.texts[i])[:LONGEST]}]


def first_token_confidence(tokens: list, label: str, classes: tuple[str, ...]) -> float:
    """Return the chance of the label's first token among the first tokens of all labels that may be answered.

    The server tells probabilities before the schema is enforced, so what is no label is left out. Labels that begin
    with the same token cannot be told apart by it and share its chance.
    """
    said = ""
    for token in tokens:
        if re.search(r'"label"\s*:\s*"$', said):
            weight = dict.fromkeys(classes, 0.0)
            for option in (token, *token.top_logprobs):
                start = option.token.strip()
                for c in classes:
                    if start and c.startswith(start):
                        weight[c] = max(weight[c], float(np.exp(option.logprob)))
            total = sum(weight.values())
            return weight[label] / total if total else 1 / len(classes)
        said += token.token
    return 1 / len(classes)


def cpu_seconds(pid: int) -> float:
    """Return what a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(
    dataset: Dataset, parts: Split, rows: np.ndarray, answers: Path, *, model: Path, what: str, narrow: bool
) -> None:
    """Ask about rows, and append each answer to a file; rows that it holds already are not asked again.

    Parameters
    ----------
    narrow
        True: only the labels of the examples may be answered, which many classes need.
    """
    known = {a.row for a in read(answers)}
    todo = np.array([i for i in rows if i not in known], dtype=int)
    embedder = MiniLM.installed()
    vectors = embed(embedder, list(dataset.texts), cache=EmbeddingCache(embedder.identity))
    with LocalServer(model) as server, answers.open("a") as out:
        client = OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=600)
        for n, (i, near) in enumerate(zip(todo, neighbours(dataset, parts, todo, vectors), strict=True), 1):
            classes = tuple(dataset.classes[c] for c in np.unique(dataset.truth[near])) if narrow else dataset.classes
            properties = {"label": {"type": "string", "enum": list(classes)}}
            schema = {"type": "object", "properties": properties, "required": ["label"], "additionalProperties": False}
            before, start = cpu_seconds(server.pid), time.perf_counter()
            answer = client.chat.completions.create(
                model=server.name,
                messages=messages(dataset, i, near, what=what, classes=classes),
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": schema},
                },
                temperature=0,
                max_tokens=60,
                logprobs=True,
                top_logprobs=TOP,
            )
            seconds = time.perf_counter() - start
            try:
                label = json.loads(answer.choices[0].message.content)["label"]
                confidence = first_token_confidence(answer.choices[0].logprobs.content, label, classes)
            except (ValueError, KeyError, TypeError):
                label, confidence = "", 0.0  # cut off before the label: a failed answer
            spent = cpu_seconds(server.pid) - before
            said = Asked(
                int(i),
                label,
                round(confidence, 6),
                answer.usage.prompt_tokens,
                answer.usage.completion_tokens,
                round(seconds, 4),
                round(spent, 2),
                time.strftime("%Y-%m-%d"),
            )
            print(json.dumps(asdict(said)), file=out, flush=True)
            if n % 20 == 0 or n == len(todo):
                print(f"{n} of {len(todo)}", flush=True)


def read(answers: Path) -> list[Asked]:
    """Return the answers of a file, which need not be there yet; a line cut off by a stop is left out."""
    found = []
    for line in answers.read_text().splitlines() if answers.exists() else ():
        try:
            found.append(Asked(**json.loads(line)))
        except ValueError:
            continue
    return found


def calibrated(confidence: np.ndarray, right: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the chance of being right at each confidence (Platt's curve), fitted on tune rows of the other folds."""
    clipped = np.clip(confidence, 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped)).reshape(-1, 1)
    chance = np.zeros(len(confidence))
    for f in np.unique(fold):
        others = (fold >= 0) & (fold != f)
        model = LogisticRegression(C=1e6).fit(logit[others], right[others])
        chance[fold == f] = model.predict_proba(logit[fold == f])[:, 1]
    return np.round(chance, 6)


def usd(seconds):
    """Return what the core costs for so long."""
    return (seconds * CORE_HOUR / 3600).round(9)
