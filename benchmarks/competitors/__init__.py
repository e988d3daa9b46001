"""One module per competitor; each has an ASGI application `app` that answers the chat message with the same fields."""
