"""Where the web server listens, and how this machine reaches it."""

from __future__ import annotations

import contextlib
import socket

from config import Settings, SettingsError

# All addresses, and the one of this machine among them.
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


def listen_addresses(settings: Settings) -> tuple[str, ...]:
    """IPv6 in brackets. Unset, in development: this machine only, by both addresses that "localhost" may mean."""
    if settings.bind:
        return settings.bind
    if settings.is_production:
        return ("0.0.0.0",)  # noqa: S104
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return ("127.0.0.1", "[::1]")
    return ("127.0.0.1",)


def own_url(settings: Settings) -> str:
    """The web server as this machine reaches it."""
    address = listen_addresses(settings)[0]
    return f"http://{_WILDCARDS.get(address, address)}:{settings.port}/"


def check_port(settings: Settings, *, may_share: bool = False) -> None:
    """Raise SettingsError when an address or the port can't be had.

    ``may_share`` lets other sockets of ours listen there too, as gunicorn's do.
    """
    for address in listen_addresses(settings):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if may_share:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                probe.bind((address.strip("[]"), settings.port))
            except OSError as error:
                raise SettingsError(
                    f"PORT: {settings.port} can't be used on {address} ({error.strerror}): set PORT or BIND to another"
                ) from None
