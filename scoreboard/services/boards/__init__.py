"""Reading, building and publishing boards."""
