"""Secrets at rest: only their SHA-256 is stored.

A plain hash is right for 256 random bits: there is nothing to guess, so nothing to slow down.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


def digest_of(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(digest: str, known: Iterable[str]) -> bool:
    """Whether the digest is among the known ones, in time that does not tell which."""
    found = False
    for one in known:
        found |= hmac.compare_digest(digest, one)
    return found
