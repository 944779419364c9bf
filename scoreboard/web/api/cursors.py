"""Keyset cursors: the end of a page, opaque to the caller."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import orjson

from scoreboard.domain.errors import ValidationFailed


def encode_cursor(*parts: int | str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def decode_cursor(cursor: str | None, kinds: Sequence[type]) -> list[int | str] | None:
    """The parts of a cursor, checked against ``kinds``; None for the first page. Raises ValidationFailed."""
    if cursor is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise ValidationFailed({"cursor": "is not a cursor of this list"})
    return parts
