"""Moderators' decisions."""
