"""The ``scoreboard`` command line; each command's module is imported when that command runs."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import click

# Command → what it does. Written here so that `scoreboard --help` imports none of them.
COMMANDS = {
    "run": "Run the whole service on this machine, with its own servers where none are set.",
    "migrate": "Bring the database's tables up to date.",
    "seed": "Make many players at once, with tokens for load tests.",
    "create-admin": "Create an admin, or a system account for a game server.",
    "rebuild": "Fill the board in Redis again from PostgreSQL.",
    "retry": "Hand failed actions to the workers again.",
    "verify": "Check ledger, scores and Redis against each other.",
    "replay": "Play an event log through the HTTP API.",
    "keys": "Make and rotate the keys of action tokens.",
}


class LazyGroup(click.Group):
    """A group whose command ``some-name`` is the object ``command`` of ``scoreboard.cli.some_name``."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; names and dashes that the output's encoding lacks are escaped and end nothing."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """A live scoreboard. Settings come from the environment; docs/settings.md lists them."""
