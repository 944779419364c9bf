"""The Idempotency-Key header: a change that may be sent again when its answer was lost."""

from __future__ import annotations

import hashlib
import re

import orjson
from pydantic import BaseModel

from scoreboard.domain.errors import ValidationFailed
from scoreboard.store.idempotency import KeyedRequest
from scoreboard.store.sessions import Caller

HEADER = "Idempotency-Key"
KEY_MAX = 64
_KEY = re.compile(rf"[\x20-\x7e]{{1,{KEY_MAX}}}")


def keyed_request(caller: Caller, key: str, *, method: str, path: str, body: BaseModel | None) -> KeyedRequest:
    """What makes a request with this key the same as another of this caller. Raises ValidationFailed.

    Operation, account and the fields of the body count, not how they are written.
    """
    if not _KEY.fullmatch(key):
        raise ValidationFailed({HEADER: f"must have 1 to {KEY_MAX} printable characters"})
    asked = [method, path, None if body is None else body.model_dump(mode="json")]
    return KeyedRequest(caller.user_id, key, hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest())
