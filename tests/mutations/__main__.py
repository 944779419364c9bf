"""``python -m tests.mutations [NAME …]``: takes safeguards out and tells whether a test noticed.

The exit status is 1 if a mutation survived, if one proves nothing, or if the tests fail on the tree as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from tests.mutations.safeguards import MUTATIONS, Mutation
from tests.mutations.workshop import Outcome, Verdict, Workshop, open_workshop

_BY_NAME = {each.name: each for each in MUTATIONS}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(_BY_NAME)))
def main(names: Sequence[str]) -> None:
    """Take the named safeguards out, or all of them, one at a time."""
    with open_workshop() as workshop:
        sys.exit(0 if run(workshop, [_BY_NAME[name] for name in names or _BY_NAME]) else 1)


def run(workshop: Workshop, mutations: Sequence[Mutation]) -> bool:
    """Whether the tests pass on the tree as it is, and a test noticed each mutation."""
    unchanged = workshop.test(list(dict.fromkeys(test for each in mutations for test in each.tests)))
    if unchanged.outcome is not Outcome.SURVIVED:
        click.echo(f"{unchanged.output}\nThe tests fail on the tree as it is: {unchanged.noticed_by}")
        return False
    click.echo(f"The tests pass on the tree as it is ({unchanged.seconds:.0f} s).\n")
    click.echo("| taken out | noticed? | by | s |\n|---|---|---|---|")
    verdicts = [_judged(mutation, workshop.judge(mutation)) for mutation in mutations]
    return all(each.outcome is Outcome.CAUGHT for each in verdicts)


def _judged(mutation: Mutation, verdict: Verdict) -> Verdict:
    by = verdict.noticed_by or "–"
    click.echo(f"| {mutation.name}: {mutation.what} | {verdict.outcome} | {by} | {verdict.seconds:.0f} |")
    if verdict.outcome is Outcome.BROKEN:
        click.echo(verdict.output, err=True)
    return verdict


if __name__ == "__main__":
    main()
