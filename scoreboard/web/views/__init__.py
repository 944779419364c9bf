"""One module per subject. A view parses, calls one use case and translates the answer."""
