"""What a caller asks for beside the operation: how long to wait (RFC 7240), and where a stream goes on."""

from __future__ import annotations

import re

from flask import Request

# Longer waits hold connections for nothing: a settled action takes well under a second.
WAIT_MAX_S = 10
_WAIT = re.compile(r'^wait\s*=\s*"?(\d{1,18})"?$', re.IGNORECASE)


def preferred_wait_s(header: str | None) -> float | None:
    """Seconds the caller will wait, at most ten; None without the preference. The first one given counts.

    ``header`` is what all Prefer headers say, joined by commas.
    """
    for preference in (header or "").split(","):
        found = _WAIT.match(preference.split(";")[0].strip())
        if found:
            return min(int(found[1]), WAIT_MAX_S)
    return None


def asked_event_id(http: Request) -> str | None:
    """The id after which the caller wants to go on, None for a new stream; the header's wins over the query's.

    Any text may come, and be no id of ours: the caller is told so by a ``reset``, never by a refusal,
    because an EventSource does not come back from one. Several ids that differ are no id.
    """
    given = http.headers.get("Last-Event-ID", "").split(",")
    ids = set(filter(None, map(str.strip, given))) or set(filter(None, http.args.getlist("lastEventId")))
    return ",".join(sorted(ids)) or None
