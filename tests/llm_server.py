"""A server that speaks the OpenAI chat protocol and fails as it is told; runs in a process of its own.

`python llm_server.py` prints its port. The right answer to a text is the class whose name it contains, else the first.
`POST /control` sets what comes next: ``script``, a list of faults for the next calls; ``always``, a fault for all
others: a name, or ``{"status": .., "body": .., "headers": .., "having": a parameter, "in": words of a text}``, where
calls without the parameter or the words are answered; ``delay``, seconds; ``key``, the only one that is accepted;
``revoke_after``, calls; ``looks``, until a batch is done. `GET /served` returns how often each text was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

KEY = "sk-very-secret-0123456789"  # what the tests send: it must turn up nowhere
STATE = {"script": [], "always": None, "delay": 0.0, "key": None, "revoke_after": None, "looks": 2, "rules": {}}
SERVED: dict[str, int] = {}
LOG = {"calls": 0, "most_at_once": 0, "at_once": 0, "resets": 0, "bodies": [], "heads": [], "batches": {}, "files": {}}


def completion(content, *, finish="stop", usage=True, refusal=None, logprobs=None, prompt_tokens=100, out=10):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
    if refusal:
        choice["message"]["refusal"] = refusal
    if logprobs is not None:
        choice["logprobs"] = {"content": logprobs}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "mock", "choices": [choice]}
    if usage:
        body["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": out, "total_tokens": prompt_tokens + out}
    return body


def error(message, code=None, param=None):
    return {"error": {"message": message, "type": "mock", "code": code, "param": param}}


def text_of(body):
    said = body["messages"][-1]["content"]
    found = re.search(r"<text>\n(.*)\n</text>", said, re.DOTALL)
    return found.group(1) if found else said


def answer(body):
    """Return the honest reply: label, tokens of the JSON with log-probabilities."""
    system = body["messages"][0]["content"]
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    text = text_of(body)
    if "difficulty" in schema or "difficulty" in system:
        hard = len(text.split()) > 8
        gate = {"tier": "llm" if hard else "cheap", "reasoning": "by length", "difficulty": 4 if hard else 1}
        return completion(json.dumps(gate))
    classes = schema["label"]["enum"] if "label" in schema else re.findall(r"^- ([^:\n]+)", system, re.MULTILINE)
    label = next((c for c in classes if c in text), classes[0])
    label = STATE["rules"].get(text, label)
    sure = -0.05 if label in text else -1.2
    pieces = ['{"', "label", '": "', label[:2], label[2:], '"}']
    logprobs = [
        {"token": p, "bytes": list(p.encode()), "logprob": sure if 3 <= i <= 4 else 0.0} for i, p in enumerate(pieces)
    ]
    return completion("".join(pieces), logprobs=logprobs if body.get("logprobs") else None)


FAULTS = {
    "429": (429, {}, error("slow down", "rate_limit_exceeded")),
    "429_after": (429, {"Retry-After": "0.3"}, error("slow down", "rate_limit_exceeded")),
    "429_long": (429, {"Retry-After": "3600"}, error("slow down", "rate_limit_exceeded")),
    "500": (500, {}, error("oops")),
    "503": (503, {"Retry-After": "0.1"}, error("overloaded")),
    "quota": (429, {}, error("no credit", "insufficient_quota")),
    "401": (401, {}, error("bad key")),
    "404": (404, {}, error("no such model", "model_not_found")),
    "400": (400, {}, error("something else")),
    "context": (400, {}, error("This model's maximum context length is 10 tokens", "context_length_exceeded")),
    "no_schema": (400, {}, error("response_format of type json_schema is not supported", None, "response_format")),
    "no_logprobs": (400, {}, error("logprobs are not supported", "unsupported_parameter", "logprobs")),
    "no_max_tokens": (400, {}, error("Use 'max_completion_tokens' instead", "unsupported_parameter", "max_tokens")),
    "429_year": (429, {"Retry-After": f"Sat, 01 Jan {'9' * 20} 00:00:00 GMT"}, error("slow down")),
    "bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (40 << 20), 1)),
    "odd": (200, {"Content-Encoding": "gzip, gzip"}, b""),
    "not_json": (200, {}, b"<html>hello</html>"),
    "half_json": (200, {}, b'{"choices": [{"mess'),
    "no_choices": (200, {}, {"choices": []}),
    "malformed": (200, {}, completion('{"label": ')),
    "wrong_label": (200, {}, completion('{"label": "weather"}')),
    "misspelt": (200, {}, completion('{"label": "bilinlg"}')),
    "empty": (200, {}, completion("")),
    "null": (200, {}, completion(None)),
    "refusal": (200, {}, completion(None, refusal="I cannot do that")),
    "filtered": (200, {}, completion("", finish="content_filter")),
    "truncated": (200, {}, completion('{"lab', finish="length")),
}


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = line.split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines) if k}
            raw = await reader.readexactly(int(headers.get("content-length", 0)))
            if not await respond(method, path, headers, raw, writer):
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def send(writer, status, headers, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(head.encode() + b"\r\n" + content)


async def respond(method, path, headers, raw, writer):
    if path == "/control":
        for name, value in json.loads(raw).items():
            STATE[name] = value
        send(writer, 200, {}, {})
        return True
    if path == "/served":
        send(writer, 200, {}, {"served": SERVED, **LOG})
        return True
    if path == "/reset":
        SERVED.clear()
        LOG.update(
            calls=0, most_at_once=0, at_once=0, bodies=[], heads=[], batches={}, files={}, resets=LOG["resets"] + 1
        )
        STATE.update(looks=2, script=[], always=None, delay=0.0, key=None, revoke_after=None, rules={})
        send(writer, 200, {}, {})
        return True
    LOG["calls"] += 1
    if STATE["revoke_after"] is not None and LOG["calls"] > STATE["revoke_after"]:
        said = headers.get("authorization", "").removeprefix("Bearer ")
        send(writer, 401, {}, error(f"Incorrect API key provided: {said}", "invalid_api_key"))
        return True
    if STATE["key"] is not None and headers.get("authorization") != f"Bearer {STATE['key']}":
        send(writer, 401, {}, error("Incorrect API key provided", "invalid_api_key"))
        return True
    if path.startswith(("/v1/files", "/v1/batches")):
        return batch(method, path, raw, writer)
    body = json.loads(raw)
    LOG["bodies"] = [*LOG["bodies"][-20:], body]
    LOG["heads"] = [*LOG["heads"][-20:], {"path": path, **headers}]
    fault = STATE["script"].pop(0) if STATE["script"] else STATE["always"]
    before = LOG["resets"]
    LOG["at_once"] += 1
    LOG["most_at_once"] = max(LOG["most_at_once"], LOG["at_once"])
    try:
        return await complete(fault, body, writer)
    finally:
        LOG["at_once"] -= before == LOG["resets"]  # a hanging call of an earlier test does not count in a later one


async def complete(fault, body, writer):
    if STATE["delay"]:
        await asyncio.sleep(STATE["delay"])
    if isinstance(fault, dict):
        hit = fault.get("having", "model") in body and fault.get("in", "") in text_of(body)
        said = fault["body"] if hit else answer(body)
        content = said.encode() if isinstance(said, str) else said
        send(writer, fault.get("status", 200) if hit else 200, fault.get("headers", {}) if hit else {}, content)
        SERVED[text_of(body)] = SERVED.get(text_of(body), 0) + 1
        await writer.drain()
        return True
    if fault == "reset":
        sock = writer.get_extra_info("socket")
        import socket
        import struct

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    if fault == "hang":
        await asyncio.sleep(30)
        return False
    if fault == "drip":
        content = json.dumps(answer(body)).encode()
        writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        for i in range(len(content)):
            writer.write(content[i : i + 1])
            await writer.drain()
            await asyncio.sleep(0.1)
        return True
    if fault == "no_usage":
        reply = answer(body)
        del reply["usage"]
    elif fault in ("no_schema", "no_logprobs", "no_max_tokens"):
        field = {"no_schema": "response_format", "no_logprobs": "logprobs", "no_max_tokens": "max_tokens"}[fault]
        reply = answer(body) if field not in body else None
        if reply is None:
            STATE["script"].insert(0, fault)
    elif fault is not None:
        reply = None
    else:
        reply = answer(body)
    if reply is None:
        send(writer, *FAULTS[fault])
    else:
        # counted before it is sent: whoever receives it has been counted
        SERVED[text_of(body)] = SERVED.get(text_of(body), 0) + 1
        send(writer, 200, {}, reply)
    await writer.drain()
    return True


def batch(method, path, raw, writer):
    """Files and batches: a batch is done after so many looks at it."""
    if method == "POST" and path == "/v1/files":
        content = raw[raw.index(b'{"custom_id') : raw.rindex(b"}") + 1].decode()
        name = f"file-{len(LOG['files'])}"
        LOG["files"][name] = content
        send(
            writer,
            200,
            {},
            {
                "id": name,
                "object": "file",
                "bytes": len(content),
                "created_at": 0,
                "filename": "x.jsonl",
                "purpose": "batch",
                "status": "processed",
            },
        )
    elif method == "GET" and path.endswith("/content"):
        send(writer, 200, {"Content-Type": "application/octet-stream"}, LOG["files"][path.split("/")[3]].encode())
    elif method == "POST" and path == "/v1/batches":
        wanted = json.loads(raw)
        name = f"batch-{len(LOG['batches'])}"
        LOG["batches"][name] = {
            "id": name,
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": wanted["input_file_id"],
            "status": "in_progress",
            "looks": 0,
            "metadata": wanted.get("metadata"),
        }
        send(writer, 200, {}, LOG["batches"][name])
    elif method == "GET" and path.startswith("/v1/batches?"):
        listed = {"object": "list", "data": list(LOG["batches"].values()), "has_more": False}
        send(writer, 200, {}, listed)
    elif method == "POST" and path.endswith("/cancel"):
        one = LOG["batches"][path.split("/")[3]]
        one["status"] = "cancelled"
        send(writer, 200, {}, one)
    else:
        one = LOG["batches"][path.split("/")[3]]
        one["looks"] += 1
        if one["looks"] >= STATE["looks"] and one["status"] == "in_progress":
            lines = []
            for line in LOG["files"][one["input_file_id"]].splitlines():
                asked = json.loads(line)
                text = text_of(asked["body"])
                if "BATCHFAIL" in text:
                    failed = {"status_code": 400, "request_id": "r", "body": error("bad row")}
                    lines.append({"id": "r", "custom_id": asked["custom_id"], "response": failed, "error": None})
                    continue
                SERVED[text] = SERVED.get(text, 0) + 1
                said = {"status_code": 200, "request_id": "r", "body": answer(asked["body"])}
                lines.append({"id": "r", "custom_id": asked["custom_id"], "response": said, "error": None})
            name = f"file-{len(LOG['files'])}"
            LOG["files"][name] = "\n".join(map(json.dumps, lines))
            one |= {"status": "completed", "output_file_id": name}
            one["request_counts"] = {"total": len(lines), "completed": len(lines), "failed": 0}
        send(writer, 200, {}, one)
    return True


async def main(port):
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=2**24, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


class Running:
    """A running server, seen from a test."""

    def __init__(self, port, process):
        self.port, self.process = port, process
        self.url = f"http://127.0.0.1:{port}/v1"

    def control(self, **what):
        self._post("/control", what)

    def reset(self):
        self._post("/reset", {})

    def served(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/served", timeout=10) as said:
            return json.load(said)

    def _post(self, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextmanager
def running(port=0):
    process = subprocess.Popen([sys.executable, __file__, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        yield Running(int(process.stdout.readline()), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    started = time.time()
    asyncio.run(main(arguments.parse_args().port))
