"""The migrations' names say their order, as the service reads it without Alembic."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from scoreboard.store.fitness import SCRIPTS, older_revisions


def test_older_revisions_are_all_that_alembic_knows_but_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    assert older_revisions() == known - {scripts.get_current_head()}
    assert len(known) > 1
