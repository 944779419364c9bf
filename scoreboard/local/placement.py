"""Under which user, and in which folder, the local servers can live.

PostgreSQL refuses to run as root. As root both servers run under an unprivileged account, which must be able to reach
the programs and the data. A checkout in a folder that only root may enter is left as it is; the servers move instead.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scoreboard.local.errors import LocalServersError
from scoreboard.local.process import User, spawn
from scoreboard.local.software import Software, find_software

SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_ELSEWHERE = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  # the folder inside is checked to be root's own
# Printing a version takes milliseconds; this is for a disk that is waking up.
_PROBE_WAIT_S = 15.0
# cd: the folder can be entered; then both programs can be run.
_PROBE = 'cd "$1" && "$2" --version && "$3" --version'


@dataclass(frozen=True)
class Placement:
    """Where the servers' data are, which programs run, as whom."""

    home: Path
    software: Software
    user: User | None
    notice: str | None = None  # one line for the operator when the home is not the data folder


def choose_placement(data_dir: Path, software: Software | None = None) -> Placement:
    """The first place where the servers can run; a place that holds data already goes first."""
    software = software or find_software()
    if os.geteuid() != 0:
        _refuse_foreign_data(data_dir)
        return Placement(data_dir, software, None)
    # A cluster made earlier decides, so that a change of permissions never looks like an empty database.
    homes = sorted([data_dir, *_homes_elsewhere(data_dir)], key=lambda home: not (home / "postgres").is_dir())
    for home in homes:
        placed = _place(home, software, data_dir)
        if placed:
            return placed
    raise LocalServersError(
        f"no unprivileged user can run the servers in {' or '.join(map(str, homes))}: "
        "set DATABASE_URL and REDIS_URL, or SCOREBOARD_DATA to a folder that every user may enter"
    )


def _refuse_foreign_data(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    if cluster.is_dir() and cluster.stat().st_uid != os.geteuid():
        raise LocalServersError(
            f"{cluster} belongs to another user (it was made as root?): start as that user, "
            "or set SCOREBOARD_DATA to another folder"
        )


def _homes_elsewhere(data_dir: Path) -> list[Path]:
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    return [parent / f"scoreboard-{digest}" for parent in _ELSEWHERE]


def _place(home: Path, software: Software, data_dir: Path) -> Placement | None:
    try:
        if home != data_dir:
            _make_own_folder(home)
            software = software.copy_to(home / "software")
    except OSError:
        return None
    for user in _users(home / "postgres"):
        if _can_run(user, home, software):
            notice = f"{data_dir} or the programs are out of reach for user {user.name}: the servers are in {home}"
            return Placement(home, software, user, None if home == data_dir else notice)
    return None


def _make_own_folder(home: Path) -> None:
    """Make the folder, or accept one that only root could have made: /var/tmp is open to everyone."""
    if not home.is_symlink() and not home.exists():
        home.mkdir()
        home.chmod(0o711)
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise PermissionError(f"{home} is not a folder of root's own")


def _users(cluster: Path) -> Iterator[User]:
    """Accounts worth trying: the owner of the data, else the usual unprivileged ones, then any other."""
    accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if cluster.is_dir():
        owner = cluster.stat().st_uid
        names = [name for name, entry in accounts.items() if entry.pw_uid == owner]
    else:
        usual = [name for name in ("nobody", "postgres", "daemon") if name in accounts]
        # Bounded: in a container that maps few ids the first ones fail, and a directory may list thousands.
        names = (usual + [name for name in accounts if name not in usual])[:8]
    for name in names:
        yield User(name, accounts[name].pw_uid, accounts[name].pw_gid)


def _can_run(user: User, home: Path, software: Software) -> bool:
    programs = (str(software.postgres_bin / "postgres"), str(software.valkey_server))
    probe = ["/bin/sh", "-c", _PROBE, "probe", str(home), *programs]
    process = spawn(probe, death_signal=signal.SIGKILL, user=user, env=SERVER_ENV, cwd=Path("/"))
    try:
        return process.wait(_PROBE_WAIT_S) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
