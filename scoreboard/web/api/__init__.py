"""Bodies, answers and errors on the wire, and the document that describes them."""
