"""``scoreboard run``: the whole service on one machine, started and stopped as one."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import httpx
from honcho.environ import parse_procfile

from config import ROOT, Settings, SettingsError, environment_with
from scoreboard.listening import check_port, own_url
from scoreboard.local.check import unreachable_servers
from scoreboard.local.errors import LocalServersError
from scoreboard.local.folder import hold_lock, make_data_folder
from scoreboard.local.resolve import start_missing, with_addresses
from scoreboard.local.servers import LocalServers
from scoreboard.local.supervisor import Child, Supervisor, log_file
from scoreboard.scheduling import calm_scheduling
from scoreboard.start import check_catalogue

# Imports on a slow machine take most of it; a healthy start needs 3 s.
HEALTH_WAIT_S = 45.0
POLL_S = 0.2


class StartError(Exception):
    """The service can't start or go on; the message is for the operator."""


class Stopped(BaseException):
    """Ctrl-C, SIGTERM or a closed terminal. A BaseException, so that no handler of errors takes it for one."""


@click.command()
@click.option("--logs", "logs_to_terminal", is_flag=True, help="Print the logs here instead of writing them to a file.")
def command(logs_to_terminal: bool) -> None:
    """Run the whole service on this machine, with its own servers where none are set."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        click.echo(error, err=True)
        sys.exit(2)
    try:
        stop_on_signals()
        run(settings, logs_to_terminal)
    except (StartError, LocalServersError) as error:
        click.echo(error, err=True)
        sys.exit(1)
    except Stopped:
        pass


def stop_on_signals() -> None:
    """Make the first signal raise Stopped, and later ones do nothing: stopping is bounded, and not to be cut short."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signal module's signature
        for signal_number in signals:
            signal.signal(signal_number, signal.SIG_IGN)
        raise Stopped

    for signal_number in signals:
        signal.signal(signal_number, stop)


def run(settings: Settings, logs_to_terminal: bool) -> None:
    """Start everything, say where, and stay until something ends or Stopped is raised."""
    try:
        check_catalogue(settings)
        check_port(settings)
    except SettingsError as error:
        raise StartError(str(error)) from None
    # All child processes inherit it, the local servers too: they share these cores.
    calm_scheduling()
    data_dir = settings.scoreboard_data.resolve()
    make_data_folder(data_dir)
    with contextlib.ExitStack() as closing:
        closing.enter_context(hold_lock(data_dir / "run.lock"))
        servers = start_servers(settings, closing)
        if servers:
            settings = with_addresses(settings, servers.addresses)
        migrate(settings)
        sink, logs = open_log(data_dir, logs_to_terminal, closing)
        supervisor = Supervisor(sink)
        closing.callback(supervisor.stop)
        start_processes(supervisor, settings, data_dir)
        wait_for_health(settings, supervisor)
        click.echo(f"The scoreboard is at {own_url(settings)} — Ctrl-C stops it{logs}")
        watch(supervisor, servers)


def start_servers(settings: Settings, closing: contextlib.ExitStack) -> LocalServers | None:
    """Check that the given servers answer, and start one for each address that is not set; None if all are."""
    unreachable = unreachable_servers(settings)
    if unreachable:
        raise StartError("\n".join(unreachable))
    if settings.database_url and settings.redis_url:
        return None
    return start_missing(settings, closing)


def migrate(settings: Settings) -> None:
    # Imported late: SQLAlchemy and Alembic take half a second, which a wrong setting should not have to wait for.
    from scoreboard.store.engine import UNAVAILABLE
    from scoreboard.store.fitness import DatabaseUnfitError
    from scoreboard.store.migrate import upgrade
    from scoreboard.store.refusals import explain

    if settings.database_url is None:
        raise RuntimeError("called before the servers' addresses are known")
    try:
        upgrade(settings.database_url)
    except (DatabaseUnfitError, *UNAVAILABLE) as error:
        raise StartError(f"DATABASE_URL: PostgreSQL can't be used: {explain(error)}") from None


def open_log(data_dir: Path, to_terminal: bool, closing: contextlib.ExitStack) -> tuple[Callable[[str], None], str]:
    """Where the processes' lines go, and what to tell the operator about it."""
    if to_terminal:
        return click.echo, ""
    path = data_dir / "logs" / "scoreboard.log"
    return closing.enter_context(log_file(path)), f", its log is {path}"


def start_processes(supervisor: Supervisor, settings: Settings, data_dir: Path) -> None:
    """Start each line of the Procfile but ``release``, whose work is done."""
    environment = child_environment(settings, data_dir)
    for name, line in parse_procfile((ROOT / "Procfile").read_text()).processes.items():
        if name != "release":
            supervisor.start(name, line, env=environment, cwd=ROOT)


def child_environment(settings: Settings, data_dir: Path) -> dict[str, str]:
    """The environment of web, worker and beat: ours, the servers' addresses, and a fresh folder for their metrics."""
    metrics = data_dir / "metrics"
    # Values of processes that are gone would be added to those of the new ones.
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir()
    programs = Path(sys.executable).parent  # of the virtual environment, whether or not it is activated
    return environment_with(
        DATABASE_URL=settings.database_url or "",
        REDIS_URL=settings.redis_url or "",
        PORT=str(settings.port),
        SCOREBOARD_DATA=str(data_dir),
        PROMETHEUS_MULTIPROC_DIR=str(metrics),
        PATH=f"{programs}:{environment_with().get('PATH', '/usr/bin:/bin')}",
        PYTHONUNBUFFERED="1",  # a line is in the log when it is written
    )


def wait_for_health(settings: Settings, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + HEALTH_WAIT_S
    with httpx.Client(base_url=own_url(settings), timeout=2.0, trust_env=False) as client:
        while time.monotonic() < deadline:
            raise_if_ended(supervisor)
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health").is_success:
                    return
            time.sleep(POLL_S)
    raise StartError(f"the service did not become healthy within {HEALTH_WAIT_S:.0f} s; try `scoreboard run --logs`")


def watch(supervisor: Supervisor, servers: LocalServers | None) -> NoReturn:
    """Stay until a process ends, which raises StartError, or a signal comes, which raises Stopped."""
    while True:
        raise_if_ended(supervisor)
        for server in servers.wanted if servers else ():
            if not server.is_running:
                raise StartError(f"{server.name} ended, so everything was stopped; see {server.log_path}")
        time.sleep(POLL_S)


def raise_if_ended(supervisor: Supervisor) -> None:
    child = supervisor.ended()
    if child:
        raise StartError(describe_end(child))


def describe_end(child: Child) -> str:
    status = child.process.returncode
    last_lines = "".join(f"\n  {line}" for line in child.tail)
    return f"{child.name} ended (status {status}), so everything was stopped; its last lines:{last_lines}"
