"""Small files of the data folder: locks, secrets, logs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from scoreboard.local.errors import LocalServersError, ServersBusyError


def make_data_folder(folder: Path) -> None:
    """Make the data folder and its ``logs``; raises LocalServersError when it can't be used."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            if os.geteuid() == 0:
                folder.chmod(0o711)  # not the umask's mode: the servers' user must get to its own folder inside
        (folder / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise LocalServersError(f"SCOREBOARD_DATA: {folder}: {error.strerror}") from None


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the file's lock; raises ServersBusyError when another process does. The kernel frees it with its owner."""
    try:
        stream = path.open("a+")
    except OSError as error:
        raise LocalServersError(f"SCOREBOARD_DATA: {path}: {error.strerror}") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read().strip() or "another"
            raise ServersBusyError(
                f"{path.parent} is in use by process {owner}: stop that one, or set SCOREBOARD_DATA to another folder"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def write_private(path: Path, text: str) -> None:
    """Put a file that only its owner reads in place in one step."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    draft.replace(path)


def server_password(home: Path) -> str:
    """The password of both servers, made on first use and kept beside the cluster that it opens."""
    path = home / "password"
    if path.exists():
        return path.read_text().strip()
    if (home / "postgres").exists():
        raise LocalServersError(f"{path} is missing, and {home / 'postgres'} can't be opened without it: restore it")
    password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password


def rotate(log: Path) -> None:
    """Begin a new log; one previous file is kept, so logs take two runs' space at most."""
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_name(log.name + ".1"))
