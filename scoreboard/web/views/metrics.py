"""/metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scoreboard.metric_values import BOOK, Series
from scoreboard.services.upkeep.health import check_parts, read_backlog
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import Components, current_components
from scoreboard.web.door.call import BareCall
from scoreboard.web.views.operators import REFUSALS, check_operator

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@serves(
    Operation(
        "Prometheus metrics",
        access=Access.ANYONE,
        answer=None,
        media_type="text/plain",
        errors=REFUSALS,
        is_unlimited=True,
    )
)
def show_metrics(call: BareCall) -> Response:
    """For operators: in production with an admin's token or OPERATOR_TOKEN as bearer token."""
    check_operator(call)
    components = current_components()
    shown = _exposition(_Counts(components)) + _exposition(_LiveFigures(components))
    return Response(shown, content_type=CONTENT_TYPE_LATEST)


def _exposition(collector: Collector) -> bytes:
    """A collector's metrics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


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
        components = self._components
        parts = check_parts(
            components.database,
            components.redis,
            components.standings,
            components.broker_length,
            components.board_watch,
        )
        up = GaugeMetricFamily("scoreboard_part_up", "1 while this dependency is healthy, else 0", labels=["part"])
        for name, part in parts.items():
            up.add_metric([name], 1 if part.status == "ok" else 0)
        yield up
        pool = GaugeMetricFamily("scoreboard_database_connections", "PostgreSQL connections in use by this process")
        pool.add_metric([], components.database.checked_out())
        yield pool
        try:
            backlog = read_backlog(components.database)
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
