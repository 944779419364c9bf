"""What each field and parameter of the API means, with an example: a name means the same wherever it stands.

What stands on a model's own field wins. A test holds the description of the API against this: nothing is left without
words, and nothing here without a field.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_USER_ID = "01a2a6f0-5d6b-7c3a-9a52-0d6f3b1c7e42"
_ACTION_ID = "01a2a6f1-1c80-7f7e-8b1d-5a2d94c1e013"
_MOMENT = "2026-11-27T14:05:09.250000Z"
_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2UiOiJhY2Nlc3MifQ.c2lnbmF0dXJl"  # noqa: S105 - an example


class FieldDoc(NamedTuple):
    text: str
    example: Any


#: By name, or by model and name where one model means something else.
FIELDS: dict[str, FieldDoc] = {
    "acceptedAt": FieldDoc("when the completion was taken in", _MOMENT),
    "accessToken": FieldDoc("send it as bearer token with every call", _TOKEN),
    "accounts": FieldDoc("accounts by status", {"active": 120, "flagged": 2, "banned": 1}),
    "actionId": FieldDoc("the action", _ACTION_ID),
    "actionToken": FieldDoc("the token that the request answered, unchanged", "gAAAAABn…"),
    "actionType": FieldDoc("code of an action type in the catalogue", "COMPLETE_LEVEL"),
    "actorId": FieldDoc("the account that did it; null for the service itself", _USER_ID),
    "actualMs": FieldDoc("what was measured, in milliseconds", 412),
    "amount": FieldDoc("points to add; negative to take some, not 0", 25),
    "at": FieldDoc("when it happened; for a score, from when it counts", _MOMENT),
    "base": FieldDoc("of computed points: what is multiplied", 10.0),
    "boardVersion": FieldDoc("the board's version now", 1795788309250000),
    "bound": FieldDoc("which bound was broken", "minimum"),
    "boundMs": FieldDoc("the bound, in milliseconds", 1000),
    "checksum": FieldDoc("proof that completion and action belong together", "a195642d" * 8),
    "clock": FieldDoc("whose measurement broke the bound", "server"),
    "code": FieldDoc("the action type's code", "COMPLETE_LEVEL"),
    "completionTime": FieldDoc("how long the action took, in milliseconds", 4200),
    "cookies": FieldDoc("whether to set cookies too", False),
    "createdAt": FieldDoc("when the account was made", _MOMENT),
    "cursor": FieldDoc("where to go on: `nextCursor` of the page before", "WzE3XQ"),
    "data": FieldDoc("anything that belongs to the completion", "lap 3"),
    "detail": FieldDoc("what is wrong with it; null when it is well", "no answer within 3 s"),
    "details": FieldDoc("more about it, by kind of event", {"reason": "a prize"}),
    "email": FieldDoc("the address, null for none", "ada@example.org"),
    "enteredTop10": FieldDoc("whether the player has come into the first ten", True),
    "error": FieldDoc(
        "what was refused and why", {"code": "NOT_FOUND", "message": "There is no such thing.", "details": {}}
    ),
    "event": FieldDoc("kind of event, dotted lower case", "user.banned"),
    "expiresAt": FieldDoc("when the token ends", _MOMENT),
    "expiresIn": FieldDoc("seconds until it ends", 3600),
    "fullMs": FieldDoc("up to this time all points count", 4000),
    "fullMsBy": FieldDoc("metadata name → time by value", {"difficulty": {"easy": 4000}}),
    "id": FieldDoc("the account", _USER_ID),
    "AuditItem.id": FieldDoc("the event", 17),
    "increment": FieldDoc("by how much the score changed", 10),
    "ip": FieldDoc("the address it came from, as far as trusted proxies vouch for it; null if unknown", "192.0.2.7"),
    "isHidden": FieldDoc("whether the account is never on the board, as admins and game servers", False),
    "issuedAt": FieldDoc("when the token was handed out; the server's clock runs from then", _MOMENT),
    "items": FieldDoc("this page, newest first", []),
    "kind": FieldDoc("how the points are found", "computed"),
    "lastActionAt": FieldDoc("when the latest scored completion was taken in", _MOMENT),
    "lastEventId": FieldDoc("the last id that was received; the header `Last-Event-ID` wins", "1795788309250:42"),
    "lastUpdated": FieldDoc("when the present score was reached; of a board, when it was read", _MOMENT),
    "latencyMs": FieldDoc("how long it took to answer, in milliseconds", 0.8),
    "leaderboard": FieldDoc("rows in the board's order", []),
    "least": FieldDoc("the share of the points that is left in the end", 0.5),
    "leastMs": FieldDoc("from this time on only the least share counts", 20000),
    "leastMsBy": FieldDoc("metadata name → time by value", {"difficulty": {"easy": 20000}}),
    "leftTop10": FieldDoc("whether the player has fallen out of the first ten", False),
    "limit": FieldDoc("how many at most, 1 to 100", 20),
    "maxPoints": FieldDoc("the most that this action can bring", 10),
    "maxTimeMs": FieldDoc("the longest time, in milliseconds, by either clock", 300000),
    "maximum": FieldDoc("the most that an action of this type can bring", 100),
    "message": FieldDoc("for people; may change", "There is no such thing."),
    "metadata": FieldDoc("what the type's `metadataSchema` asks for", {"difficulty": "easy"}),
    "metadataSchema": FieldDoc("JSON Schema of the metadata", {"type": "object"}),
    "minTimeMs": FieldDoc("the shortest time, in milliseconds, by either clock", 1000),
    "minTimeMsBy": FieldDoc("metadata name → shortest time by value", {"difficulty": {"easy": 1000}}),
    "multiply": FieldDoc("factors of computed points", {"difficulty": {"easy": 1.0, "hard": 5.0}}),
    "newRank": FieldDoc("the place now; null for not on the board or unknown", 3),
    "newScore": FieldDoc("the score after it", 130),
    "nextCursor": FieldDoc("`cursor` of the next page; null at the end", "WzE3XQ"),
    "offset": FieldDoc("how many rows to skip", 0),
    "oldRank": FieldDoc("the place before; null for not on the board or unknown", 5),
    "oldScore": FieldDoc("the score before it", 120),
    "oldestUnsettledS": FieldDoc("age of the oldest accepted action that is not settled, in seconds", 0.04),
    "onBehalfOf": FieldDoc("the player that a system account acts for", _USER_ID),
    "parts": FieldDoc("by name: postgres, redis, broker, workers …", {}),
    "password": FieldDoc("the password", "correct horse battery"),
    "percentile": FieldDoc("share of the others who are below; null for not on the board", 87.5),
    "players": FieldDoc("how many are on the board", 120),
    "points": FieldDoc("the points reached, for types whose points are reported", 87),
    "ActionTypeInfo.points": FieldDoc("what a completion is worth", {"kind": "fixed", "value": 1, "maximum": 1}),
    "previousRank": FieldDoc("the place before; null for not on the board or unknown", 5),
    "previousScore": FieldDoc("the score before it", 120),
    "proof": FieldDoc("what shows that the action was done", {"completionTime": 4200, "checksum": "a195642d" * 8}),
    "proofKey": FieldDoc("key of the proof's checksum, as UTF-8", "r8o5ljzS8SgtseXyNsalU24teVxWtFHy"),
    "q": FieldDoc("part of a user name or an e-mail address", "ada"),
    "radius": FieldDoc("how many rows on each side, 0 to 50", 5),
    "rank": FieldDoc("the place, from 1; null for not on the board or unknown", 3),
    "rankChange": FieldDoc("places gained", 2),
    "reason": FieldDoc("why; null where nothing has to be said", "a prize"),
    "ActionInfo.reason": FieldDoc("why it was not applied, as a code; else null", "COMPLETION_TIME"),
    "Outcome.reason": FieldDoc("why it was not applied, as a code; else null", "COMPLETION_TIME"),
    "ActionResultEvent.reason": FieldDoc("why it was not applied, as a code; else null", "COMPLETION_TIME"),
    "ResetEvent.reason": FieldDoc("why nothing can be sent after the given id", "gone"),
    "reasonDetails": FieldDoc(
        "which bound was broken", {"clock": "server", "bound": "minimum", "boundMs": 1000, "actualMs": 412}
    ),
    "refreshToken": FieldDoc("changes this pair for a new one, once", _TOKEN),
    "refusals": FieldDoc("how a refusal comes", "event"),
    "result": FieldDoc("success, denied or error", "success"),
    "risk": FieldDoc("0 to 1, as far as it was judged", 0.6),
    "retryAfter": FieldDoc("in how many seconds to try again", 58),
    "role": FieldDoc("what the account may do", "user"),
    "score": FieldDoc("points", 120),
    "scoreChange": FieldDoc("by how much the score changed", 10),
    "scoreIncrement": FieldDoc("points that it brought; null unless applied", 10),
    "settledAt": FieldDoc("when its outcome was decided", _MOMENT),
    "since": FieldDoc("from this moment on", _MOMENT),
    "speed": FieldDoc("how points fall with time", None),
    "status": FieldDoc("where it stands", "applied"),
    "AdminUser.status": FieldDoc("active, flagged (one completion a minute) or banned", "active"),
    "admin_search.status": FieldDoc("only accounts of this status", "flagged"),
    "Accepted.status": FieldDoc("committed, and settled soon", "accepted"),
    "RefusedEvent.status": FieldDoc("the status of the refusal", 429),
    "RefusedEvent.code": FieldDoc("its code, as in `error.code`", "TOO_MANY_STREAMS"),
    "RebuildStarted.status": FieldDoc("a worker does it", "started"),
    "Health.status": FieldDoc("whether it can serve", "ok"),
    "DetailedHealth.status": FieldDoc("whether it can serve, and does so in full", "ok"),
    "PartInfo.status": FieldDoc("how this part is", "ok"),
    "statusUrl": FieldDoc("path of the action", f"/v1/actions/{_ACTION_ID}"),
    "streamsHere": FieldDoc("open streams", 12),
    "success": FieldDoc("false", False),
    "targetId": FieldDoc("the account it was done to; null for none", _USER_ID),
    "ticket": FieldDoc("opens a stream as the user who asked for it", "gAAAAABn…"),
    "title": FieldDoc("for people", "Complete a level"),
    "totalActions": FieldDoc("how many actions were applied", 12),
    "totalPlayers": FieldDoc("how many are on the board", 120),
    "types": FieldDoc("the catalogue", []),
    "unannounced": FieldDoc("settled, and not told yet", 0),
    "unsettled": FieldDoc("accepted, and not settled yet", 0),
    "until": FieldDoc("before this moment", _MOMENT),
    "updatedAt": FieldDoc("when this state was reached", _MOMENT),
    "updatedUser": FieldDoc("the last player whose change shows; null if none does", None),
    "user": FieldDoc("who is signed in", {"id": _USER_ID, "username": "ada", "role": "user", "score": 120}),
    "userAgent": FieldDoc("the client's own words about itself", "Mozilla/5.0"),
    "userId": FieldDoc("the player", _USER_ID),
    "admin_list_audit.userId": FieldDoc("who acted or was acted upon", _USER_ID),
    "username": FieldDoc("the user name", "ada"),
    "value": FieldDoc("of fixed points: what each completion is worth", 1),
    "version": FieldDoc("only grows; drop what has a lower one than you show", 1795788309250000),
    "DetailedHealth.version": FieldDoc("of the service", "1.0.0"),
}

#: Request headers: text, schema, example.
HEADERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "X-Request-ID": (
        "under which the request is logged: up to 64 letters, digits, `.`, `_`, `-`; another one is made if it is not",
        {"type": "string"},
        "checkout-17",
    ),
    "X-CSRF-TOKEN": (
        "with cookies only: the value of the cookie `csrf_access_token` (for a refresh `csrf_refresh_token`)",
        {"type": "string"},
        "5f0c1e4e-8a53-4a3c-9a7e-1f1f6d1e6a11",
    ),
    "Prefer": ("`wait=N`: wait up to N seconds for the outcome, at most 10", {"type": "string"}, "wait=5"),
    "If-None-Match": ("the `ETag` that you have: 304 while nothing has changed", {"type": "string"}, 'W/"5d41402a"'),
    "Last-Event-ID": (
        "the last id that was received: what was missed since then comes first",
        {"type": "string"},
        "1795788309250:42",
    ),
    "Idempotency-Key": (
        "the same request under the same key changes nothing for a day and gets the first answer",
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[\\x20-\\x7e]+$"},
        "2f1c9d54-6c0b-4f0e-9a3f-0d1a5b7c8e90",
    ),
}

#: Response headers: text, schema, example.
RESPONSE_HEADERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "X-Request-ID": ("under which the request was logged", {"type": "string"}, "checkout-17"),
    "Date": ("the server's time", {"type": "string"}, "Fri, 27 Nov 2026 14:05:09 GMT"),
    "ETag": ("names this state of the answer", {"type": "string"}, 'W/"5d41402a"'),
    "Preference-Applied": ("the preference that was followed", {"type": "string"}, "wait=5"),
    "Retry-After": ("in how many seconds to try again", {"type": "integer", "minimum": 1}, 2),
    "WWW-Authenticate": ("how to sign in", {"type": "string"}, "Bearer"),
    "Set-Cookie": ("the cookies, where they were asked for", {"type": "string"}, "access_token_cookie=…; HttpOnly"),
    "X-RateLimit-Limit": ("calls per window", {"type": "integer"}, 60),
    "X-RateLimit-Remaining": ("calls that are left in it", {"type": "integer"}, 59),
    "X-RateLimit-Reset": ("when it ends, in seconds since 1970", {"type": "number"}, 1795788360),
}
