"""Everything between a connection and the application: gunicorn's worker, its loop, admission and bodies."""
