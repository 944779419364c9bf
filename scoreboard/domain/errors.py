"""All refusals as one typed tree; ``web/api/refusals.py`` gives each its HTTP status."""

from __future__ import annotations

import math
from collections.abc import Mapping


class ScoreboardError(Exception):
    """A refusal with a stable code; ``details`` is shown to the caller."""

    code = "INTERNAL_ERROR"
    message = "Something went wrong on our side."

    def __init__(self, message: str | None = None, details: Mapping[str, object] | None = None) -> None:
        self.message = message or self.message
        self.details: dict[str, object] = dict(details or {})
        super().__init__(self.message)


class ValidationFailed(ScoreboardError):
    """The request is malformed; ``fields`` names each field and what is wrong with it."""

    code = "VALIDATION_FAILED"
    message = "The request is not valid."

    def __init__(self, fields: Mapping[str, str] | None = None, message: str | None = None) -> None:
        super().__init__(message, {"fields": dict(fields)} if fields else None)


class InvalidActionToken(ScoreboardError):
    code = "INVALID_ACTION_TOKEN"
    message = "The action token or its proof is not valid."


class ActionTokenExpired(ScoreboardError):
    code = "ACTION_TOKEN_EXPIRED"
    message = "The action token has expired; request a new one."


class ScoreValidationFailed(ScoreboardError):
    code = "SCORE_VALIDATION_FAILED"
    message = "The reported points are over the maximum of this action."

    def __init__(self, maximum: int) -> None:
        super().__init__(details={"maximum": maximum})


class InvalidCredentials(ScoreboardError):
    code = "INVALID_CREDENTIALS"
    message = "The user name or the password is wrong."


class InvalidToken(ScoreboardError):
    code = "INVALID_TOKEN"
    message = "A valid token is needed."


class TokenExpired(ScoreboardError):
    """``subject`` is the account of a token that was good until lately; it is not shown."""

    code = "TOKEN_EXPIRED"
    message = "The token has expired."

    def __init__(self, subject: str | None = None) -> None:
        super().__init__()
        self.subject = subject


class InsufficientPermissions(ScoreboardError):
    code = "INSUFFICIENT_PERMISSIONS"
    message = "Your role does not allow this."


class AccountBanned(ScoreboardError):
    code = "ACCOUNT_BANNED"
    message = "This account is banned."


class CsrfFailed(ScoreboardError):
    code = "CSRF_FAILED"
    message = "The X-CSRF-TOKEN header is missing or does not match."


class NotFound(ScoreboardError):
    code = "NOT_FOUND"
    message = "This does not exist, or it is not yours."


class ActionAlreadyCompleted(ScoreboardError):
    code = "ACTION_ALREADY_COMPLETED"
    message = "This action has been completed with another body."


class UsernameTaken(ScoreboardError):
    code = "USERNAME_TAKEN"
    message = "This user name is taken."


class EmailTaken(ScoreboardError):
    code = "EMAIL_TAKEN"
    message = "This e-mail address is taken."


class IdempotencyMismatch(ScoreboardError):
    code = "IDEMPOTENCY_MISMATCH"
    message = "This Idempotency-Key came with another request before."


class RetryLater(ScoreboardError):
    """A refusal that passes; ``retry_after_s`` (at least 1) becomes the Retry-After header."""

    def __init__(
        self, retry_after_s: float = 1, message: str | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        super().__init__(message, {"retryAfter": self.retry_after_s, **(details or {})})


class RateLimitExceeded(RetryLater):
    code = "RATE_LIMIT_EXCEEDED"
    message = "Too many requests; try again later."


class TooManyOpenActions(RetryLater):
    code = "TOO_MANY_OPEN_ACTIONS"
    message = "Complete an open action first, or let one expire."


class TooManyStreams(RetryLater):
    code = "TOO_MANY_STREAMS"
    message = "Too many open streams; close one first."


class ServiceUnavailable(RetryLater):
    code = "SERVICE_UNAVAILABLE"
    message = "The service is unavailable; try again later."
