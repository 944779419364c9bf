"""The front door: how a request comes in, from its address to the call of a view."""
