"""Whether the values of settings are usable, tried at start rather than at their first use.

Each function returns the value as it is used, or raises ValueError with what to do about it.
No message quotes a secret.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from psycopg2 import OperationalError, ProgrammingError, connect
from psycopg2.extensions import make_dsn
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import ArgumentError

# RFC 7518, section 3.3, for RS256.
_RSA_MIN_BITS = 2048
_DRIVER = "postgresql+psycopg2://"
_NO_SOCKET = "/dev/null/none"


def postgres_url(value: str) -> str:
    """With the driver in its scheme."""
    # Heroku hands out postgres://, which SQLAlchemy no longer accepts.
    for scheme in ("postgres://", "postgresql://"):
        if value.startswith(scheme):
            value = _DRIVER + value.removeprefix(scheme)
    if not value.startswith(_DRIVER):
        raise ValueError("must start with postgresql://")
    try:
        dialect: Any = PGDialect_psycopg2
        arguments, options = dialect().create_connect_args(make_url(value))
        make_dsn(*arguments, **options)
    except (ArgumentError, ValueError):
        # Not the library's words, which quote the address.
        raise ValueError("is not an address of the form postgresql://user:password@host:port/name") from None
    except ProgrammingError:
        raise ValueError("has an option behind the ? that libpq does not know") from None
    _check_postgres_options(options)
    return value


def _check_postgres_options(options: Mapping[str, Any]) -> None:
    """Let libpq read the values, which it does before it connects: to sockets that can't be there, one per host."""
    hosts = str(options.get("host", "")).split(",")
    tried = {name: value for name, value in options.items() if name not in ("host", "hostaddr", "password")}
    try:
        connect(host=",".join([_NO_SOCKET] * len(hosts)), **tried).close()
    except OperationalError as error:
        said = str(error).strip().partition("\n")[0]
        if said.startswith(("invalid ", "could not match")):
            raise ValueError(f"libpq says: {said}") from None


def private_key(value: str) -> str:
    """An RSA key in PEM; ``\\n`` in its place is a line's end, as hosts store it that take one line."""
    pem = value.replace("\\n", "\n")
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("is encrypted: set the key without a passphrase") from None
    except ValueError:
        raise ValueError("is not a private key in PEM: openssl genrsa -out new.pem 2048") from None
    _check_rsa(key, RSAPrivateKey)
    return pem


def public_keys(value: str) -> str:
    """A JSON object of RSA keys in PEM by their ids; the first id is the signing key's."""
    try:
        keys = json.loads(value)
    except ValueError:
        raise ValueError('is not JSON: {"key id": "-----BEGIN PUBLIC KEY-----\\n…"}') from None
    if not (isinstance(keys, dict) and keys and all(isinstance(pem, str) for pem in keys.values())):
        raise ValueError("must be a JSON object of at least one key id with its PEM")
    for name, pem in keys.items():
        try:
            key = load_pem_public_key(pem.encode())
        except ValueError:
            raise ValueError(f"the key {name!r} is not a public key in PEM") from None
        _check_rsa(key, RSAPublicKey, f"the key {name!r} ")
    return value


def _check_rsa(key: object, kind: type[RSAPrivateKey | RSAPublicKey], name: str = "") -> None:
    if not isinstance(key, kind):
        raise ValueError(f"{name}is not an RSA key, which RS256 needs")
    if key.key_size < _RSA_MIN_BITS:
        raise ValueError(f"{name}has {key.key_size} bits; RS256 needs {_RSA_MIN_BITS}")


def check_key_pair(private_pem: str, public_json: str) -> None:
    """Sign with the one and verify with the first of the others; both have been checked by themselves."""
    keys: Mapping[str, str] = json.loads(public_json)
    name, public_pem = next(iter(keys.items()))
    private, public = load_pem_private_key(private_pem.encode(), None), load_pem_public_key(public_pem.encode())
    assert isinstance(private, RSAPrivateKey)
    assert isinstance(public, RSAPublicKey)
    text = b"tried at start"
    try:
        public.verify(
            private.sign(text, padding.PKCS1v15(), hashes.SHA256()), text, padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature:
        raise ValueError(
            f"JWT_PUBLIC_KEYS: its first key, {name!r}, is not the public half of JWT_PRIVATE_KEY"
        ) from None


def metrics_folder(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError(f"there is no folder {value}: make it, empty, before the start")
    if not os.access(value, os.W_OK | os.X_OK):
        raise ValueError(f"this process may not write into {value}")
    return value


def collector_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address such as http://collector:4318") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as http://collector:4318")
    return value


def sentry_dsn(value: str) -> str:
    # Imported late: half a second that only those pay who use it.
    from sentry_sdk.utils import BadDsn, Dsn

    try:
        Dsn(value)
    except (BadDsn, ValueError):
        raise ValueError("is not a DSN as Sentry shows it: https://key@host/project") from None
    return value


def bind_addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    """IPv6 in brackets, as a port comes behind it."""
    found = []
    for value in values:
        try:
            address = ipaddress.ip_address(value.strip("[]"))
        except ValueError:
            raise ValueError(f"each must be an IP address such as 0.0.0.0 or [::], without a port: {value!r}") from None
        found.append(f"[{address}]" if address.version == 6 else str(address))
    return tuple(found)
