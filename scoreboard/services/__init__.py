"""Use cases, one per file. They take their stores as arguments and know nothing of HTTP or Celery."""
