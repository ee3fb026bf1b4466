"""Signature: who exported a bundle; Ed25519 over its manifest, which holds the checksum of everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.errors import BundleError
from hybrid.production.archive import MANIFEST, SIGNATURE, read_files, read_json, zipped

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = b"hybrid-tuner bundle 1\n"  # so that the same key's signature under something else is none here
HOW = 'pip install "hybrid-tuner[sign]"'


def sign(bundle: bytes, private_key: str) -> bytes:
    """Return a bundle with a signature, in place of one that it had.

    Parameters
    ----------
    bundle
        A zip.
    private_key
        Ed25519, as PEM: ``openssl genpkey -algorithm ed25519`` makes one.

    Raises
    ------
    BundleError
        If the bundle is damaged, or the key is none.
    """
    files = read_files(bundle)
    key = _private(private_key)
    said = {
        "algorithm": "ed25519",
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(PURPOSE + files[MANIFEST]).hex(),
    }
    return zipped({**files, SIGNATURE: json.dumps(said, indent=2).encode()})


def check_signature(files: Mapping[str, bytes], trust: Sequence[str]) -> None:
    """Refuse a bundle unless one of the trusted keys has signed its manifest.

    Parameters
    ----------
    trust
        Public keys: 64 hexadecimal digits, PEM, or the path of a file that holds either.

    Raises
    ------
    BundleError
        If nobody signed it, or somebody else did, or what was signed was changed.
    """
    keys = [_public(one) for one in ([trust] if isinstance(trust, str) else trust)]
    from cryptography.exceptions import InvalidSignature  # an extra

    if SIGNATURE not in files:
        raise BundleError(
            "The bundle is not signed, and you trust signed ones only. Sign it: hybrid sign bundle.zip --key FILE."
        )
    stored = read_json(files, SIGNATURE)
    try:
        signature = bytes.fromhex(stored["signature"])
        signer = bytes.fromhex(stored["public_key"])
    except (KeyError, TypeError, ValueError):
        raise BundleError(f"{SIGNATURE} is damaged. Sign the bundle again.") from None
    for key in keys:
        try:
            key.verify(signature, PURPOSE + files[MANIFEST])
        except InvalidSignature:
            continue
        return
    raise BundleError(
        f"The bundle is signed by {signer.hex()[:16]}…, and not validly by a key that you trust: it comes from "
        "somebody else, or was changed after it was signed."
    )


def _private(pem: str) -> Ed25519PrivateKey:
    kinds, load = _cryptography()
    try:
        key = load.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, kinds.Ed25519PrivateKey):
        raise BundleError(
            "The private key is no Ed25519 key in PEM without a password. Make one: openssl genpkey -algorithm ed25519."
        )
    found: Ed25519PrivateKey = key
    return found


def _public(given: str) -> Ed25519PublicKey:
    kinds, load = _cryptography()
    text = given.strip()
    if "BEGIN" not in text and len(text) != 64:
        try:
            text = Path(text).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            text = ""
    try:
        key = (
            load.load_pem_public_key(text.encode())
            if "BEGIN" in text
            else kinds.Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
        )
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, kinds.Ed25519PublicKey):
        raise BundleError(
            f"trust: {given[:80]!r} is no public Ed25519 key: give 64 hexadecimal digits, PEM, or a file of either."
        )
    found: Ed25519PublicKey = key
    return found


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise BundleError(f"Signatures need the extra: {HOW}.") from None
    return ed25519, serialization
