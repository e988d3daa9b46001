"""
A TLS connection on which one thread reads and others send. A part of the file that `python` writes.

OpenSSL does not allow that on one connection at the same time, and the ssl module does not prevent it. What makes it
happen in each handshake of a WebSocket is TLS 1.3: the server's session tickets are read while the request is sent, and
about one connection in a hundred gets no answer. So each waits without the lock, and reads or sends with it, without
waiting.
"""

from __future__ import annotations

import math
import selectors
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

_LOOK_S = 0.1
"""How often it is looked whether the socket is still there: one that another thread closes wakes nobody."""


class _TurnsSocket(ssl.SSLSocket):
    """What `recv` and `send` do is done by one thread at a time. Raises TimeoutError after the socket's own timeout."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return cast(bytes, self._in_turn(partial(super().recv, buflen, flags)))

    def send(self, data: Any, flags: int = 0) -> int:
        return cast(int, self._in_turn(partial(super().send, data, flags)))

    def _in_turn(self, call: Callable[[], Any]) -> Any:
        turn: threading.Lock = self.__dict__.setdefault("_turn", threading.Lock())  # no `__init__` of ours is called
        began = time.monotonic()
        while True:
            with turn:
                timeout_s = self.gettimeout()
                self.settimeout(0)
                try:
                    return call()
                except ssl.SSLWantReadError:
                    wanted = selectors.EVENT_READ
                except ssl.SSLWantWriteError:
                    wanted = selectors.EVENT_WRITE
                finally:
                    if self.fileno() >= 0:
                        self.settimeout(timeout_s)
            self._wait(wanted, math.inf if timeout_s is None else began + timeout_s)

    def _wait(self, wanted: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self, wanted)
            except ValueError:
                raise OSError("the socket is closed") from None
            selector.select(min(_LOOK_S, max(0, deadline - time.monotonic())))
        if time.monotonic() >= deadline:
            raise TimeoutError("the connection takes too long")


def _with_turns(url: str, connect: dict[str, Any]) -> dict[str, Any]:
    """What websockets is to connect with: a context of the application's gives such sockets, too."""
    if url.startswith("wss:"):
        context = connect["ssl"] = connect.get("ssl") or ssl.create_default_context()
        context.sslsocket_class = _TurnsSocket
    return connect
