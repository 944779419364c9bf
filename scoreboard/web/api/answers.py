"""Successful answers."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response

from scoreboard.wire.encoding import to_json


def answer(data: Mapping[str, object], status: int = 200) -> Response:
    """A successful answer; private ones are not to be kept by any cache."""
    body = to_json({"success": True, "data": data})
    return Response(body, status, {"Cache-Control": "no-store"}, content_type="application/json")
