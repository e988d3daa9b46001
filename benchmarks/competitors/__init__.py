"""
One module per competitor, with the same names: `VALIDATES` says what it checks, `Message` is the chat message, and
`app` (ASGI) or `serve(port)` (a server of its own) answers each message with the same fields.
"""
