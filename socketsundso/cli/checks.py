"""What of `run`'s options uvicorn would answer with a traceback, or with a server that serves nobody."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import stat
from typing import Any

import click
import h11
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS, LOOP_FACTORIES, WS_PROTOCOLS
from uvicorn.importer import import_from_string

from socketsundso.backplanes import default_url
from socketsundso.cli.mistakes import blaming, in_a_line, tell, wrong
from socketsundso.environment import DEFLATE_MIN_VARIABLE, is_deflate_min


def check(options: dict[str, Any]) -> None:
    """Say in one line what uvicorn would answer with a traceback."""
    if not 0 <= options["port"] <= 65535:  # uvloop would serve on the rest of a division by 65536
        raise wrong("port", f"{options['port']} is not a port: use 0 to 65535")
    if options["root_path"] and not options["root_path"].startswith("/"):  # uvicorn puts it before each path
        raise wrong("root_path", f"{options['root_path']!r} is no path: it begins with /")
    options["headers"] = [_checked_header(header) for header in options["headers"]]
    if options["uds"] is not None:
        _check_socket_path(options["uds"])
    if options["fd"] is not None:
        _check_descriptor(options["fd"])
    _check_tls(options)
    for name, known in (("ws", WS_PROTOCOLS), ("http", HTTP_PROTOCOLS), ("loop", LOOP_FACTORIES)):
        if options[name] != "auto":
            with blaming(name):
                import_from_string(known.get(options[name], options[name]))
    if options["ws"] != "none" and options["loop"] not in LOOP_FACTORIES:
        _check_loop(options["loop"])


def _checked_header(header: str) -> str:
    """`header` without the spaces that may follow its colon: with them h11 would refuse every response."""
    name, colon, value = (part.strip(" \t") for part in header.partition(":"))
    try:
        h11.Response(status_code=200, headers=[(name.encode("latin-1"), value.encode("latin-1"))])
    except (UnicodeEncodeError, h11.LocalProtocolError):
        colon = ""
    if not colon:
        raise wrong("header", f"{header!r} is not NAME:VALUE")
    return f"{name}:{value}"


def check_deflate_min() -> None:
    given = os.environ.get(DEFLATE_MIN_VARIABLE, "")
    if not is_deflate_min(given):
        raise wrong("ws_deflate_min", f"{given!r} is neither a number of bytes nor off")


def check_concurrency() -> None:
    given = os.environ.get("WEB_CONCURRENCY")
    if given and not (given.strip().isdecimal() and int(given)):
        raise click.UsageError(f"the environment variable WEB_CONCURRENCY is {given!r}, not a number of workers")


def workers_of(options: dict[str, Any]) -> int:
    return options["workers"] or int(os.environ.get("WEB_CONCURRENCY") or 1)


def checked_proxies(given: str | None) -> str:
    """
    Whom `--forwarded-allow-ips` names, with the forms of IPv4 addresses that a socket of both kinds shows.

    uvicorn takes whatever is no address for a name, which no client has: its proxy would not be believed.
    """
    told = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1") if given is None else given
    if told.strip() == "*":
        return "*"
    proxies = [each.strip() for each in told.split(",") if each.strip()]
    if "*" in proxies:
        raise wrong("forwarded_allow_ips", f"{told!r}: * stands for all, and alone")
    with blaming("forwarded_allow_ips"):
        networks = [ipaddress.ip_network(each) for each in proxies]
    mapped = [
        f"::ffff:{network.network_address}/{96 + network.prefixlen}" if "/" in each else f"::ffff:{each}"
        for each, network in zip(proxies, networks, strict=True)
        if network.version == 4
    ]
    return ",".join([*proxies, *mapped])


def check_log_config(options: dict[str, Any]) -> None:
    """uvicorn's own way to read it, before anything else is done."""
    try:
        uvicorn.Config("", **{name: options[name] for name in ("log_config", "log_level", "use_colors")})
    except Exception as exc:
        raise wrong("log_config", in_a_line(exc)) from None


def warn_of_lone_workers(options: dict[str, Any]) -> None:
    workers, engine = workers_of(options), default_url()
    if workers > 1 and not options["reload"] and engine.startswith("memory:"):
        tell(
            logging.WARNING,
            f"{workers} workers on {engine} do not hear each other: rooms and hubs that name no engine of "
            "their own reach the connections of one worker only (--backplane names one, such as redis://localhost)",
        )


def _check_loop(name: str) -> None:
    """An event loop whose connections keep their first protocol answers every handshake with an error."""

    async def change_protocol(end: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=end)
        try:
            transport.set_protocol(asyncio.Protocol())
        finally:
            transport.abort()

    ends = socket.socketpair()
    try:
        with asyncio.Runner(loop_factory=import_from_string(name)) as runner:
            runner.run(change_protocol(ends[0]))
    except (AttributeError, NotImplementedError) as exc:
        what = f"{name} cannot serve WebSockets: its connections cannot change their protocol ({in_a_line(exc)})"
        raise wrong("loop", what) from None
    finally:
        for end in ends:
            end.close()


def _check_socket_path(path: str) -> None:
    if not path:
        raise wrong("uds", "a path is needed")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise wrong("uds", f"no folder for {path}")
    if not os.path.exists(path):
        # tried before anything starts: uvicorn would answer with a traceback
        with blaming("uds"), socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
            os.unlink(path)
    elif not stat.S_ISSOCK(os.stat(path).st_mode):  # uvicorn would fail, and remove it
        raise wrong("uds", f"{path} exists and is no socket")


def _check_descriptor(descriptor: int) -> None:
    with blaming("fd"):
        mode = os.fstat(descriptor).st_mode
    if not stat.S_ISSOCK(mode):
        raise wrong("fd", f"{descriptor} is no socket")


def _check_tls(options: dict[str, Any]) -> None:
    for name in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
        if options[name] and not os.path.isfile(options[name]):
            raise wrong(name, f"no file {options[name]}")
    certificate, key, password = (options[f"ssl_{name}"] for name in ("certfile", "keyfile", "keyfile_password"))
    if key and not certificate:
        raise wrong("ssl_keyfile", "--ssl-certfile is needed too")
    if not certificate:
        return
    asks = []

    def ask() -> str:
        asks.append(True)  # the server will do so: nobody is to be asked twice
        return ""

    with blaming("ssl_version"):
        context = ssl.SSLContext(options["ssl_version"])
    with blaming("ssl_cert_reqs"):
        context.verify_mode = ssl.VerifyMode(options["ssl_cert_reqs"])
    if options["ssl_ciphers"]:
        with blaming("ssl_ciphers"):
            context.set_ciphers(options["ssl_ciphers"])
    if options["ssl_ca_certs"]:
        with blaming("ssl_ca_certs"):
            context.load_verify_locations(options["ssl_ca_certs"])
    try:
        context.load_cert_chain(certificate, key, ask if password is None else password)
    except ssl.SSLError as exc:
        if not asks:
            raise wrong("ssl_certfile", f"cannot use {certificate} with {key or 'its own key'}: {exc}") from None
