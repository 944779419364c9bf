"""A live scoreboard service: earns points, keeps scores, pushes the board to browsers."""

__version__ = "0.1.0"
