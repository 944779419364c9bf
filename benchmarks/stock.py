"""flask-sse as its own documentation shows it, to compare with."""

from __future__ import annotations

from flask import Flask
from flask_sse import sse


def create_app(redis_url: str) -> Flask:
    app = Flask(__name__)
    app.config["REDIS_URL"] = redis_url
    app.register_blueprint(sse, url_prefix="/stream")
    return app
