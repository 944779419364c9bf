"""Python imports this before anything else where its folder is on PYTHONPATH: one real process with another clock.

Only the wall clock is shifted, as on a machine that nobody has set; the steady one goes on. The clocks
of PostgreSQL and Redis, and of all other processes, are the machine's own.
"""

import os
from datetime import timedelta

import time_machine

time_machine.travel(timedelta(seconds=float(os.environ["CLOCK_SHIFT_S"])), tick=True).start()
