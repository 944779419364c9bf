"""Redis that answers with an error: the processes wait and go on, health says so, and all is done afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import httpx
import pytest
import redis

from scoreboard.live.queue.app import QUEUE
from scoreboard.local import LocalServers
from tests.functional.client import Api, Json, Player, board, data_of, eventually, register
from tests.servers import servers_in
from tests.service import SERVING, Service, open_folder, running_service

# A sweep, the broker's pause after a refusal, Celery's before it connects again, and other tests on the same cores.
WELL_S = 90.0
NOTICED_S = 20.0
Fault = Callable[[Any], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def service(fault_servers: LocalServers) -> Iterator[Service]:
    with running_service(fault_servers) as service:
        yield service


@pytest.fixture
def operator(service: Service) -> Iterator[redis.Redis]:
    """The service's Redis, asked by an operator: a user of its own that every fault leaves alone."""
    with redis.Redis.from_url(service.redis_url) as default:
        default.acl_setuser("operator", enabled=True, nopass=True, keys="*", channels="*", categories=["+@all"])
        port = service.servers.valkey.port
        with redis.Redis(port=port, username="operator", password="any", single_connection_client=True) as operator:
            yield operator


@contextmanager
def setting(operator: Any, **values: Any) -> Iterator[None]:
    """Settings of the server, with underscores for dashes, as long as it lasts."""
    before = {name: operator.config_get(name.replace("_", "-")) for name in values}
    for name, value in values.items():
        operator.config_set(name.replace("_", "-"), value)
    try:
        yield
    finally:
        for found in before.values():
            for name, old in found.items():
                operator.config_set(name, old)


@contextmanager
def replica(operator: Any) -> Iterator[None]:
    """A failover that made it the replica of another server, an empty one, whose copy it becomes; and back."""
    with open_folder() as folder, servers_in(folder, with_postgres=False) as spare:
        password = redis.Redis.from_url(spare.redis_url).connection_pool.connection_kwargs["password"]
        with redis.Redis.from_url(spare.redis_url) as primary:
            # At once, and without files: their folder isn't theirs to write to.
            primary.config_set("repl-diskless-sync-delay", 0)
        with setting(operator, masterauth=password, repl_diskless_load="swapdb"):
            operator.replicaof("127.0.0.1", str(spare.valkey.port))
            try:
                eventually(
                    lambda: operator.info("replication"), lambda state: state["master_link_status"] == "up", NOTICED_S
                )
                yield
            finally:
                operator.replicaof("NO", "ONE")


@contextmanager
def cut_off_replica(operator: Any) -> Iterator[None]:
    """The replica of a server that is not there, with what it had: some failovers look so for a while."""
    with setting(operator, replica_serve_stale_data="no"):
        operator.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            operator.replicaof("NO", "ONE")


def too_few_replicas(operator: Any) -> AbstractContextManager[None]:
    return setting(operator, min_replicas_to_write=1)


def full(operator: Any) -> AbstractContextManager[None]:
    """No room, and nothing may be evicted."""
    return setting(operator, maxmemory=1)


@contextmanager
def unsaved(operator: Any) -> Iterator[None]:
    """It can't save its data, and was told to refuse writes then."""
    with setting(operator, save="3600 1"):
        # Its folder is the root, which its account may not write to.
        operator.bgsave()
        eventually(
            lambda: operator.info("persistence"), lambda state: state["rdb_last_bgsave_status"] == "err", NOTICED_S
        )
        yield


@contextmanager
def busy(operator: Any) -> Iterator[None]:
    """A slow script of another client."""
    with setting(operator, busy_reply_threshold=50):
        port = operator.connection_pool.connection_kwargs["port"]
        other = redis.Redis(port=port, username="operator", password="any", socket_timeout=120)

        def occupy() -> None:
            with suppress(redis.RedisError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=occupy)
        thread.start()
        try:
            yield
        finally:
            eventually(lambda: _kill_script(operator), bool, NOTICED_S)
            thread.join()
            other.close()


def _kill_script(operator: Any) -> bool:
    with suppress(redis.ResponseError):
        return bool(operator.script_kill())
    return False


@contextmanager
def rights_taken(operator: Any) -> Iterator[None]:
    operator.execute_command("ACL", "SETUSER", "default", "-@write", "-brpop", "-evalsha")
    try:
        yield
    finally:
        operator.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def password_changed(operator: Any) -> Iterator[None]:
    """And every connection that knew the old one is cut."""
    default: Any = operator.acl_getuser("default")
    known = [each.decode() if isinstance(each, bytes) else each for each in default["passwords"]]
    operator.execute_command("ACL", "SETUSER", "default", "resetpass", ">another")
    operator.execute_command("CLIENT", "KILL", "USER", "default")
    try:
        yield
    finally:
        operator.execute_command("ACL", "SETUSER", "default", "resetpass", *(f"#{each}" for each in known))


# Each with the word that health gives as the reason.
FAULTS: dict[Fault, str] = {
    replica: "READONLY",
    cut_off_replica: "READONLY",
    too_few_replicas: "NOREPLICAS",
    full: "OOM",
    unsaved: "MISCONF",
    busy: "BUSY",
    rights_taken: "NOPERM",
    password_changed: "AuthenticationError",
}


def parts_of(service: Service) -> Json:
    health: Json = httpx.get(f"{service.url}/health/detailed", timeout=30).json()["data"]
    return dict(health["parts"], status=health["status"])


def accept(service: Service, player: Player) -> list[str]:
    """Two completions that can't be settled now; each is acknowledged."""
    actions = [player.request_action() for _ in range(2)]
    for action, wait_s in zip(actions, (None, 1), strict=True):
        assert player.complete(action, wait_s).status_code in (200, 202)
    return [action["actionId"] for action in actions]


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_whatever_redis_refuses_with_is_waited_for(service: Service, operator: Any, fault: Fault, reason: str) -> None:
    pids = {name: service.supervisor_of(name).pids()[name] for name in SERVING}
    player = register(service.url)
    said = len(service.lines)
    with fault(operator):
        eventually(lambda: parts_of(service), lambda parts: reason in str(parts["redis"]["detail"]), NOTICED_S)
        assert reason in str(parts_of(service)["broker"]["detail"]) or parts_of(service)["broker"]["status"] == "down"
        assert parts_of(service)["status"] == "degraded"
        accepted = accept(service, player)
        newcomer = register(service.url)
        # A board that can't be written stands still: PostgreSQL has the present one.
        eventually(lambda: board(Api(service.url)), lambda rows: newcomer.id in {row["userId"] for row in rows})
        # Beat has tried to ring, which it does every two seconds; the worker asks for messages every second.
        eventually(lambda: any("broker_unavailable" in line for line in service.lines[said:]), bool, NOTICED_S)
        assert httpx.get(f"{service.url}/health", timeout=30).status_code == 200
        assert_running(service, pids)
    for action_id in accepted:
        done = eventually(lambda: player.action(action_id), lambda each: each["settledAt"], WELL_S)  # noqa: B023
        assert done["status"] == "applied"
    eventually(lambda: parts_of(service)["status"], lambda status: status == "ok", WELL_S)
    assert data_of(player.api.get("/v1/users/me/score"))["score"] == 2
    assert_running(service, pids)
    assert not [line for line in service.lines if "Unrecoverable" in line]
    assert operator.llen(QUEUE) < 10


def assert_running(service: Service, pids: dict[str, int]) -> None:
    assert not service.web.ended()
    assert not service.supervisor.ended()
    assert {name: service.supervisor_of(name).pids()[name] for name in SERVING} == pids
