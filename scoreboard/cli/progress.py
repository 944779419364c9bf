"""How far a long command is: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from tqdm import tqdm

# In a log, where a bar would be one long line; a short command says nothing.
_LINE_EVERY_S = 5.0


@contextmanager
def progress_of(total: int | None, what: str) -> Iterator[Callable[[int], object]]:
    """The report of each step; ``total`` is None when it is unknown."""
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {what}") as bar:
            yield bar.update
        return
    done, said_at = 0, time.monotonic()

    def tell(count: int) -> None:
        nonlocal done, said_at
        done += count
        if time.monotonic() - said_at >= _LINE_EVERY_S:
            said_at = time.monotonic()
            click.echo(f"{done:,}{f' of {total:,}' if total else ''} {what}", err=True)

    yield tell
