"""HTTP: views parse, call one use case, translate the answer."""
