"""The page at / and the description of the API, for people."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from scoreboard import __version__
from scoreboard.web.openapi import describe

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def home() -> str:
    return render_template("index.html", version=__version__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    response = jsonify(describe())
    response.headers["Cache-Control"] = "public, max-age=60"
    return response


@blueprint.get("/api/docs")
def docs() -> str:
    return render_template("docs.html", api=describe(), version=__version__)


@blueprint.get("/favicon.ico")
def favicon() -> AnyResponse:
    return redirect(url_for("static", filename="favicon.svg"), 308)
