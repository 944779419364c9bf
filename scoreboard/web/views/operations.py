"""/health and /metrics: for load balancers and operators."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scoreboard import __version__
from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import (
    AccountBanned,
    InsufficientPermissions,
    InvalidToken,
    ServiceUnavailable,
    TokenExpired,
)
from scoreboard.metric_values import BOOK, Series
from scoreboard.services.upkeep.health import check_parts, check_postgres, check_readiness, overall, read_backlog
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.web.api import responses
from scoreboard.web.api.answers import answer
from scoreboard.web.bootstrap import Components, current_components
from scoreboard.web.door.bearer import bears
from scoreboard.web.door.call import BareCall
from scoreboard.web.door.enter import serves
from scoreboard.web.door.operation import Access, Operation

blueprint = Blueprint("operations", __name__)
_REFUSALS = (InvalidToken, TokenExpired, InsufficientPermissions, AccountBanned)


# A restart of PostgreSQL takes some seconds; probes come that often anyway.
_RETRY_S = 5


@blueprint.get("/health")
@serves(Operation("Up or not", access=Access.ANYONE, answer=responses.Health, is_unlimited=True))
def health(call: BareCall) -> Response:
    """503 when PostgreSQL does not answer, takes no writes or is not migrated. Redis is not needed."""
    return _health_answer(check_postgres(current_components().database).status)


@blueprint.get("/health/live")
@serves(Operation("Liveness", access=Access.ANYONE, answer=responses.Health, is_unlimited=True))
def liveness(call: BareCall) -> Response:
    """For liveness probes: 200 while this process answers. It asks no server, because a restart would not mend one."""
    return _health_answer("ok")


@blueprint.get("/health/ready")
@serves(Operation("Readiness", access=Access.ANYONE, answer=responses.Health, is_unlimited=True))
def readiness(call: BareCall) -> Response:
    """For load balancers: `degraded` (200) while the board and its streams are served but writes are not possible.

    503 when neither is possible, or when PostgreSQL isn't fit: not migrated, another encoding, rights missing.
    """
    app = current_components()
    return _health_answer(check_readiness(app.database, app.standings))


def _health_answer(status: str, **more: object) -> Response:
    """The status as data; of a service that is down as the details of its one kind of refusal."""
    if status == "down":
        raise ServiceUnavailable(_RETRY_S, details={"status": status, **more})
    return answer({"status": status, **more})


@blueprint.get("/health/detailed")
@serves(
    Operation(
        "Each part's state", access=Access.ANYONE, answer=responses.DetailedHealth, errors=_REFUSALS, is_unlimited=True
    )
)
def detailed_health(call: BareCall) -> Response:
    """For operators: in production with an admin's token or OPERATOR_TOKEN as bearer token.

    Without Postgres it is 503, with the parts in `error.details`.
    """
    _check_operator(call)
    app = current_components()
    parts = check_parts(app.database, app.redis, app.standings, app.broker_length, app.board_watch)
    status = overall(parts)
    shown = {name: part.as_json() for name, part in parts.items()}
    return _health_answer(status, version=__version__, parts=shown)


@blueprint.get("/metrics")
@serves(
    Operation(
        "Prometheus metrics",
        access=Access.ANYONE,
        answer=None,
        media_type="text/plain",
        errors=_REFUSALS,
        is_unlimited=True,
    )
)
def show_metrics(call: BareCall) -> Response:
    """For operators: in production with an admin's token or OPERATOR_TOKEN as bearer token."""
    _check_operator(call)
    app = current_components()
    registry = CollectorRegistry()
    registry.register(_Counts(app))
    collected = generate_latest(registry) + generate_latest(_live_figures(app))
    return Response(collected, content_type=CONTENT_TYPE_LATEST)


def _live_figures(components: Components) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_LiveFigures(components))
    return registry


class _Counts(Collector):
    """What this host's web processes have counted, and all workers."""

    def __init__(self, components: Components) -> None:
        self._components = components

    def collect(self) -> Iterator[Metric]:
        sent = {Series.parse(key): number for key, number in self._components.shared_counts.read().items()}
        of_workers = {series: number for series, number in sent.items() if series is not None}
        yield from BOOK.families([*BOOK.of_host(), of_workers])


class _LiveFigures(Collector):
    """Asked at the time of the scrape, because no process alone knows them."""

    def __init__(self, components: Components) -> None:
        self._components = components

    def collect(self) -> Iterator[GaugeMetricFamily]:
        app = self._components
        parts = check_parts(app.database, app.redis, app.standings, app.broker_length, app.board_watch)
        up = GaugeMetricFamily("scoreboard_part_up", "1 while this dependency is healthy, else 0", labels=["part"])
        for name, part in parts.items():
            up.add_metric([name], 1 if part.status == "ok" else 0)
        yield up
        pool = GaugeMetricFamily("scoreboard_database_connections", "PostgreSQL connections in use by this process")
        pool.add_metric([], self._components.database.checked_out())
        yield pool
        try:
            backlog = read_backlog(self._components.database)
        except POSTGRES_UNAVAILABLE:
            return
        yield GaugeMetricFamily(
            "scoreboard_unsettled_actions", "Accepted actions that are not settled yet", value=backlog.unsettled
        )
        yield GaugeMetricFamily(
            "scoreboard_oldest_unsettled_seconds",
            "Age of the oldest accepted action that is not settled",
            value=backlog.oldest_unsettled_s,
        )
        yield GaugeMetricFamily(
            "scoreboard_unannounced_actions", "Settled actions that are not announced yet", value=backlog.unannounced
        )


def _check_operator(call: BareCall) -> None:
    """Open in development. Raises InvalidToken, InsufficientPermissions."""
    settings = current_components().settings
    if not settings.is_production:
        return
    if settings.operator_token and bears(call.authorization, settings.operator_token):
        return
    caller = call.optional_caller
    if caller is None:
        raise InvalidToken
    if caller.role is not Role.ADMIN:
        raise InsufficientPermissions
