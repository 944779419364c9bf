"""Celery: tasks are a decorator and one call each. Never imports ``scoreboard.web``."""
