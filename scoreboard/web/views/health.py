"""/health: for load balancers, probes and operators."""

from __future__ import annotations

from flask import Blueprint, Response

from scoreboard import __version__
from scoreboard.domain.errors import ServiceUnavailable
from scoreboard.services.upkeep.health import Health, check_parts, check_postgres, check_readiness, overall
from scoreboard.web.api import responses
from scoreboard.web.api.answers import answer
from scoreboard.web.api.operation import Access, Operation, serves
from scoreboard.web.bootstrap import current_components
from scoreboard.web.door.call import BareCall
from scoreboard.web.views.operators import REFUSALS, check_operator

blueprint = Blueprint("health", __name__)

# A restart of PostgreSQL takes some seconds; probes come that often anyway.
_RETRY_S = 5


@blueprint.get("/health", endpoint="health")
@serves(Operation("Up or not", access=Access.ANYONE, answer=responses.Health, is_unlimited=True))
def show_health(call: BareCall) -> Response:
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
    components = current_components()
    return _health_answer(check_readiness(components.database, components.standings))


def _health_answer(status: Health) -> Response:
    """The status as data; of a service that is down as the details of its one kind of refusal."""
    if status == "down":
        raise ServiceUnavailable(_RETRY_S, details={"status": status})
    return answer(responses.Health(status=status))


@blueprint.get("/health/detailed")
@serves(
    Operation(
        "Each part's state", access=Access.ANYONE, answer=responses.DetailedHealth, errors=REFUSALS, is_unlimited=True
    )
)
def detailed_health(call: BareCall) -> Response:
    """For operators: in production with an admin's token or OPERATOR_TOKEN as bearer token.

    Without Postgres it is 503, with the parts in `error.details`.
    """
    check_operator(call)
    components = current_components()
    parts = check_parts(
        components.database,
        components.redis,
        components.standings,
        components.broker_length,
        components.board_watch,
    )
    shown = {
        name: responses.PartInfo(status=part.status, latencyMs=part.latency_ms, detail=part.detail)
        for name, part in parts.items()
    }
    status = overall(parts)
    if status == "down":
        raise ServiceUnavailable(_RETRY_S, details={"status": status, "version": __version__, "parts": shown})
    return answer(responses.DetailedHealth(status=status, version=__version__, parts=shown))
