"""The Prefer header (RFC 7240)."""

from __future__ import annotations

import re

from flask import request

# Longer waits hold connections for nothing: a settled action takes well under a second.
WAIT_MAX_S = 10
_WAIT = re.compile(r'^wait\s*=\s*"?(\d{1,18})"?$', re.IGNORECASE)


def preferred_wait_s() -> float | None:
    """Seconds the caller will wait, at most ten; None without the preference. The first one given counts."""
    for header in request.headers.getlist("Prefer"):
        for preference in header.split(","):
            found = _WAIT.match(preference.split(";")[0].strip())
            if found:
                return min(int(found[1]), WAIT_MAX_S)
    return None
