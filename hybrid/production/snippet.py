"""Snippet: the lines of Python that run a bundle as they stand, whatever its tiers and classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from hybrid.production.binding import Server
from hybrid.routing.engine import Policy
from hybrid.routing.table import Tier
from hybrid.tiers import LocalModel
from hybrid.tiers.embedders import EndpointEmbedder
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.servers import KEY_VARIABLE

LOAD = "hybrid.load"
ASKED = """\
decision = pipeline("I was charged twice")
print(decision.label, decision.confidence, decision.tier, decision.cost, decision.trace)

decisions = pipeline.decide(["Where is my parcel?", "The app crashes"])
"""


def snippet(
    file: str,
    policy: Policy,
    *,
    classes: Sequence[str],
    models: Mapping[str, LocalModel],
    llms: Mapping[str, LLMTier] | None = None,
    load: str = LOAD,
    then: str = ASKED,
    also: Mapping[str, Server] | None = None,
) -> str:
    """Return the lines that load a bundle and decide with it.

    The servers that it asks are named, so that whoever runs the lines sees where texts go; a tier that it cannot ask
    gets a function to fill in, which answers as it stands.

    Parameters
    ----------
    file
        Name of the bundle's file.
    policy, classes, models, llms
        As `hybrid.production.bundle.save` was given them.
    load, then
        What loads it, and the lines after that.
    also
        Servers that something beside the policy asks, by name.
    """
    asked = dict(also or {}) | servers(policy, models=models, llms=llms or {})
    external = [t for t in policy.tiers if t.name not in models and t.name not in (llms or {})]
    lines = ["import hybrid", ""]
    given = []
    names = (f"ask_model{'' if i == 1 else f'_{i}'}" for i in count(1))
    functions = {}
    for tier in external:
        functions[tier.name] = next(names)
        lines += ["", *_function(functions[tier.name], tier, classes[0]), ""]
    if functions:
        lines += [""]
        given.append(_dict("models", functions))
    if asked:
        variables = sorted({s.key_variable for s in asked.values()})
        lines += [f"# keys are read from the environment where a server needs one: {', '.join(variables)}"]
        given.append(_dict("servers", {n: _server(s) for n, s in asked.items()}))
    if len(given) > 1 or sum(map(len, given)) > 70:
        inner = "".join(f"    {one},\n" for one in given)
        loaded = f"pipeline = {load}(\n    {quoted(file)},\n{inner})"
    else:
        loaded = f"pipeline = {load}({', '.join([quoted(file), *given])})"
    if functions and load == LOAD:
        loaded += "\npipeline.rehearse()  # asks your functions about one text each: better refused now than at work"
    return "\n".join([*lines, loaded, then])


def servers(
    policy: Policy, *, models: Mapping[str, LocalModel], llms: Mapping[str, LLMTier] | None = None
) -> dict[str, Server]:
    """Return the servers that a bundle of this policy asks, by tier, as whoever exports it had set them."""
    found = {}
    for name in policy.names:
        if name in (llms or {}):
            settings = (llms or {})[name].settings
            found[name] = Server(settings.base_url, settings.key_variable)
        elif (endpoint := _endpoint(models.get(name))) is not None:
            found[name] = Server(endpoint.base_url, endpoint.key_variable)
    return found


def quoted(name: str) -> str:
    r"""Return a name as a Python literal: no name can end its quotes.

    Examples
    --------
    >>> print(quoted("llm"), quoted('llm": __import__("os")'))
    "llm" 'llm": __import__("os")'
    """
    literal = repr(name)  # also escapes what cannot be printed, or turns the direction of writing
    plain = literal[0] == "'" and not set('"\\') & set(literal)
    return f'"{literal[1:-1]}"' if plain else literal


def _function(name: str, tier: Tier, label: str) -> list[str]:
    if tier.kind == "gate":
        answer, what = "hybrid.Answer(None, confidence=0.5)", "how easy each text is, from 0 to 1"
    else:
        answer, what = f"hybrid.Answer({quoted(label)}, confidence=0.9, cost=0.003)", "what it says"
    if tier.picks_from:
        return [
            f"def {name}(texts, likely):  # may be async; likely: the answers to pick from, a tuple for each text",
            "    # show each text with its answers to a person, and return what was picked",
            "    return [hybrid.Answer(answers[0], confidence=0.9, cost=1.0) for answers in likely]",
        ]
    return [
        f"def {name}(texts):  # may be async",
        f"    # ask {quoted(tier.name)} here, and return {what}, as sure as it was when the policy was tuned",
        f"    return [{answer} for text in texts]",
    ]


def _dict(argument: str, values: Mapping[str, str]) -> str:
    return f"{argument}={{{', '.join(f'{quoted(name)}: {value}' for name, value in values.items())}}}"


def _server(server: Server) -> str:
    key = "" if server.key_variable == KEY_VARIABLE else f", {quoted(server.key_variable)}"
    return f"hybrid.Server({quoted(server.base_url)}{key})"


def _endpoint(model: LocalModel | None) -> EndpointEmbedder | None:
    if isinstance(model, AveragedClassifier):
        return _endpoint(model.embedding)
    if isinstance(model, EmbeddingClassifier) and isinstance(model.embedder, EndpointEmbedder):
        return model.embedder
    return None
