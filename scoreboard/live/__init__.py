"""Redis: standings, events, stream slots, and the hub that feeds browsers.

Nothing here is the truth: Redis may be emptied at any time and is filled again from Postgres.
"""
