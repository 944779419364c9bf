"""``scoreboard verify``."""

from __future__ import annotations

import sys

import click
from tqdm import tqdm

from scoreboard.cli.servers import open_database, open_redis, resolved_settings
from scoreboard.live.connection import UNAVAILABLE as REDIS_UNAVAILABLE
from scoreboard.services.upkeep.verify import Report, verify


@click.command()
def command() -> None:
    """Check ledger, scores and Redis against each other. Exits with 1 if anything is wrong."""
    with resolved_settings() as settings:
        standings, _ = open_redis(settings)
        database = open_database(settings)
        with tqdm(unit=" entries", disable=None) as progress:
            try:
                report = verify(database, standings, progress.update)
            except REDIS_UNAVAILABLE:
                report = verify(database, None, progress.update)
    _show(report)
    if report.finding_count:
        sys.exit(1)


def _show(report: Report) -> None:
    for finding in report.findings:
        click.echo(finding, err=True)
    if report.finding_count > len(report.findings):
        click.echo(f"… and {report.finding_count - len(report.findings)} more", err=True)
    board = f"{report.board_rows} rows in Redis" if report.is_board_whole else "Redis is not whole, PostgreSQL serves"
    verdict = "all is well" if not report.finding_count else f"{report.finding_count} findings"
    click.echo(f"{report.players} accounts, {report.entries} ledger entries, {board}: {verdict}.")
