"""Celery as a transport: the application, its broker, and the doorbell that rings the workers."""
