"""The Idempotency-Key header: a change that may be sent again when its answer was lost."""

from __future__ import annotations

import hashlib
import re

import orjson
from flask import request
from pydantic import BaseModel

from scoreboard.domain.errors import ValidationFailed
from scoreboard.store.idempotency import KeyedRequest
from scoreboard.store.sessions import Caller

HEADER = "Idempotency-Key"
KEY_MAX = 64
_KEY = re.compile(rf"[\x20-\x7e]{{1,{KEY_MAX}}}")


def keyed_request(caller: Caller, body: BaseModel | None = None) -> KeyedRequest | None:
    """What makes this request the same as another of this caller; None without the header. Raises ValidationFailed.

    Operation, account and the fields of the body count, not how they are written.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise ValidationFailed({HEADER: f"must have 1 to {KEY_MAX} printable characters"})
    asked = [request.method, request.path, None if body is None else body.model_dump(mode="json")]
    return KeyedRequest(caller.user_id, key, hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest())
