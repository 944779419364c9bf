"""The types of the service's messages to clients: fields, the stream's events, and the answers that services build.

A model is a ``TypedDict`` with the names of the wire. Building one is building a dictionary, the type checker refuses
a missing, unknown or wrong field, and the OpenAPI description is made of the same class.
"""
