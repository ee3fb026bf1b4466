"""Serve: a bundle behind HTTP: ``/classify``, and a chat endpoint in the place of the LLM that was asked before."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import re
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx2
import prometheus_client as prometheus
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from uvicorn.config import LOGGING_CONFIG

from hybrid.data import foreign
from hybrid.data.labels import matcher
from hybrid.errors import BundleError, HybridError, TierError
from hybrid.logs import structure
from hybrid.metrics.sequential import luck_of
from hybrid.production import chat
from hybrid.production.archive import digest_of
from hybrid.production.binding import Server, Servers
from hybrid.production.bundle import load_bundle
from hybrid.production.feedback import NONE_OF_THEM, Feedback, Source, new_id
from hybrid.production.log import SECOND, DecisionLog
from hybrid.production.runtime import Answer, Decision, Model, Runtime
from hybrid.routing.table import NONE_LABEL
from hybrid.tiers.llm.completions import LONGEST_BODY
from hybrid.tiers.llm.replies import read_label

Mode = Literal["live", "shadow", "canary"]
TOKENS_VARIABLE = "HYBRID_SERVE_TOKENS"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
SLOWEST = 30.0  # seconds that the body of a request may take to come
OPEN = ("/health", "/ready")  # asked by whoever runs the server, without a token
RECENT = 1_000  # decisions whose share of escalation is compared with what was promised
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PLAINLY = "Classify the user's text. Answer with exactly one of these classes, and nothing else: {}."
log = logging.getLogger("hybrid")
_ASKED: ContextVar[tuple[Mapping[str, Any], chat.Question] | None] = ContextVar("asked", default=None)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a bundle is served.

    Parameters
    ----------
    bundle
        Path of the zip or folder; read again at a reload.
    models, servers, trust, deadline
        As `hybrid.load` takes them.
    mode
        ``live``: the policy answers. ``shadow``: the LLM answers everything, as before, and the policy decides beside
        it, for the log. ``canary``: the policy answers the `share` of texts that their hash picks, the rest is shadow.
    tokens
        Who may ask: any of these as a bearer token. Empty: everyone who can reach the server.
    upstream
        The LLM's server, for requests that are passed on, and for the texts that the policy sends to a last tier whose
        answers came out of a log; None: there is none.
    upstream_model
        The model that is asked for at `upstream`; None: the one that the client names.
    against
        Path of another bundle over the same classes, to be compared with: live it decides the `share` of texts that
        their hash picks, in shadow it decides every text beside the first. None: there is none.
    review_share
        Chance with which a decision is drawn for a review, by the hash of its id.
    log
        Folder of the decision log; None: nothing is kept.
    inside
        Finds the text within the last message of a chat, see `hybrid.production.chat.read_question`.
    max_body, max_batch, max_at_once
        Bytes of a request, texts in one, and requests at a time; what is more is refused with 413 or 429.
    """

    bundle: str
    models: Mapping[str, Model] | None = None
    servers: Servers = field(default_factory=dict)
    trust: Sequence[str] = ()
    deadline: float | None = 30.0
    mode: Mode = "live"
    share: float = 0.1
    tokens: tuple[str, ...] = ()
    upstream: Server | None = None
    upstream_model: str | None = None
    against: str | None = None
    review_share: float = 0.0
    log: DecisionLog | None = None
    inside: re.Pattern[str] | None = None
    max_body: int = 1 << 20
    max_batch: int = 256
    max_at_once: int = 64


@dataclass(frozen=True, slots=True)
class _Served:
    """A loaded bundle, and what tells it from another."""

    runtime: Runtime
    digest: str
    name: str
    strong: str | None  # the LLM that would answer everything

    @property
    def title(self) -> str:
        return f"{self.name}@{self.digest}"


class _Decided(NamedTuple):
    """A decision under its id, and the bundle that made it."""

    id: str
    decision: Decision
    served: _Served


class Classify(BaseModel):
    """What ``/classify`` takes: one text, or several."""

    model_config = ConfigDict(extra="forbid")

    text: str | list[str] = Field(description="One text, or a list of them.")


class Correct(BaseModel):
    """What ``/feedback`` takes: the id of a decision and the label that would have been right."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100, description="As it came with the decision; of a chat, the completion's id.")
    label: str | None = Field(description="One of the classes; null: none of them is right.")
    source: Source = Field(default="report", description="review: somebody worked through the decisions drawn for it.")


class Service:
    """Decides for a server: one bundle at a time, exchanged without losing a request, or two that are compared.

    Raises
    ------
    HybridError
        If the bundle cannot be loaded, or the mode needs an LLM that is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.at_once = 0
        self._tokens = [hashlib.sha256(t.encode()).digest() for t in settings.tokens]
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._beside: set[asyncio.Task[None]] = set()
        self._client: httpx2.AsyncClient | None = None
        self.metrics = _Metrics()
        if settings.against is not None and settings.mode == "canary":
            raise BundleError("--against goes with --mode live or shadow: as a canary there is the LLM beside already.")
        self.served, self.against = self._load_all()

    def _load_all(self) -> tuple[_Served, _Served | None]:
        first = self._load(self.settings.bundle)
        if self.settings.against is None:
            return first, None
        second = self._load(self.settings.against)
        if set(first.runtime.classes) != set(second.runtime.classes):
            raise BundleError("--against: the two bundles do not have the same classes, so nothing can be compared.")
        if first.digest == second.digest:
            raise BundleError("--against: the two are the same bundle.")
        return first, second

    def _load(self, path: str) -> _Served:
        s = self.settings
        digest = digest_of(path)
        bundle = load_bundle(path, trust=s.trust)
        models, servers = s.models or {}, s.servers
        if s.against is not None:  # what is given for both may be of no use to one
            asked = (*bundle.external, *bundle.llms)
            models = {n: m for n, m in models.items() if n in asked}
            servers = {n: one for n, one in servers.items() if n in (*asked, *bundle.models)}
        last = bundle.policy.tiers[-1]
        if s.upstream is not None and last.kind == "recorded" and last.name in bundle.external:
            models = {last.name: partial(self._ask_upstream, last.name, bundle.config.classes), **models}
        runtime = Runtime(bundle, models, servers=servers, deadline=s.deadline)
        dear = [t.name for t in runtime.policy.tiers if t.kind == "llm" or t.name in runtime.bundle.llms]
        strong = dear[-1] if dear else runtime.policy.names[-1] if runtime.bundle.external else None
        if s.mode != "live" and strong is None:
            raise BundleError(f"--mode {s.mode} compares with the LLM, and this policy asks none. Serve it live.")
        self.metrics.promised(bundle.evidence, f"{Path(path).stem}@{digest}")
        return _Served(runtime, digest, Path(path).stem, strong)

    async def reload(self) -> str:
        """Load the bundle anew and serve it from the next request on; one that cannot be loaded changes nothing."""
        fresh, second = await asyncio.to_thread(self._load_all)
        old, self.served, self.against = self.served, fresh, second
        log.info("now serving %s instead of %s", fresh.title, old.title)
        return fresh.title

    def allows(self, authorization: str | None) -> bool:
        """Whether a request shows a token that may ask."""
        if not self._tokens:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = [hmac.compare_digest(given, t) for t in self._tokens]  # all of them: the time tells nothing
        return scheme.lower() == "bearer" and any(found)

    def is_live(self, text: str) -> bool:
        """Whether the policy answers a text, under the mode."""
        if self.settings.mode != "canary":
            return self.settings.mode == "live"
        return _share_of(text) < self.settings.share

    def bundle_for(self, text: str) -> _Served:
        """Return the bundle that decides a text, where two are compared."""
        second = self.against
        if second is None or self.settings.mode != "live" or _share_of(f"against {text}") >= self.settings.share:
            return self.served
        return second

    async def classify(self, texts: list[str]) -> list[_Decided]:
        """Decide texts, each under an id of its own; in shadow the answers are the LLM's."""
        parts: dict[tuple[bool, str], tuple[_Served, list[int]]] = {}
        for i, text in enumerate(texts):
            served = self.bundle_for(text)
            parts.setdefault((self.is_live(text), served.digest), (served, []))[1].append(i)
        out: dict[int, _Decided] = {}
        for (live, _), (served, at) in parts.items():
            found = await (self._live if live else self._shadow)(served, [texts[i] for i in at])
            out |= {i: _Decided(*one, served) for i, one in zip(at, found, strict=True)}
        return [out[i] for i in range(len(texts))]

    async def _ask_upstream(self, tier: str, classes: Sequence[str], texts: Sequence[str]) -> list[Answer]:
        """Ask the LLM's server in the client's own words; where there are none, by the names of the classes."""
        asked = _ASKED.get()

        async def one(text: str) -> Answer:
            found = self.upstream()
            assert found is not None  # else this is nobody's model
            client, server = found
            system = {"role": "system", "content": PLAINLY.format(", ".join(classes))}
            body: dict[str, Any] = {"messages": [system, {"role": "user", "content": text}]}
            key = None
            if asked is not None:
                body, key = {k: v for k, v in asked[0].items() if k not in ("stream", "stream_options")}, asked[1].key
            body = {"model": tier, **body}
            if self.settings.upstream_model is not None:
                body["model"] = self.settings.upstream_model
            answer = await client.post(_completions(server), json=body, headers=_headers(server))
            if answer.status_code != 200:
                raise TierError(f"The LLM's server answered {answer.status_code}.")
            words, used = _words(answer.content)
            return Answer(_label(words, key, classes), tokens=_tokens(used))

        said = await asyncio.gather(*map(one, texts), return_exceptions=True)
        failed = [e for e in said if isinstance(e, BaseException)]
        if len(failed) == len(texts):
            raise failed[0]  # a fallback; of some, the others would be asked and paid for again
        if failed:
            log.warning("%s gave no answer to %d of %d texts: %r", tier, len(failed), len(texts), failed[0])
        return [Answer(None) if isinstance(one, BaseException) else one for one in said]

    async def _live(self, served: _Served, texts: list[str]) -> list[tuple[str, Decision]]:
        ids = [new_id() for _ in texts]
        decisions = await served.runtime.batch(texts)
        await self._note(served, ids, texts, decisions, "live", [None] * len(texts))
        return list(zip(ids, decisions, strict=True))

    async def _shadow(self, served: _Served, texts: list[str]) -> list[tuple[str, Decision]]:
        """Ask the LLM about every text and answer so; the policy decides beside it, with the LLM's very answers."""
        ids = [new_id() for _ in texts]
        asked, beside = await served.runtime.beside(str(served.strong), texts)
        said = [d.label for d in asked]
        await self._note(served, ids, texts, beside, "shadow", said)
        await self._note_second(ids, texts, [Answer(d.label, cost=d.cost) for d in asked])
        return list(zip(ids, asked, strict=True))

    async def decide_beside(self, served: _Served, id: str, text: str, label: str | None, cost: float) -> None:
        """Decide a text that the LLM upstream has answered, for the log alone."""
        said = Answer(label, cost=cost)
        (decision,) = await served.runtime.knowing(str(served.strong), [said], [text])
        await self._note(served, [id], [text], [decision], "shadow", [label])
        await self._note_second([id], [text], [said])

    async def _note_second(self, ids: list[str], texts: list[str], said: list[Answer]) -> None:
        """Decide with the bundle that is compared with, as it would have, and log it beside the first."""
        second, kept = self.against, self.settings.log
        if second is None or kept is None:
            return
        decisions = await second.runtime.knowing(str(second.strong), said, texts)
        labels = [one.label for one in said]
        await self._log(second, [i + SECOND for i in ids], texts, decisions, "shadow", labels)

    def later(self, work: Any) -> None:
        """Do something after the answer has left; a stop waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _note(
        self,
        served: _Served,
        ids: Sequence[str],
        texts: Sequence[str],
        decisions: Sequence[Decision],
        mode: str,
        llm: Sequence[str | None],
    ) -> None:
        last = served.runtime.policy.names[-1]
        for decision in decisions:
            self.metrics.count(decision, served.title, mode)
            self._recent.append(any(s.tier == last for s in decision.trace))
        self.metrics.escalation(sum(self._recent) / len(self._recent) if self._recent else 0.0)
        await self._log(served, ids, texts, decisions, mode, llm)

    async def _log(
        self,
        served: _Served,
        ids: Sequence[str],
        texts: Sequence[str],
        decisions: Sequence[Decision],
        mode: str,
        llm: Sequence[str | None],
    ) -> None:
        kept = self.settings.log
        if kept is None:
            return
        entries = [
            kept.entry(
                t,
                d,
                id=i,
                bundle=served.digest,
                mode=mode,
                llm=said,
                review=self.settings.review_share if self.is_drawn(i) else 0.0,
                reference=served.runtime.bundle.reference,
            )
            for i, t, d, said in zip(ids, texts, decisions, llm, strict=True)
        ]
        if not kept.put(entries):
            await asyncio.to_thread(kept.put_patiently, entries)
        self.metrics.log(kept)

    def is_drawn(self, id: str) -> bool:
        """Whether a decision is drawn for a review, by its id: what it says has no influence on that."""
        share = self.settings.review_share
        return share > 0 and bool(luck_of([id.removesuffix(SECOND)])[0] < share)

    def correct(self, given: Correct) -> Response:
        """Keep the right label of a decision; reads and writes files."""
        kept = self.settings.log
        if kept is None:
            return _problem(409, "There is no log that a correction could belong to: start the server with --log.")
        id = given.id.removeprefix("chatcmpl-")
        label = NONE_OF_THEM
        if given.label is not None:
            classes = self.served.runtime.classes
            code = matcher(classes)(given.label)
            if code < 0:
                some = ", ".join(classes[:20])
                return _problem(422, f"{given.label[:100]!r} is none of the classes ({some}); null says none is right.")
            label = classes[code]
        if not kept.holds(id):
            return _problem(404, f"No decision {id!r} is in this server's log: send the id that came with the answer.")
        stored = Feedback(kept.folder).put(id, label, source=given.source)
        return JSONResponse({"id": id, "label": label or None, "source": given.source, "stored": stored})

    def upstream(self) -> tuple[httpx2.AsyncClient, Server] | None:
        """Return a client of the LLM's server, and the server; None where there is none."""
        server = self.settings.upstream
        if server is None:
            return None
        if self._client is None:
            limits = httpx2.Limits(max_connections=self.settings.max_at_once)
            self._client = httpx2.AsyncClient(timeout=self.settings.deadline, follow_redirects=False, limits=limits)
        return self._client, server

    async def close(self) -> None:
        """Finish what is decided beside, write the log, and close the connections."""
        if self._beside:
            await asyncio.wait(self._beside, timeout=self.settings.deadline)
        for served in filter(None, (self.served, self.against)):
            await served.runtime.close()
        if self._client is not None:
            await self._client.aclose()
        if self.settings.log is not None:
            await asyncio.to_thread(self.settings.log.close)


def _share_of(text: str) -> float:
    """Return a number in [0, 1) that is always the same for a text."""
    return int(hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8], 16) / 2**32


class _Metrics:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()

        def made(kind: Any, name: str, what: str, labels: Sequence[str] = (), **more: Any) -> Any:
            return kind(f"hybrid_{name}", what, labels, registry=self.registry, **more)

        self.requests = made(prometheus.Counter, "requests_total", "Requests", ["path", "status"])
        self.seconds = made(prometheus.Histogram, "request_seconds", "Seconds of a request", ["path"], buckets=SECONDS)
        self._decisions = made(prometheus.Counter, "decisions_total", "Decisions", ["bundle", "mode", "tier"])
        self._asked = made(prometheus.Counter, "asked_total", "Tiers that were asked", ["tier"])
        self._failed = made(prometheus.Counter, "failures_total", "Calls without an answer", ["tier"])
        self._fallbacks = made(prometheus.Counter, "fallbacks_total", "Decisions where the surest answer stood in")
        self._unknown = made(prometheus.Counter, "unknown_total", "Decisions without a label")
        self._usd = made(prometheus.Counter, "cost_usd_total", "USD, every asked tier counted", ["tier"])
        self._escalation = made(
            prometheus.Gauge, "escalation_recent", f"Share of the last {RECENT} decisions that asked the last tier"
        )
        self._promised = made(prometheus.Gauge, "promised", "What the bundle measured on test", ["bundle", "number"])
        self._log = made(prometheus.Gauge, "log", "Decisions of the log by state", ["state"])
        self._first = made(
            prometheus.Histogram,
            "first_confidence",
            "Confidence of the first tier",
            buckets=[k / 20 for k in range(1, 21)],
        )

    def promised(self, evidence: Mapping[str, Any], bundle: str) -> None:
        test = evidence.get("metrics")
        test = test.get("test") if isinstance(test, dict) else None
        for name in ("accuracy", "escalation_rate", "cost_per_1000"):
            found = test.get(name) if isinstance(test, dict) else None
            value = found.get("value") if isinstance(found, dict) else None
            if isinstance(value, int | float):
                self._promised.labels(bundle, name).set(value)

    def count(self, decision: Decision, bundle: str, mode: str) -> None:
        self._decisions.labels(bundle, mode, decision.tier).inc()
        for number, step in enumerate(decision.trace):
            self._asked.labels(step.tier).inc()
            self._usd.labels(step.tier).inc(step.cost)
            if step.failure is not None:
                self._failed.labels(step.tier).inc()
            if number == 0:
                self._first.observe(step.confidence)
        if decision.fallback:
            self._fallbacks.inc()
        if decision.label is None:
            self._unknown.inc()

    def escalation(self, share: float) -> None:
        self._escalation.set(share)

    def log(self, kept: DecisionLog) -> None:
        for state in ("written", "waiting", "dropped"):
            self._log.labels(state).set(getattr(kept, state))


def build(settings: Settings) -> FastAPI:
    """Return the server as an ASGI application.

    Raises
    ------
    HybridError
        If the bundle cannot be served so.
    """
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(signal.SIGHUP, lambda: service.later(_reloaded(service)))
        yield
        service.stopping = True
        await service.close()

    app = FastAPI(title="hybrid", lifespan=life, docs_url=None, redoc_url=None)  # their pages fetch from outside
    app.state.service = service
    app.add_middleware(_Guard, service=service)

    @app.post("/classify")
    async def classify(request: Request) -> Response:
        try:
            asked = Classify.model_validate_json(await request.body())
        except ValidationError as error:
            return _problem(422, f'{error.errors()[0]["msg"]}: send {{"text": "…"}}, or a list of texts.')
        texts = [asked.text] if isinstance(asked.text, str) else asked.text
        if len(texts) > settings.max_batch:
            return _problem(413, f"{len(texts)} texts are more than the {settings.max_batch} of one request here.")
        found = [
            {"id": i, **asdict(d), "bundle": served.title, "review": service.is_drawn(i)}
            for i, d, served in await service.classify(texts)
        ]
        return JSONResponse(found[0] if isinstance(asked.text, str) else {"decisions": found})

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        raw = await request.body()
        try:
            body = foreign.parse(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _problem(400, f"The body is no JSON object, or one of more than {foreign.DEEPEST} levels.")
        served = service.served
        question = chat.read_question(
            body, served.runtime.classes, matcher(served.runtime.classes), inside=settings.inside
        )
        if question is None:
            return await _pass_on(service, raw, body, None)
        if not service.is_live(question.text) and settings.upstream is not None:
            return await _pass_on(service, raw, body, question)
        _ASKED.set((body, question))
        ((id, decision, served),) = await service.classify([question.text])
        if decision.label not in (*question.spelling, NONE_LABEL) and settings.upstream is not None:
            return await _pass_on(service, raw, body, None)  # the class that was decided is not among those offered
        whole = chat.completion(
            question,
            decision,
            id=id,
            model=f"hybrid/{served.name}/{decision.tier}",
            fingerprint=served.digest,
        )
        if not body.get("stream"):
            return JSONResponse(whole)
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return StreamingResponse(iter(chat.chunks(whole, with_usage=with_usage)), media_type="text/event-stream")

    @app.post("/feedback")
    async def feedback(request: Request) -> Response:
        try:
            given = Correct.model_validate_json(await request.body())
        except ValidationError as error:
            return _problem(422, f'{error.errors()[0]["msg"]}: send {{"id": "…", "label": "…"}}.')
        return await asyncio.to_thread(service.correct, given)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": f"hybrid/{service.served.name}", "object": "model", "created": 0}]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        problem = "stopping" if service.stopping else settings.log.problem if settings.log is not None else None
        if problem:
            return JSONResponse({"ready": False, "why": problem}, 503)
        return JSONResponse({"ready": True, "bundle": service.served.title, "mode": settings.mode})

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(
            prometheus.generate_latest(service.metrics.registry), media_type=prometheus.CONTENT_TYPE_LATEST
        )

    @app.get("/admin/where")
    async def where() -> dict[str, str | None]:
        kept = settings.log
        paths = {"bundle": settings.bundle, "against": settings.against, "log": None if kept is None else kept.folder}
        return {name: None if path is None else str(Path(path).absolute()) for name, path in paths.items()}

    @app.post("/admin/reload")
    async def reload() -> Response:
        try:
            return JSONResponse({"bundle": await service.reload()})
        except HybridError as error:
            return _problem(409, f"{error} Still serving {service.served.title}.")

    return app


async def _reloaded(service: Service) -> None:
    try:
        await service.reload()
    except HybridError as error:
        log.error("not reloaded: %s", error)


async def _pass_on(service: Service, raw: bytes, body: dict[str, Any], question: chat.Question | None) -> Response:
    """Send a request to the LLM's server and its answer back, byte by byte; `question` is decided beside it."""
    found = service.upstream()
    if found is None:
        known = ", ".join(service.served.runtime.classes[:20])
        return _problem(
            400,
            f"This is no request to classify a text into the bundle's classes ({known}), and no --upstream is set that "
            "it could be passed on to.",
        )
    client, server = found
    wanted = service.settings.upstream_model
    content = raw if wanted is None else json.dumps({**body, "model": wanted}).encode()
    request = client.build_request("POST", _completions(server), content=content, headers=_headers(server))
    try:
        answer = await client.send(request, stream=True)
    except httpx2.HTTPError as error:
        return _problem(502, f"The LLM's server cannot be asked ({type(error).__name__}).", kind="upstream")
    if 300 <= answer.status_code < 400:
        await answer.aclose()
        return _problem(502, "The LLM's server sends callers on to another address, which is not followed.")
    kept = {k: v for k, v in answer.headers.items() if k.lower() in ("content-type", "retry-after", "x-request-id")}
    served, id = service.served, new_id()
    if question is not None:
        kept["x-hybrid-decision"] = id  # what a correction would name

    async def through() -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        left = LONGEST_BODY
        try:
            async for part in answer.aiter_bytes():
                if question is not None and left >= 0:  # one byte too many says that it is too long
                    parts.append(part)
                    left -= len(part)
                yield part
        except httpx2.HTTPError:
            log.warning("the LLM's server broke off in the middle of an answer")
        finally:
            await answer.aclose()
            if question is not None and answer.status_code == 200:
                label, cost = _said(b"".join(parts), question, served)
                service.later(service.decide_beside(served, id, question.text, label, cost))

    return StreamingResponse(through(), answer.status_code, kept)


def _completions(server: Server) -> str:
    return f"{server.base_url.rstrip('/')}/chat/completions"


def _headers(server: Server) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "*/*"}
    if (key := server.key()) is not None:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _said(raw: bytes, question: chat.Question, served: _Served) -> tuple[str | None, float]:
    """Return the class that an LLM's answer, whole or streamed, names in the bundle's spelling, and what it cost."""
    try:
        words, used = _words(raw)
        label = _label(words, question.key, served.runtime.classes)
        model = served.runtime.bundle.llms.get(str(served.strong))
        cost = 0.0
        if model is not None and isinstance(used, dict):
            tokens = (foreign.count(used[name]) or 0 for name in ("prompt_tokens", "completion_tokens"))
            cost = model.settings.cost(*map(float, tokens))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None, 0.0
    return label, cost


def _words(raw: bytes) -> tuple[str, Any]:
    """Return what an LLM said, whole or streamed, and its usage."""
    if raw.lstrip().startswith(b"data:"):
        events = [json.loads(line[5:]) for line in raw.splitlines() if line.startswith(b"data: {")]
        words = "".join(c["delta"].get("content") or "" for e in events for c in e.get("choices") or ())
        return words, next((e["usage"] for e in reversed(events) if e.get("usage")), None)
    whole = json.loads(raw)
    return str(whole["choices"][0]["message"]["content"]), whole.get("usage")


def _tokens(used: Any) -> tuple[int, int]:
    """Return the tokens of a prompt and a reply as an LLM's server counted them; 0 where it said none."""
    said = used if isinstance(used, dict) else {}
    return foreign.count(said.get("prompt_tokens")) or 0, foreign.count(said.get("completion_tokens")) or 0


def _label(words: str, key: str | None, classes: Sequence[str]) -> str | None:
    """Return the class that a reply names; it may stand under the key that the client asked for."""
    found = re.search(rf'"{re.escape(key)}"\s*:\s*("(?:[^"\\]|\\.)*")', words) if key else None
    code = read_label(f'{{"label": {found.group(1)}}}' if found else words, classes)
    return classes[code] if code >= 0 else None


class _Guard:
    """Lets through who may ask, so much of a body, and so many at once; counts and times them."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, start = self._service, time.perf_counter()
        known = [r.path for r in scope["app"].routes] if "app" in scope else []
        path = scope["path"] if scope["path"] in known else "other"
        status = 500

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, noted)
        else:
            service.at_once += 1  # while its body comes, too: a thousand slow ones would hold a gigabyte
            try:
                whole = await self._whole(scope, receive)
                if isinstance(whole, Response):
                    await whole(scope, receive, noted)
                else:
                    await self._app(scope, whole, noted)
            except Exception:  # nobody's fault that a client could mend: said in the log, and in one shape
                log.exception("a request failed")
                if status == 500:
                    await _problem(500, "The server failed; its log says why.")(scope, receive, noted)
            finally:
                service.at_once -= 1
        service.metrics.requests.labels(path, str(status)).inc()
        service.metrics.seconds.labels(path).observe(time.perf_counter() - start)

    def _refusal(self, scope: Any) -> Response | None:
        """Return the refusal of a request by what stands before its body; None where there is none."""
        service = self._service
        headers = {k.lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if scope["path"] in OPEN:
            return None
        if not service.allows(headers.get(b"authorization")):
            return _problem(
                401, "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"}
            )
        if service.at_once >= service.settings.max_at_once:
            return _problem(
                429, "Too many requests at once; try again.", headers={"Retry-After": "1"}, kind="rate_limit"
            )
        return None

    async def _whole(self, scope: Any, receive: Any) -> Any:
        """Return a `receive` that gives the whole body of a request, or its refusal if that is too large or slow."""
        most = self._service.settings.max_body
        body = bytearray()
        try:
            async with asyncio.timeout(SLOWEST):
                more = scope["method"] == "POST"
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        break
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > most:
                        return _problem(413, f"The body has more than the {most:,} bytes that are taken here.")
        except TimeoutError:
            return _problem(408, f"The body did not come within {SLOWEST:g} seconds.")
        given = False

        async def again() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return again


def _problem(
    status: int, says: str, *, headers: Mapping[str, str] | None = None, kind: str = "invalid_request"
) -> Response:
    """Return an error in the shape that OpenAI's clients read."""
    return JSONResponse({"error": {"message": says, "type": kind, "code": None, "param": None}}, status, headers)


def check_reach(host: str, tokens: Sequence[str]) -> None:
    """Refuse to listen to other machines without a token.

    Raises
    ------
    HybridError
        The message says what to set.
    """
    if host not in LOOPBACK and not tokens:
        raise HybridError(
            f"Listening on {host} lets other machines ask: set {TOKENS_VARIABLE} to the tokens that may, with commas "
            "between them, or listen on 127.0.0.1 behind a proxy that asks for one."
        )


def tokens_here() -> tuple[str, ...]:
    """Return the tokens in the environment variable `HYBRID_SERVE_TOKENS`."""
    return tuple(t.strip() for t in os.environ.get(TOKENS_VARIABLE, "").split(",") if t.strip())


def run(settings: Settings, *, host: str = "127.0.0.1", port: int = 8000, grace: int = 30) -> None:
    """Serve until told to stop (SIGTERM or Ctrl-C): requests under way are finished first, and the log is written.

    Parameters
    ----------
    grace
        Seconds that requests under way may still take.

    Raises
    ------
    HybridError
        If the bundle cannot be served so.
    """
    check_reach(host, settings.tokens)
    uvicorn.run(
        build(settings),
        host=host,
        port=port,
        timeout_graceful_shutdown=grace,
        log_level="warning",
        log_config=None if structure() else LOGGING_CONFIG,
        access_log=False,
    )
