"""What trusted proxies say of a request: the client's address and the scheme it used.

Each proxy appends an entry to ``X-Forwarded-For`` (or to ``Forwarded``, RFC 7239), so the
entry that counts is found from the right; what stands before it is the client's invention.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Literal, NamedTuple

from scoreboard import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Address = IPv4Address | IPv6Address
ForwardedHeader = Literal["x-forwarded-for", "forwarded"]
#: Why the client's address is not known: no header, fewer entries than proxies, or an entry that is no address.
Problem = Literal["missing", "too_few", "unreadable"]

# The longest of all, an IPv6 address in brackets and quotes with a zone and a port, has some 70.
_NODE_MAX = 200
# A port may be hidden as well; some proxies leave its digits out.
_PORT = re.compile(r"(?::(?:\d{0,5}|_[A-Za-z0-9._-]+))?")
# Where IPv4 clients reach an IPv6 service through a translator: one network for all of them (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")
_IPV4_BITS = 0xFFFF_FFFF
# Called directly, past the proxies, by those who watch the service.
_DIRECT_PATHS = ("/health", "/metrics")


class Forwarded(NamedTuple):
    """The address that counts, None where the peer's own has to do; and what was wrong with the header."""

    address: Address | None
    problem: Problem | None


# Callers come again, and reading costs some microseconds; 4,096 addresses are about 1 MB.
@lru_cache(maxsize=4096)
def read_address(node: str) -> Address | None:
    """The address in one entry as proxies write it; None for ``unknown``, hidden names and whatever is none.

    With or without port, brackets, quotes, zone and spaces; IPv4 written as IPv6 is IPv4.
    """
    if len(node) > _NODE_MAX:
        return None
    text = node.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1]).strip(" \t")
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return _plain_address(host) if "]" in text and ":" in host and _PORT.fullmatch(port) else None
    host, colon, port = text.partition(":")
    if ":" in port:
        # Eight groups and a port, without the brackets that belong there; fewer groups can't be told from a port.
        return _plain_address(text) or (_plain_address(text.rpartition(":")[0]) if text.count(":") == 8 else None)
    return _plain_address(host) if _PORT.fullmatch(colon + port) else None


def _plain_address(host: str) -> Address | None:
    try:
        # The zone is the proxy's own name for one of its links.
        address = ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & _IPV4_BITS)
    # A zone would be kept in the object otherwise.
    return address.ipv4_mapped or address


def client_of(value: str | None, hops: int, header: ForwardedHeader) -> Forwarded:
    """Whom ``hops`` trusted proxies vouch for in a header's value, several lines joined by commas.

    An entry that can't be read counts as the proxy that wrote it: that is the next entry to the
    right, or the peer. Empty entries are entries, or a client's comma would move the count.
    """
    if not value:
        return Forwarded(None, "missing")
    # From the right and without a look at quotes: one that a client leaves open would hide what stands behind it.
    entries = value.rsplit(",", hops)[-hops:]
    if len(entries) < hops:
        return Forwarded(None, "too_few")
    for place, entry in enumerate(entries):
        node = entry if header == "x-forwarded-for" else _parameter(entry, "for")
        address = read_address(node) if node is not None else None
        if address is not None:
            return Forwarded(address, "unreadable" if place else None)
    return Forwarded(None, "unreadable")


def scheme_of(value: str | None, hops: int, header: ForwardedHeader) -> str | None:
    """The scheme of the client's own request, ``http`` or ``https``; None when the proxies don't say.

    Some proxies append to ``X-Forwarded-Proto`` and others replace it: the first is taken of fewer entries than hops.
    """
    entry = (value or "").rsplit(",", hops)[-hops:][0]
    word = entry if header == "x-forwarded-for" else (_parameter(entry, "proto") or "")
    scheme = word.strip(' \t"').lower()
    return scheme if scheme in ("http", "https") else None


def _parameter(element: str, name: str) -> str | None:
    """The one value of a parameter of a ``Forwarded`` element."""
    pairs = (pair.partition("=") for pair in element.split(";"))
    values = [value for key, _, value in pairs if key.strip(" \t").lower() == name]
    return values[0] if len(values) == 1 else None


def trust_proxies(application: WSGIApplication, hops: int, header: ForwardedHeader) -> WSGIApplication:
    """The application, told the client's own address and scheme in the places of the peer's.

    Of ``REMOTE_ADDR`` the peer's is left where the proxies name no address; for a peer at a unix socket it is empty.
    """
    address_key = _environ_key(header)
    scheme_key = address_key if header == "forwarded" else "HTTP_X_FORWARDED_PROTO"

    def tell(environ: WSGIEnvironment, start_response: object) -> object:
        address, problem = client_of(environ.get(address_key), hops, header)
        if problem is not None and not (problem == "missing" and environ["PATH_INFO"].startswith(_DIRECT_PATHS)):
            metrics.FORWARDED_PROBLEMS.labels(problem).inc()
        if address is not None:
            environ["REMOTE_ADDR"] = str(address)
        environ["wsgi.url_scheme"] = scheme_of(environ.get(scheme_key), hops, header) or environ["wsgi.url_scheme"]
        return application(environ, start_response)  # type: ignore[arg-type]  # passed on as it came

    return tell  # type: ignore[return-value]  # the same call


def _environ_key(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"
