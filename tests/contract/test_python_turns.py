"""TLS connections of the client for threads: what one thread reads while another one sends."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from socketsundso.contract.python.runtime.turns import _with_turns
from tests.server.serving import CERTIFICATE

CONNECTIONS = 150
"""Without turns one of the first thirty hangs."""


@pytest.fixture
def port() -> Iterator[int]:
    """That of a server that says what it hears, over TLS 1.3."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            while data := secured.recv(1 << 16):
                secured.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # wakes who accepts


def connected(port: int) -> ssl.SSLSocket:
    own = ssl.create_default_context(cafile=CERTIFICATE)
    context = _with_turns("wss://localhost", {"ssl": own})["ssl"]
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    secured: ssl.SSLSocket = context.wrap_socket(connection, server_hostname="localhost")
    return secured


def test_a_thread_reads_while_another_one_sends(port: int) -> None:
    """Each connection gets its answer, though the tickets of TLS 1.3 are read while the first bytes are sent."""

    def read(connection: ssl.SSLSocket, heard: list[bytes]) -> None:
        heard.append(connection.recv(100))

    for _ in range(CONNECTIONS):
        heard: list[bytes] = []
        with connected(port) as connection:
            assert connection.version() == "TLSv1.3"
            reader = threading.Thread(target=read, args=(connection, heard), daemon=True)
            reader.start()
            connection.sendall(b"hello")
            reader.join(20)
        assert heard == [b"hello"]


def test_more_than_the_kernel_takes_is_sent_while_it_is_read(port: int) -> None:
    """Neither side waits for the other one, however much is on its way."""
    sent, heard = b"x" * (8 << 20), bytearray()

    def read() -> None:
        while len(heard) < len(sent):
            heard.extend(connection.recv(1 << 16))

    with connected(port) as connection:
        reader = threading.Thread(target=read)
        reader.start()
        connection.sendall(sent)
        reader.join(60)
    assert bytes(heard) == sent


def test_a_socket_that_is_closed_ends_the_wait(port: int) -> None:
    """Who reads when another thread closes gets an error, or the end."""
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            assert connection.recv(100) == b""
        ended.set()

    connection = connected(port)
    threading.Thread(target=read).start()
    connection.close()
    assert ended.wait(20)


def test_a_timeout_is_kept(port: int) -> None:
    """The socket's own, though nothing is read or sent with it."""
    with connected(port) as connection:
        connection.settimeout(0.01)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        assert connection.gettimeout() == 0.01
