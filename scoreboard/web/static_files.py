"""The browser's files: named by content, kept for good, compressed.

``make assets`` builds ``static/built`` from the sources beside it. In development a page loads the sources themselves
as soon as they differ from what was built, so that an edit shows after a reload.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from mimetypes import guess_type
from pathlib import Path
from posixpath import normpath

from flask import Flask, Response, current_app, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from config import Settings

_EXTENSION = "static-files"
_IMMUTABLE = "public, max-age=31536000, immutable"
# The module keeps its address for other sites' sake: they have a new one within five minutes.
_STABLE = "public, max-age=300"
# A name that another release gave to such a file.
_NAMED_BY_CONTENT = re.compile(r"built/([a-z]+)-[A-Z0-9]{8}(\.[a-z]+)")
_MODULE = "scoreboard.js"
# Python's table takes .ts for a film.
_TYPES = {".ts": "text/plain", ".js": "text/javascript"}
_COMPRESSIBLE = ("text/", "image/svg", "application/json")
# Below this a packet carries it anyway.
_SMALLEST_COMPRESSED = 256


@dataclass(frozen=True)
class _File:
    body: bytes
    mimetype: str
    tag: str
    # None where compressing brings nothing.
    zipped: bytes | None


class StaticFiles:
    """One folder of sources with the files built from them."""

    def __init__(self, folder: Path, *, is_production: bool) -> None:
        """Raises OSError or ValueError when nothing was built."""
        self._folder = folder
        self._is_production = is_production
        manifest = json.loads((folder / "built" / "manifest.json").read_text(encoding="utf-8"))
        self._built: dict[str, str] = manifest["files"]
        self._sources: dict[str, str] = manifest["sources"]

    def url(self, name: str) -> str:
        """The path of the file built from this source."""
        return url_for("static", filename=f"built/{self._built[name]}" if self._is_built() else name)

    def send(self, name: str) -> Response:
        """Answer with a file, compressed where the client takes that, or 304. Raises NotFound."""
        path, cache_control = self._find(name)
        try:
            state = path.stat()
            file = _load(path, state.st_mtime_ns, state.st_size)
        except (OSError, ValueError):  # ValueError: a name with a NUL
            raise NotFound from None
        return _respond(file, cache_control)

    def _find(self, name: str) -> tuple[Path, str]:
        cache_control = _STABLE
        if name == _MODULE and self._is_built():
            name = f"built/{self._built[_MODULE]}"
        elif match := _NAMED_BY_CONTENT.fullmatch(name):
            current = self._built.get("".join(match.groups()))
            cache_control = _IMMUTABLE if name == f"built/{current}" else "no-cache"
            # While releases change, a page of one may ask a process of the other.
            name = f"built/{current}"
        path = safe_join(str(self._folder), name)
        # Each file has one address: no other spelling of it, as with a slash at the end.
        if path is None or normpath(name) != name:
            raise NotFound
        return Path(path), cache_control

    def _is_built(self) -> bool:
        """Whether the built files match the sources; in production they are not edited."""
        return self._is_production or all(
            (self._folder / name).is_file() and hashlib.sha256((self._folder / name).read_bytes()).hexdigest() == digest
            for name, digest in self._sources.items()
        )


def init_static_files(app: Flask, settings: Settings) -> None:
    """Have them at hand, and ``asset_url`` in templates."""
    files = StaticFiles(Path(str(app.static_folder)), is_production=settings.is_production)
    app.extensions[_EXTENSION] = files
    app.jinja_env.globals["asset_url"] = files.url


def static_files() -> StaticFiles:
    files: StaticFiles = current_app.extensions[_EXTENSION]
    return files


# There are about forty files of a few KB each. An edited one is another entry.
@lru_cache(maxsize=100)
def _load(path: Path, _mtime_ns: int, _size: int) -> _File:
    body = path.read_bytes()
    mimetype = _TYPES.get(path.suffix) or guess_type(path.name)[0] or "application/octet-stream"
    zipped = _zip(body, level=9) if mimetype.startswith(_COMPRESSIBLE) else None
    return _File(body, mimetype, hashlib.sha256(body).hexdigest()[:20], zipped)


def _zip(body: bytes, level: int) -> bytes | None:
    if len(body) < _SMALLEST_COMPRESSED:
        return None
    zipped = gzip.compress(body, level, mtime=0)
    return zipped if len(zipped) < len(body) else None


def _respond(file: _File, cache_control: str) -> Response:
    # Ranges are of the plain file: no client resumes a compressed one.
    is_zipped = file.zipped is not None and _takes_gzip() and "Range" not in request.headers
    body = file.zipped if is_zipped and file.zipped is not None else file.body
    response = current_app.response_class(body, mimetype=file.mimetype)
    if is_zipped:
        response.headers["Content-Encoding"] = "gzip"
    if file.zipped is not None:
        response.vary.add("Accept-Encoding")
    # Each form has a tag of its own: a cache must not join halves of two.
    response.set_etag(f"{file.tag}-gzip" if is_zipped else file.tag)
    response.headers["Cache-Control"] = cache_control
    response.make_conditional(request, accept_ranges=True, complete_length=len(body))
    return response


def _takes_gzip() -> bool:
    return request.accept_encodings.quality("gzip") > 0


# The pages and the description of the API: three texts at a time, the same for everybody.
@lru_cache(maxsize=8)
def _zipped_text(body: bytes) -> bytes | None:
    return _zip(body, level=6)


def compress(response: Response) -> Response:
    """The same answer compressed and with a tag, or 304; only for texts without anybody's data (they are kept)."""
    body = response.get_data()
    zipped = _zipped_text(body)
    tag = hashlib.sha256(body).hexdigest()[:20]
    response.vary.add("Accept-Encoding")
    if zipped is not None and _takes_gzip():
        response.set_data(zipped)
        response.headers["Content-Encoding"] = "gzip"
        tag += "-gzip"
    response.set_etag(tag)
    response.make_conditional(request)
    return response
