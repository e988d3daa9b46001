"""
Endpoint classes and applications -> their API. Never runs a handler.

    routes        an application -> its API
    channels      an endpoint class -> its channel
    handshake     what the handshake of an endpoint takes
    sent          which messages an endpoint sends, and what they are called
    wires         what messages stand in
    codes         which of the package's codes an endpoint answers with
    docstrings    what docstrings tell
"""

from socketsundso.contract.describing.routes import api_of as api_of
