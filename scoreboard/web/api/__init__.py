"""What goes over the wire: bodies in, answers out, errors, and the document that describes them."""
