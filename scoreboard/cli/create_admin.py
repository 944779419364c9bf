"""``scoreboard create-admin``."""

from __future__ import annotations

import sys

import click

from scoreboard.cli.servers import open_database, resolved_settings
from scoreboard.domain.accounts import Role
from scoreboard.domain.errors import ScoreboardError, UsernameTaken
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.register import create_staff, has_role
from scoreboard.store.migrate import upgrade


@click.command()
@click.option(
    "--username", envvar="ADMIN_USERNAME", prompt="User name", help="Name to sign in with; also ADMIN_USERNAME."
)
@click.option("--email", envvar="ADMIN_EMAIL", help="E-mail address, optional; also ADMIN_EMAIL.")
@click.option(
    "--password",
    envvar="ADMIN_PASSWORD",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    help="Password; ADMIN_PASSWORD keeps it out of the shell's history.",
)
@click.option(
    "--role",
    type=click.Choice(["admin", "system"]),
    default="admin",
    show_default=True,
    help="system: a trusted game server that completes actions for its players.",
)
def command(username: str, email: str | None, password: str, role: str) -> None:
    """Create an admin, or a system account for a game server. Neither is on the board.

    If the account exists already, the command changes nothing and succeeds, so scripts may repeat it.
    """
    with resolved_settings() as settings:
        assert settings.database_url is not None
        upgrade(settings.database_url)
        database = open_database(settings)
        try:
            user = create_staff(
                database, Passwords(), username=username, email=email or None, password=password, role=Role(role)
            )
        except UsernameTaken as error:
            if not has_role(database, username, Role(role)):
                click.echo(error.message, err=True)
                sys.exit(1)
            click.echo(f"The {role} {username} exists already; nothing was changed, nor was the password.")
            return
        except ScoreboardError as error:
            click.echo(_explain(error), err=True)
            sys.exit(1)
    click.echo(f"Created {role} {user.username} with id {user.id}.")


def _explain(error: ScoreboardError) -> str:
    fields = error.details.get("fields")
    if isinstance(fields, dict):
        return "; ".join(f"{name} {problem}" for name, problem in fields.items())
    return error.message
