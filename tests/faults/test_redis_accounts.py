"""Redis as hosts hand it out: a user with few rights, TLS with a certificate of its own, another database."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config import ROOT
from scoreboard.local.servers import free_port
from tests.functional.client import Api, board, data_of, eventually, metric, register
from tests.servers import asked_releases
from tests.service import Service, open_folder

StartService = Callable[..., Service]
WELL_S = 40.0
PASSWORD = "hosted"


def documented_rights() -> list[str]:
    """The ACL line of docs/operations.md, without its command and name."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    found = re.search(r"^ACL SETUSER scoreboard ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert found
    return shlex.split(found[1].replace("\\\n", " ").replace("PASSWORD", PASSWORD))


def assert_works(service: Service) -> None:
    """Settled, told, on the board, counted; the board whole, also after a rebuild that was asked for."""
    player = register(service.url)
    with player.stream() as stream:
        assert data_of(player.complete(player.request_action()))["rank"] is not None
        stream.wait_for("score:update", WELL_S)
    rebuilt = service.run("rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    service.wait_until_up()
    fallbacks = metric(service.url, "scoreboard_board_fallbacks_total")
    assert [row["score"] for row in board(Api(service.url)) if row["userId"] == player.id] == [1]
    assert metric(service.url, "scoreboard_board_fallbacks_total") == fallbacks
    assert metric(service.url, "scoreboard_limit_fallbacks_total") == 0


def test_the_documented_rights_are_enough(start_fault_service: StartService) -> None:
    def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
        with redis.Redis.from_url(direct["REDIS_URL"]) as operator:
            operator.execute_command("ACL", "SETUSER", "scoreboard", *documented_rights())
        return {
            "REDIS_URL": direct["REDIS_URL"]
            .replace("redis://:", "redis://scoreboard:")
            .replace(password_of(direct["REDIS_URL"]), PASSWORD)
        }

    service = start_fault_service(reroute=reroute)
    assert_works(service)
    with redis.Redis.from_url(service.direct_env["REDIS_URL"]) as operator:
        # What was tried and refused: the server's own id, which it may not ask for.
        assert {entry["object"] for entry in operator.acl_log()} <= {"info"}
        # An emptied Redis is noticed and filled again without it.
        operator.flushdb()
        eventually(lambda: metric(service.url, "scoreboard_part_up", part="board"), lambda is_up: is_up == 1, WELL_S)
        # Without one of the commands the board may be whole, and no stream hears of it: health tells.
        for command in ("xadd", "xread", "hset", "zadd", "set"):
            operator.execute_command("ACL", "SETUSER", "scoreboard", f"-{command}")
            assert metric(service.url, "scoreboard_part_up", part="redis") == 0, command
            operator.execute_command("ACL", "SETUSER", "scoreboard", f"+{command}")
    eventually(lambda: metric(service.url, "scoreboard_part_up", part="redis"), lambda is_up: is_up == 1, WELL_S)


def password_of(url: str) -> str:
    password: str = redis.Redis.from_url(url).connection_pool.connection_kwargs["password"]
    return password


@pytest.fixture
def certificate() -> Iterator[Path]:
    """A folder with cert.pem and key.pem, which nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    with open_folder() as folder:
        (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        # The server's own account reads it.
        (folder / "key.pem").chmod(0o644)
        yield folder


@pytest.mark.skipif(asked_releases() is None, reason="the server in the wheel was built without TLS; Debian's has it")
def test_tls_another_database_and_timeouts_in_the_url(start_fault_service: StartService, certificate: Path) -> None:
    def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
        port = free_port()
        with redis.Redis.from_url(direct["REDIS_URL"]) as operator:
            operator.config_set("tls-auth-clients", "no")
            operator.config_set(
                "tls-cert-file",
                str(certificate / "cert.pem"),
                "tls-key-file",
                str(certificate / "key.pem"),
                "tls-ca-cert-file",
                str(certificate / "cert.pem"),
                "tls-port",
                port,
            )
        address = f":{password_of(direct['REDIS_URL'])}@127.0.0.1:{port}"
        return {
            "REDIS_URL": f"rediss://{address}?db=5&ssl_cert_reqs=none&socket_timeout=3&health_check_interval=10",
            # As strict as can be, and the path for the database.
            "CELERY_BROKER_URL": f"rediss://{address}/6?ssl_ca_certs={certificate / 'cert.pem'}&protocol=3",
        }

    assert_works(start_fault_service(reroute=reroute))
