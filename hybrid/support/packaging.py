"""Packaging: the pipeline inside a policy's bundle, with golden tickets that it proves itself with."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from hybrid.errors import BundleError, SupportError
from hybrid.production.archive import MANIFEST, SIGNATURE, pack_files, read_files
from hybrid.production.bundle import Bundle
from hybrid.support.config import SupportConfig
from hybrid.support.extraction import RuleExtractor
from hybrid.support.field_patterns import Strict

MEMBER = "support.json"
GOLDEN = 20


class GoldenTicket(Strict):
    """A text, and what rules read out of it when the bundle was saved: field, value, start, end."""

    text: str
    fields: tuple[tuple[str, str, int, int], ...]


class _Stored(Strict):
    config: SupportConfig
    golden: tuple[GoldenTicket, ...] = ()


def add_to_bundle(bundle: bytes, config: SupportConfig, texts: Sequence[str] = ()) -> bytes:
    """Put a pipeline into a bundle, checksummed like the rest of it; a signature no longer holds and is left out.

    Parameters
    ----------
    bundle
        As `hybrid.production.bundle.save` makes it.
    texts
        To take golden tickets from.
    """
    rules = RuleExtractor(config.extraction)
    golden: list[GoldenTicket] = []
    for text in texts:
        if (found := rules.fields(text)) and len(golden) < GOLDEN:
            golden.append(GoldenTicket(text=text, fields=tuple((f.name, f.value, f.start, f.end) for f in found)))
    files = read_files(bundle)
    kept = {name: content for name, content in files.items() if name not in (MANIFEST, SIGNATURE, MEMBER)}
    return pack_files({**kept, MEMBER: _Stored(config=config, golden=tuple(golden)).model_dump_json(indent=2).encode()})


def config_of(bundle: Bundle) -> SupportConfig:
    """Return the pipeline of a bundle, once it reads every golden ticket as it did.

    Raises
    ------
    BundleError
        If there is none, it is damaged, or it reads a golden ticket otherwise here.
    """
    content = bundle.extras.get(MEMBER)
    if content is None:
        raise BundleError(
            "This bundle holds a policy but no support pipeline. Download it from the Support page, or make one: "
            "SupportPipeline(hybrid.load(path))."
        )
    try:
        stored = _Stored.model_validate_json(content)
        rules = RuleExtractor(stored.config.extraction)
    except (ValidationError, SupportError, RecursionError) as error:
        said = f"{error.errors()[0]['msg']}." if isinstance(error, ValidationError) else str(error)
        raise BundleError(f"{MEMBER}: {said} Export the bundle again.") from error
    for number, ticket in enumerate(stored.golden, 1):
        found = tuple((f.name, f.value, f.start, f.end) for f in rules.fields(ticket.text))
        if found != ticket.fields:
            raise BundleError(
                f"Golden ticket {number} is read differently here: {list(ticket.fields)} when it was exported, "
                f"{list(found)} now. Compare the versions in evidence.json with those here, or export it again."
            )
    return stored.config
