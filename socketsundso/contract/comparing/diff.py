"""
What changed between two versions of an API, and for whom that breaks something.

    compare(deployed, api)
    -> [Change("shop/buy/count", old=1000, new=100, breaks="old clients",
               text="old clients may send numbers up to 1000; the server takes numbers up to 100")]

Each way has its own question. What clients send may only get laxer, since old ones go on sending what they did; what
they receive may only get stricter, since they understand what they did. Clients ignore types and fields that they do
not know. What breaks `new clients` does so while the server is still the old one: deploy it first. Words, titles, tags
and order are no change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeVar

from socketsundso.contract.asyncapi import component_name
from socketsundso.contract.comparing.containment import Containment, Obstacle
from socketsundso.contract.model import Api, Binary, Call, Channel, Error, Message, Parameter, Receive, Schema, Wire

Breaks = Literal["old clients", "new clients", "none"]
T = TypeVar("T")
_MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """
    One difference: its `path` (`shop/buy/count`), what is `old` and `new` (JSON values, None where there is nothing),
    whom that `breaks`, and why, in a sentence, its `text`.
    """

    path: str
    old: Any
    new: Any
    breaks: Breaks
    text: str


def compare(old: Api, new: Api) -> list[Change]:
    """Every change, in the order of the old API; that of what is new follows."""
    return list(_Comparison(old, new).changes())


class _Comparison:
    """Two versions while they are compared."""

    def __init__(self, old: Api, new: Api) -> None:
        self._old, self._new = old, new
        olds, news = old.components, new.components
        self._forth, self._back = Containment(olds, news), Containment(news, olds)
        self._heard, self._heard_of_old = Containment(news, olds, ignores=True), Containment(olds, news, ignores=True)

    def changes(self) -> Iterator[Change]:
        shared = _shared_paths(self._old.channels) | _shared_paths(self._new.channels)
        olds, news = ({_address(each, shared): each for each in api.channels} for api in (self._old, self._new))
        for before, after in _pairs(olds, news):
            if before is not None and after is not None:
                yield from self._channel(before, after)
            elif before is not None:
                yield _gone(before.name, before.path, f"nothing is at {before.path} any more")
            elif after is not None:
                yield _come(after.name, after.path, f"a server of the old version has nothing at {after.path}")

    def _channel(self, before: Channel, after: Channel) -> Iterator[Change]:
        at = before.name
        yield from _connection(at, before, after)
        yield from self._security(at, before, after)
        for old, new in _pairs(_parameters(before), _parameters(after)):
            yield from self._parameter(at, old, new)
        for asked, asks in _pairs(_keyed(before.receives, _event), _keyed(after.receives, _event)):
            yield from self._event(at, asked, asks)
        for sent, sends in _pairs(_by_type(before.pushes), _by_type(after.pushes)):
            yield from self._push(f"{at}/push", sent, sends)
        for called, calls in _pairs(_keyed(before.calls, _call), _keyed(after.calls, _call)):
            yield from self._call(f"{at}/call", called, calls)
        yield from self._errors(at, before.errors, after.errors)
        yield from self._binary(f"{at}/binary", before.binary or Binary(), after.binary or Binary())

    def _binary(self, at: str, before: Binary, after: Binary) -> Iterator[Change]:
        if before.takes and after.takes:
            yield from _scopes(at, before, after)
            yield from _deprecation(at, before, after)
            yield from self._errors(at, before.errors, after.errors)
        elif before.takes:
            yield _gone(at, before.takes, "binary frames of clients are taken for JSON now")
        elif after.takes:
            text = (
                "a server of the old version takes binary frames for JSON; old clients must not send messages in them"
            )
            yield _come(at, after.takes, text)
        if before.sends and not after.sends:
            yield _gone(f"{at}/sent", True, "no binary frames are sent any more")
        elif after.sends and not before.sends:
            yield Change(f"{at}/sent", None, True, "none", "binary frames are new: old clients ignore them")

    # --- what clients send and get

    def _event(self, at: str, before: Receive | None, after: Receive | None) -> Iterator[Change]:
        if before is not None and after is not None:
            path = f"{at}/{before.event}"
            yield from self._incoming(path, before.schema, after.schema)
            yield from _conduct(path, before, after)
            yield from self._uploads(path, before.uploads, after.uploads)
            yield from self._replies(path, _replies(before), _replies(after))
            yield from self._errors(path, before.errors, after.errors)
        elif before is not None:
            yield _gone(f"{at}/{before.event}", before.event, f"the event {before.event!r} is gone")
        elif after is not None:
            yield _come(f"{at}/{after.event}", after.event, f"a server of the old version has no event {after.event!r}")

    def _uploads(self, path: str, before: Schema | None, after: Schema | None) -> Iterator[Change]:
        if before is not None and after is not None:
            yield from self._incoming(f"{path}/item", before, after)
        elif before is not None:
            yield _gone(f"{path}/item", before, "no items are taken any more")
        elif after is not None:
            yield Change(f"{path}/item", None, after, "old clients", "old clients send no items, which it waits for")

    def _replies(self, path: str, before: dict[str, Schema], after: dict[str, Schema]) -> Iterator[Change]:
        if before and not after:
            yield Change(f"{path}/reply", list(before), None, "old clients", "old clients wait for a reply for ever")
            return
        for kind in dict.fromkeys([*before, *after]):
            at = f"{path}/reply {kind}"
            if kind in before and kind in after:
                yield from self._outgoing(at, before[kind], after[kind])
            elif kind in before:
                text = f"a server of the old version may answer {kind!r}, which new clients do not know"
                yield Change(at, kind, None, "new clients", text)
            elif before:
                yield Change(at, None, kind, "old clients", f"old clients do not know the answer {kind!r}")
            else:
                yield _come(at, kind, "a server of the old version does not answer: new clients wait for ever")

    def _push(self, at: str, before: _Typed | None, after: _Typed | None) -> Iterator[Change]:
        if before is not None and after is not None:
            yield from self._outgoing(f"{at} {before.type}", before.schema, after.schema)
        elif before is not None:
            yield _gone(f"{at} {before.type}", before.type, f"{before.type!r} is not sent any more")
        elif after is not None:
            text = f"{after.type!r} is new: old clients ignore it"
            yield Change(f"{at} {after.type}", None, after.type, "none", text)

    def _call(self, at: str, before: Call | None, after: Call | None) -> Iterator[Change]:
        if before is not None and after is not None:
            path = f"{at} {before.message.type}"
            yield from self._outgoing(path, before.message.schema, after.message.schema)
            yield from self._incoming(f"{path}/answer", before.answer, after.answer)
        elif before is not None:
            yield _gone(f"{at} {before.message.type}", before.message.type, "clients are not asked any more")
        elif after is not None:
            kind = after.message.type
            yield Change(f"{at} {kind}", None, kind, "old clients", f"old clients do not answer {kind!r}")

    def _errors(self, at: str, before: Iterable[Error], after: Iterable[Error]) -> Iterator[Change]:
        for old, new in _pairs(_keyed(before, _code), _keyed(after, _code)):
            if old is not None and new is not None:
                yield from self._outgoing(f"{at}/error {old.code}", old.details or {}, new.details or {})
            elif old is not None:
                text = f"the code {old.code!r} does not come any more"
                yield Change(f"{at}/error {old.code}", old.code, None, "none", text)
            elif new is not None:
                text = f"the code {new.code!r} is new: old clients have it as an error of no kind of its own"
                yield Change(f"{at}/error {new.code}", None, new.code, "none", text)

    # --- the handshake

    def _parameter(self, at: str, before: Parameter | None, after: Parameter | None) -> Iterator[Change]:
        known = before or after
        assert known is not None
        path = f"{at}/{known.place} {known.name}"
        if before is not None and after is not None:
            yield from self._incoming(path, before.schema, after.schema)
            if before.required != after.required:
                breaks: Breaks = "old clients" if after.required else "new clients"
                text = "it is required now" if after.required else "a server of the old version requires it"
                yield Change(path, before.required, after.required, breaks, text)
        elif after is None:
            required = "a server of the old version requires it" if known.required else "it is not read any more"
            yield Change(path, known.name, None, "new clients" if known.required else "none", required)
        elif known.required:
            yield Change(path, None, known.name, "old clients", "it is required, and old clients do not send it")
        else:
            yield Change(path, None, known.name, "none", "it may be sent now")

    def _security(self, at: str, before: Channel, after: Channel) -> Iterator[Change]:
        path, old, new = f"{at}/security", list(before.security), list(after.security)
        if new and not old:
            yield Change(path, old, new, "old clients", "old clients do not sign in")
        elif old and not new:
            yield Change(path, old, new, "new clients", "a server of the old version lets in who has signed in")
        elif set(old) - set(new):
            yield Change(path, old, new, "old clients", f"there is no {_listed(set(old) - set(new))} any more")
        elif set(new) - set(old):
            yield _come(path, new, f"a server of the old version does not know {_listed(set(new) - set(old))}")
        for name in old:
            was, is_now = (_plain_scheme(api.security.get(name)) for api in (self._old, self._new))
            if name in new and was != is_now:
                yield Change(f"{path}/{name}", was, is_now, "old clients", "old clients sign in in another way")

    # --- schemas

    def _incoming(self, path: str, before: Schema, after: Schema) -> Iterator[Change]:
        """What clients send: old ones to the new server, and new ones to the old."""
        broken = [
            _change(path, each, each.inner, each.outer, "old clients", "old clients may send", "the server takes")
            for each in self._forth.obstacles(before, after)
        ]
        later = [
            _change(path, each, each.outer, each.inner, "new clients", "new clients may send", "the old server takes")
            for each in self._back.obstacles(after, before)
        ]
        yield from self._described(path, before, after, broken, later, "may be sent now", "is ignored from now on")

    def _outgoing(self, path: str, before: Schema, after: Schema) -> Iterator[Change]:
        """What the server sends: the new one to old clients, and the old one to new."""
        broken = [
            _change(path, each, each.outer, each.inner, "old clients", "the server may send", "old clients know")
            for each in self._heard.obstacles(after, before)
        ]
        later = [
            _change(path, each, each.inner, each.outer, "new clients", "the old server may send", "new clients know")
            for each in self._heard_of_old.obstacles(before, after)
        ]
        yield from self._described(path, before, after, broken, later, "is sent now", "is not sent any more")

    def _described(
        self, path: str, before: Schema, after: Schema, broken: list[Change], later: list[Change], come: str, gone: str
    ) -> Iterator[Change]:
        """These changes, each place once, the worse first; and the fields that come and go without harm."""
        told = {each.path for each in broken}
        changes = broken + [each for each in later if each.path not in told]
        told |= {each.path for each in changes}
        yield from changes
        old, new = _fields(before, self._old.components), _fields(after, self._new.components)
        for name in dict.fromkeys([*old, *new]):
            at = "/".join((path, *name))
            if any(at == each or at.startswith(f"{each}/") for each in told):
                continue
            if (name in old) != (name in new):
                told.add(at)
                words = f"{name[-1]!r} {come if name in new else gone}"
                yield Change(at, old.get(name), new.get(name), "none", words)


class _Typed(NamedTuple):
    """All messages of one type, as one."""

    type: str
    schema: Schema


# --- what does not need schemas


def _connection(at: str, before: Channel, after: Channel) -> Iterator[Change]:
    if _shape(before.path) != _shape(after.path):
        yield Change(f"{at}/path", before.path, after.path, "old clients", f"nothing is at {before.path} any more")
    yield from _wire(f"{at}/wire", before.wire, after.wire)
    old, new = before.subprotocols, after.subprotocols
    if set(old) - set(new):
        yield Change(f"{at}/subprotocols", list(old), list(new), "old clients", "one that clients ask for is gone")
    elif set(new) - set(old):
        yield _come(f"{at}/subprotocols", list(new), "a server of the old version does not know all of them")
    for name in ("history", "presence", "gaps"):
        had, has = getattr(before.features, name), getattr(after.features, name)
        if had and not has:
            yield _gone(f"{at}/{name}", had, f"there is no {name} any more, which clients wait for")
        elif has and not had:
            yield _come(f"{at}/{name}", has, f"a server of the old version has no {name}")


def _wire(path: str, before: Wire, after: Wire) -> Iterator[Change]:
    """Another envelope, of which no client understands a message."""
    old, new = str(before), str(after)
    if old != new:
        text = f"messages are {new} now, and were {old}: old clients understand none of them"
        yield Change(path, old, new, "old clients", text)
    elif before.is_open and not after.is_open:
        yield _gone(f"{path}/other_keys", True, "keys beside those of the envelope are errors now")
    elif after.is_open and not before.is_open:
        yield _come(f"{path}/other_keys", True, "a server of the old version refuses keys beside the envelope's")


def _conduct(path: str, before: Receive, after: Receive) -> Iterator[Change]:
    if before.stream != after.stream:
        text = "it is a stream now" if after.stream else "it is no stream any more"
        yield Change(f"{path}/stream", before.stream, after.stream, "old clients", text)
    if before.cancellable and not after.cancellable:
        yield _gone(f"{path}/cancel", True, "it cannot be cancelled any more")
    elif after.cancellable and not before.cancellable:
        yield _come(f"{path}/cancel", True, "a server of the old version cannot cancel it")
    yield from _scopes(path, before, after)
    yield from _deprecation(path, before, after)


def _scopes(path: str, before: Receive | Binary, after: Receive | Binary) -> Iterator[Change]:
    old, new = list(before.security), list(after.security)
    if set(new) - set(old):
        text = f"old clients may not have {_listed(set(new) - set(old))}"
        yield Change(f"{path}/security", old, new, "old clients", text)
    elif set(old) - set(new):
        text = f"a server of the old version asks for {_listed(set(old) - set(new))}"
        yield Change(f"{path}/security", old, new, "new clients", text)


def _deprecation(path: str, before: Receive | Binary, after: Receive | Binary) -> Iterator[Change]:
    if before.deprecated != after.deprecated:
        text = "it is deprecated now" if after.deprecated else "it is not deprecated any more"
        yield Change(f"{path}/deprecated", before.deprecated, after.deprecated, "none", text)


def _gone(path: str, old: Any, text: str) -> Change:
    return Change(path, old, None, "old clients", text)


def _come(path: str, new: Any, text: str) -> Change:
    return Change(path, None, new, "new clients", text)


def _change(path: str, found: Obstacle, old: Any, new: Any, breaks: Breaks, gives: str, takes: str) -> Change:
    text = f"{gives} {found.given}; {takes} {found.taken}"
    return Change("/".join((path, *found.path)), old, new, breaks, text)


# --- what belongs together


def _pairs(olds: Mapping[str, T], news: Mapping[str, T]) -> Iterator[tuple[T | None, T | None]]:
    for key in dict.fromkeys([*olds, *news]):
        yield olds.get(key), news.get(key)


def _keyed(values: Iterable[T], key: Callable[[T], str]) -> dict[str, T]:
    return {key(each): each for each in values}


_event: Callable[[Receive], str] = attrgetter("event")
_call: Callable[[Call], str] = attrgetter("message.type")
_code: Callable[[Error], str] = attrgetter("code")


def _shared_paths(channels: Iterable[Channel]) -> set[str]:
    """Where more than one channel is, as in documents of others."""
    counted = Counter(_shape(each.path) for each in channels)
    return {path for path, count in counted.items() if count > 1}


def _address(channel: Channel, shared: Container[str]) -> str:
    """What a channel is found by: its path, and its name where others are there, too."""
    path = _shape(channel.path)
    return f"{path} {channel.name}" if path in shared else path


def _shape(path: str) -> str:
    """A path without the names of its parameters, which nobody sees."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def _parameters(channel: Channel) -> dict[str, Parameter]:
    """Those of the path by their place in it, headers in any case."""
    names = re.findall(r"\{([^}:]*)[^}]*\}", channel.path)
    return {
        f"path {names.index(each.name)}"
        if each.place == "path" and each.name in names
        else f"{each.place} {each.name.lower() if each.place == 'header' else each.name}": each
        for each in channel.parameters
    }


def _by_type(messages: Iterable[Message]) -> dict[str, _Typed]:
    schemas: dict[str, list[Schema]] = {}
    for each in messages:
        schemas.setdefault(each.type, []).append(each.schema)
    return {kind: _Typed(kind, each[0] if len(each) == 1 else {"anyOf": each}) for kind, each in schemas.items()}


def _replies(receive: Receive) -> dict[str, Schema]:
    """What may answer, by type; an acknowledgement has the type of the event."""
    replies = {kind: each.schema for kind, each in _by_type(receive.replies).items()}
    return replies or ({receive.event: {"type": "object"}} if receive.acknowledged else {})


def _plain_scheme(scheme: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: each for key, each in (scheme or {}).items() if key != "description"}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _fields(schema: Schema, components: Mapping[str, Schema]) -> dict[tuple[str, ...], Schema]:
    """The named fields at every depth, recursive ones once."""
    found: dict[tuple[str, ...], Schema] = {}
    seen: set[tuple[tuple[str, ...], str]] = set()
    waiting: list[tuple[tuple[str, ...], Any, frozenset[str]]] = [((), schema, frozenset())]
    while waiting and len(found) < _MAX_FIELDS:
        path, schema, above = waiting.pop()
        if not isinstance(schema, Mapping):
            continue
        name = component_name(str(schema.get("$ref", "")))
        if name in components and name not in above and (path, name) not in seen:
            seen.add((path, name))
            waiting.append((path, components[name], above | {name}))
        for key in ("allOf", "anyOf", "oneOf"):
            waiting += ((path, each, above) for each in schema.get(key, ()))
        waiting += (((*path, "[]"), schema["items"], above) for _ in range("items" in schema))
        for key, each in schema.get("properties", {}).items():
            found.setdefault((*path, key), each)
            waiting.append(((*path, key), each, above))
    return found
