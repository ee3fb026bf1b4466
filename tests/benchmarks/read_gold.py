"""Let an LLM read tickets whose fields were marked by hand, keep its very words, and print how well it reads.

    python tests/benchmarks/read_gold.py MODEL --base-url http://127.0.0.1:8080/v1 --tickets 40

A ticket that is in the file already is not asked about again, so it may be stopped and started. The key is taken from
OPENAI_API_KEY; a server of your own may need none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path

from hybrid.dashboard.support.quality import LLM_WORDS, gold_of, gold_texts, llm_scores
from hybrid.store.database import default_path
from hybrid.support.llm_extraction import LLMExtractor, reader_settings


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model")
    arguments.add_argument("--base-url", default="https://api.openai.com/v1")
    arguments.add_argument("--tickets", type=int, default=40)
    arguments.add_argument("--max-tokens", type=int, default=500)
    arguments.add_argument("--concurrency", type=int, default=1)
    arguments.add_argument("--store", type=Path, default=default_path())
    arguments.add_argument("--out", type=Path, default=LLM_WORDS)
    given = arguments.parse_args()
    settings = reader_settings(
        given.model, base_url=given.base_url, max_tokens=given.max_tokens, concurrency=given.concurrency, timeout=300
    )
    extractor = LLMExtractor(settings, settings.key(), store=given.store)
    texts, gold = gold_texts(), gold_of("test")
    random.Random(0).shuffle(gold)
    with given.out.open("a", encoding="utf-8") as out:
        lines = given.out.read_text(encoding="utf-8").splitlines()
        known = {(row["id"], row["model"]) for row in map(json.loads, lines)}
        for ticket in gold[: given.tickets]:
            if (ticket.ticket_id, given.model) in known:
                continue
            text = texts[ticket.ticket_id]
            (read,) = asyncio.run(extractor.extract([text]))
            reply = extractor._kept.get(settings.question_key(extractor.request(text)))
            if reply is None:
                raise SystemExit(read.problem)
            row = {"id": ticket.ticket_id, "model": given.model, "kind": reply.kind, "content": reply.content}
            out.write(json.dumps(row | {"latency": round(reply.latency, 3)}, ensure_ascii=False) + "\n")
            out.flush()
    for name, n, scores, _ in llm_scores():
        print(name, n, "tickets")
        for s in scores:
            values = (f"{i.value:.3f} [{i.low:.2f}, {i.high:.2f}]" for i in (s.precision, s.recall, s.f1))
            print(f"  {s.name:<12}{s.gold:>4}{s.found:>4}{s.right:>4}  ", *values)


if __name__ == "__main__":
    main()
