"""The client side of a replay: plays a log of events through the public HTTP API and checks the board."""
