"""How many examples the model-based tests try: a few of the same in every run, many new ones in a long one."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# `make test-models` sets it; the number of examples is multiplied by it.
FACTOR = int(os.environ.get("MODEL_EFFORT", "1"))
IS_LONG = FACTOR > 1
# For one test: several times what it takes on a machine with other work, and in a long run what shortening takes.
LIMIT_S = 1_800 if IS_LONG else 120
_TRY = [Phase.explicit, Phase.generate]


def effort(examples: int, *, steps: int = 50) -> settings:
    """Settings for a test that tries so many examples in a short run; state machines take ``steps`` each."""
    return settings(
        max_examples=examples * FACTOR,
        stateful_step_count=steps,
        # Every run of `make test` tries the same, so that a failure is the change's own; a long run tries others.
        derandomize=not IS_LONG,
        database=None,
        # A busy machine is no failure, and servers outlive an example on purpose.
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
        # Making a failing example shorter takes minutes: only where there is time for it.
        phases=[*_TRY, Phase.shrink] if IS_LONG else _TRY,
    )
