"""
What every generated Python client brings. Nothing imports it to run it: `parts` copies its modules into each file.

    words         what users meet beside their own messages: errors, and what rooms tell
    protocol      an endpoint as its contract has it, and the frames that all of them have in common
    by_msgspec    reading and writing messages with msgspec
    by_pydantic   ... or with pydantic, by the same names
    waiting       what waits to be read: answers and pushes
    session       what a client knows of its connection, without one
    handshake     how a connection is asked for, why there is none, and when to ask again
    frames        a connection of `websockets` that hands over messages without a queue between
    asynchronous  the client for asyncio
    turns         a TLS connection for several threads
    synchronous   the client for threads
"""
