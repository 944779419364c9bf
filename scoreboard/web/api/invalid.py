"""Describes invalid fields to their sender."""

from __future__ import annotations

from pydantic import ValidationError

# Errors named in one refusal; a body full of unknown fields needs no longer answer.
FIELDS_MAX = 20


def fields_of(error: ValidationError) -> dict[str, str]:
    """The first of the invalid fields, each with its reason."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[:FIELDS_MAX]
    return {".".join(str(part) for part in item["loc"])[:100]: _plain(item["msg"]) for item in found}


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "is not a known field")
