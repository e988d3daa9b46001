"""socketsundso: typed WebSocket APIs. Handler signatures are the protocol."""

__version__ = "0.1.0"
