"""Errors of the local servers; every message is one line that says what to do."""

from __future__ import annotations


class LocalServersError(Exception):
    """A local server can't be started, reached or stopped."""


class ServersBusyError(LocalServersError):
    """Another process owns the servers of this data folder."""
