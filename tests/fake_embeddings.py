"""A small OpenAI-compatible embeddings server, run in a process of its own; a model's name says how it misbehaves.

GET /count tells how many texts were embedded, and /key the last key that came.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIZE = 48
BAD = {
    "deep": "[" * 5000,
    "words": {"data": [{"index": i, "embedding": "AAAA"} for i in range(2)]},
    "huge": {"data": [{"index": i, "embedding": [10**400]} for i in range(2)]},
    "nested": {"data": [{"index": i, "embedding": [[1.0]]} for i in range(2)]},
    "twice": {"data": [{"index": 0, "embedding": [1.0]}] * 2},
    "none": {"data": [{"index": i, "embedding": [None]} for i in range(2)]},
}
seen = {"texts": 0, "key": "", "busy": 0}


def vector(text):
    """Sum a fixed pseudo-random vector of each word: texts that share words lie close."""
    total = [0.0] * SIZE
    for word in text.lower().split():
        digest = hashlib.sha512(word.encode()).digest()
        total = [t + (b - 127.5) / 128 for t, b in zip(total, digest[:SIZE], strict=True)]
    return total


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, seen)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen["key"] = self.headers.get("Authorization", "")
        model, texts = body["model"], body["input"]
        if model == "refuses":
            return self.reply(401, {"error": {"message": f"bad key {seen['key']}"}})
        if model == "missing":
            return self.reply(404, {"error": {"message": "no such model"}})
        if model == "busy" and not seen["busy"]:
            seen["busy"] = 1
            return self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
        if model in BAD:
            return self.reply(200, BAD[model])
        if model == "short":
            texts = texts[:-1]
        seen["texts"] += len(texts)
        size = SIZE - 8 if model == "changes" and len(texts) < 64 else SIZE
        rows = [{"object": "embedding", "index": i, "embedding": vector(t)[:size]} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        # out of order, as the protocol allows
        return self.reply(200, {"object": "list", "data": rows[::-1], "model": model, "usage": usage})

    def reply(self, status, body, headers=None):
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **(headers or {}),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
