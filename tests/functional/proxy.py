"""A reverse proxy of the test's own: the road between a browser and the service, which the test can break."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from scoreboard.web.paths import STREAM_PATH

BLANK = "/blank"
_BLANK_PAGE = b"<!doctype html><html lang=en><title>A page of the test</title><link rel=icon href=data:,>"
_CHUNK = 65_536
# Longer than any heartbeat: what says nothing for so long is dead, and its thread must end.
_SILENCE_S = 60.0
