"""Which run of the server one talks to: a restarted Redis may have come back with an older copy of the data.

The script cache is the one thing of ours that a server never keeps over a restart, never saves and never hands to a
replica (Redis 7 and Valkey document it so). So scripts that must not believe an older copy carry the run's id in their
text: they are there in that run only, and Redis says NOSCRIPT in the next.

The id is the server's own ``run_id`` where INFO may be asked. A user without ``@dangerous``, as on many hosted
servers, may not: then the first one to come makes an id up. ``sb:run`` tells it to the others, and every script looks
there, so that all processes use the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any
from uuid import uuid4

import redis
from redis.exceptions import NoScriptError, ResponseError

from scoreboard.live.connection import text

RUN = "sb:run"
# Those that read or write what an older copy may hold.
_NAMES = ("apply_standings", "finish_rebuild", "is_whole", "publish", "read_standings")
_IS_ID = re.compile(r"[0-9a-zA-Z]{8,64}").fullmatch
# Once for a server that was restarted, once more for one whose script cache or data was emptied just then.
_TRIES = 3
# In front of each script. KEYS ends with the key of the run.
_HEAD = """\
local run = '{run}'
if redis.call('GET', KEYS[#KEYS]) ~= run then
  return redis.error_reply('OTHERRUN')
end
"""
# Tells that this is still the run with this id.
_PROBE = "return 1 -- scoreboard, run {run}"
# Another process may be making an id up: the first one wins.
_AGREE = """\
if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
"""
_SOURCES = {
    name: resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8") for name in _NAMES
}


class RunScripts:
    """Calls the scripts that know the server's run; ``call`` raises redis errors when Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._hashes: dict[str, str] | None = None

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run ``scripts/<name>.lua``, which finds the id of the run in ``run``."""
        for _ in range(_TRIES):
            hashes = self._hashes
            if hashes is None:
                hashes = self._hashes = self._meet()
            try:
                return self._client.evalsha(hashes[name], len(keys) + 1, *keys, RUN, *arguments)
            except NoScriptError:
                self._hashes = None
            except ResponseError as error:
                if not str(error).startswith("OTHERRUN"):
                    raise
                self._hashes = None
        raise redis.ConnectionError("Redis has been restarted or emptied again and again")

    def _meet(self) -> dict[str, str]:
        """Find out or make up the run's id, and leave the scripts with it; returns their hashes.

        All over one connection, which ends with the server: so nothing is left in a run with another one's id.
        """
        pool = self._client.connection_pool
        connection: Any = pool.get_connection()
        try:
            run = _agree(connection)
            return {name: text(_ask(connection, "SCRIPT", "LOAD", _with_run(name, run))) for name in _NAMES}
        except ResponseError:
            raise
        except BaseException:
            # The answer may still come: no other call may read it as its own.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


def _agree(connection: Any) -> str:
    """The id that all processes use for this run of the server."""
    own = _own_id(connection)
    known = _known_id(connection)
    if known is not None and (own == known or (own is None and _is_present(connection, known))):
        return known
    run = own or uuid4().hex
    _ask(connection, "SCRIPT", "LOAD", _PROBE.format(run=run))
    agreed = text(_ask(connection, "EVAL", _AGREE, 1, RUN, known or "", run))
    return agreed if _IS_ID(agreed) else run


def _own_id(connection: Any) -> str | None:
    """The server's name for its run; None where INFO is forbidden, or lacks it."""
    try:
        info = text(_ask(connection, "INFO", "server"))
    except ResponseError:
        return None
    found = re.search(r"^run_id:(\w+)\s*$", info, re.MULTILINE)
    return found[1] if found and _IS_ID(found[1]) else None


def _known_id(connection: Any) -> str | None:
    known = _ask(connection, "GET", RUN)
    return text(known) if known is not None else None


def _is_present(connection: Any, run: str) -> bool:
    if not _IS_ID(run):
        return False
    sha = hashlib.sha1(_PROBE.format(run=run).encode(), usedforsecurity=False).hexdigest()
    try:
        _ask(connection, "EVALSHA", sha, 0)
    except NoScriptError:
        return False
    return True


def _ask(connection: Any, *command: object) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _with_run(name: str, run: str) -> str:
    return _HEAD.format(run=run) + _SOURCES[name]
