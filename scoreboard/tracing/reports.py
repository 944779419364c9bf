"""Reports of errors to Sentry: what is logged as an error or breaks a task, without anybody's data.

Sent by a background thread from a bounded queue (the library's: 100 reports); a Sentry
that is away costs reports, never requests.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import sentry_sdk
from celery.signals import worker_process_shutdown
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration, ignore_logger
from sentry_sdk.types import Event, Hint
from sentry_sdk.utils import event_from_exception

from scoreboard import __version__

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# The time that a stopping process gives its last reports.
_FLUSH_S = 2
# The fields of a log line that a report holds: ids and numbers, nothing that a player wrote.
_TAGS = frozenset({"request_id", "trace_id", "task_id", "task", "action_id", "code", "kind"})
# Error texts are cut to their first line and this length: what follows quotes statements, values and rows.
_TEXT_MAX = 300
_SECRETS = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*"  # JWT
    r"|gAAAA[\w=-]+"  # action tokens and tickets
    r"|(?<=://)[^/\s@]+(?=@)"  # credentials in a URL
    r"|(?<=Bearer )\S+"
    r"|(?<=ticket=)[^&\s]+|(?<=lastEventId=)[^&\s]+"
)
# A collector that is away is no fault of the service; nor is a broker that is away, which has metrics and alerts of
# its own and would be reported with each attempt to connect.
_NOT_REPORTED = ("opentelemetry.*", "celery.worker.consumer.consumer")


def start_reports(dsn: str, environment: str, process: str) -> None:
    """Report this process's errors; called again in a forked process, which needs connections of its own."""
    for name in _NOT_REPORTED:
        ignore_logger(name)
    sentry_sdk.init(
        dsn=dsn,
        release=f"scoreboard@{__version__}",
        environment=environment,
        # Only these: the others would report queries and commands with their values.
        auto_enabling_integrations=False,
        integrations=_integrations(process),
        before_send=clean,
        send_default_pii=False,
        max_request_body_size="never",
        # Passwords and proof keys are local variables of some function.
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        trace_propagation_targets=[],
        shutdown_timeout=_FLUSH_S,
    )
    scope = sentry_sdk.get_global_scope()
    scope.set_tag("process", process)
    scope.add_event_processor(_read_log_line)
    # Celery's pool processes leave without Python's exit handlers.
    if process == "worker":
        worker_process_shutdown.connect(_flush, dispatch_uid="scoreboard.reports", weak=False)


def _integrations(process: str) -> list[Integration]:
    logs = LoggingIntegration(level=None, event_level=logging.ERROR)
    return [logs, FlaskIntegration() if process == "web" else CeleryIntegration(propagate_traces=False)]


def _flush(**_: Any) -> None:
    sentry_sdk.flush(timeout=_FLUSH_S)


def _read_log_line(event: Event, hint: Hint) -> Event:
    """Make a report of a structlog line: its event's name, its ids as tags, its exception with the stack."""
    line = getattr(hint.get("log_record"), "msg", None)
    if not isinstance(line, dict):
        return event
    event["logentry"] = {"message": str(line.get("event"))}
    event.setdefault("tags", {}).update({name: str(line[name]) for name in _TAGS & line.keys()})
    error = _exception_of(line)
    if error is not None and "exception" not in event:
        options = sentry_sdk.get_client().options
        seen, _ = event_from_exception(error, options, mechanism={"type": "logging", "handled": True})
        event["exception"] = seen["exception"]
    return event


def _exception_of(line: Mapping[str, Any]) -> ExceptionInfo | None:
    given = line.get("exc_info")
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    found = sys.exc_info() if given is True else given
    return found if isinstance(found, tuple) and found[0] is not None else None


def clean(event: Event, _hint: Hint) -> Event:
    """The last step before a report leaves: an allow-list for the request, first lines of texts, nothing extra."""
    event.pop("extra", None)
    event.pop("user", None)
    event.pop("breadcrumbs", None)
    if request := event.get("request"):
        parts = urlsplit(str(request.get("url", "")))
        event["request"] = {"method": request.get("method"), "url": f"{parts.scheme}://{parts.netloc}{parts.path}"}
    if said := event.get("logentry"):
        event["logentry"] = {"message": _first_line(said.get("formatted") or said.get("message"))}
    for exception in event.get("exception", {}).get("values", []):
        exception["value"] = _first_line(exception.get("value"))
    return event


def _first_line(value: object) -> str:
    lines = str(value).splitlines() or [""]
    return _SECRETS.sub("[removed]", lines[0])[:_TEXT_MAX]
