"""``python -m scoreboard``: the command line, also where the package is not installed."""

from scoreboard.cli import main

if __name__ == "__main__":
    main(prog_name="scoreboard")
