"""The page at /, and how any page is sent."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from scoreboard import __version__
from scoreboard.web.static_files import compress

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def home() -> Response:
    return render_page("index.html")


@blueprint.get("/favicon.ico")
def favicon() -> AnyResponse:
    return redirect(url_for("static", filename="favicon.svg"), 308)


def render_page(template: str, **values: object) -> Response:
    """A page without personal data. Browsers keep it, so that Back is instant, and ask for a newer one each time."""
    page = current_app.make_response(render_template(template, version=__version__, **values))
    page.headers["Cache-Control"] = "no-cache"
    return compress(page)
