"""The page at / and the description of the API, for people."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from scoreboard import __version__
from scoreboard.web.api.openapi import describe
from scoreboard.web.static_files import compress

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def home() -> Response:
    return _page("index.html")


@blueprint.get("/openapi.json")
def openapi() -> Response:
    response = jsonify(describe())
    response.headers["Cache-Control"] = "public, max-age=60"
    return compress(response)


@blueprint.get("/api/docs")
def docs() -> Response:
    return _page("docs.html", api=describe())


def _page(template: str, **values: object) -> Response:
    """A page without anybody's data: kept, so that Back is instant, but never shown without asking for a newer one."""
    page = current_app.make_response(render_template(template, version=__version__, **values))
    page.headers["Cache-Control"] = "no-cache"
    return compress(page)


@blueprint.get("/favicon.ico")
def favicon() -> AnyResponse:
    return redirect(url_for("static", filename="favicon.svg"), 308)
