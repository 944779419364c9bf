"""`scoreboard replay`: play a log of events through the public HTTP API and check the board at the end."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from scoreboard.replay.client import ReplayError
from scoreboard.replay.log import ContestLog, LogError, read_log
from scoreboard.replay.run import Options, Result, replay
from scoreboard.replay.summary import summarise, to_json

# 0: the board matches; 1: it does not; 2: nothing could be played; 130: stopped by Ctrl-C, as shells count it.
MISMATCH, UNUSABLE, INTERRUPTED = 1, 2, 130


def _check_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.BadParameter("must be an address such as http://127.0.0.1:8000")
    return value.rstrip("/")


def _check_speed(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise click.BadParameter("must be a number above 0")
    return value


def _check_report(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    # Found out now rather than after minutes of play.
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"there is no folder {value.parent}")
    return value


@click.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, callback=_check_url, help="Address of the service."
)
@click.option("--speed", default=60.0, show_default=True, callback=_check_speed, help="Speed relative to the log.")
@click.option("--action-type", default="SOLVE_PROBLEM", show_default=True, help="Action type of a solve.")
@click.option("--players", type=click.IntRange(min=1), help="Play only the first players of the log.")
@click.option(
    "--connections", type=click.IntRange(1, 256), default=32, show_default=True, help="Number of connections."
)
@click.option(
    "--patience", type=click.IntRange(1, 86_400), default=120, show_default=True, help="Seconds to retry a call."
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_check_report,
    help="JSON file for the result.",
)
def command(
    file: Path,
    url: str,
    speed: float,
    action_type: str,
    players: int | None,
    connections: int,
    patience: int,
    report: Path | None,
) -> None:
    """Play the event log FILE through the HTTP API and compare the board with it."""
    try:
        log = read_log(file).first(players)
    except LogError as error:
        _stop(str(error), UNUSABLE)
    options = Options(
        url=url, speed=speed, action_type=action_type, connections=connections, retry_for_s=float(patience)
    )
    result = Result()
    status = _run(log, options, result)
    click.echo(summarise(result))
    if report is not None:
        report.write_text(json.dumps(to_json(result), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sys.exit(status)


def _run(log: ContestLog, options: Options, result: Result) -> int:
    """The exit code of a replay that got as far as having a result."""
    try:
        replay(log, options, result)
    except ReplayError as error:
        if not result.participants:
            _stop(str(error), UNUSABLE)
        click.echo(f"Error: {error}", err=True)
        return MISMATCH
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        return INTERRUPTED
    return 0 if result.is_match else MISMATCH


def _stop(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
