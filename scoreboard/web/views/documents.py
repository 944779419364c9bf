"""The description of the API: /openapi.json for programs, /api/docs for people."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from scoreboard.web.api.openapi import describe
from scoreboard.web.static_files import compress
from scoreboard.web.views.pages import render_page

blueprint = Blueprint("documents", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    response = jsonify(describe())
    response.headers["Cache-Control"] = "public, max-age=60"
    return compress(response)


@blueprint.get("/api/docs")
def docs() -> Response:
    return render_page("docs.html", api=describe())
