"""
uvicorn's HTTP protocol on httptools with a bound on the time and the size of a head; `head` says which.

Importing this needs httptools (`ImportError` without).
"""

from __future__ import annotations

from uvicorn.protocols.http import httptools_impl

from socketsundso.server.head import Watched


class HttpToolsProtocol(Watched, httptools_impl.HttpToolsProtocol):
    """uvicorn's, with a watch on each head."""

    def data_received(self, data: bytes) -> None:
        watch = self._watch
        if watch.refused:
            return
        before = watch.under_way
        super().data_received(data)
        # a segment in which a later head began may also hold the end of a large body: it does not count
        if watch.under_way and before:
            watch.add(len(data), bounded=True)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._watch.begin()

    def on_headers_complete(self) -> None:
        self._watch.end()
        super().on_headers_complete()
