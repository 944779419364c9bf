"""Successful answers."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from flask import Response


def answer(data: Mapping[str, object], status: int = 200) -> Response:
    """A successful answer; private ones are not to be kept by any cache."""
    body = orjson.dumps({"success": True, "data": data})
    return Response(body, status, {"Cache-Control": "no-store"}, content_type="application/json")
