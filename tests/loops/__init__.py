"""The connection loop beside gunicorn's own, which it must never be laxer than."""
