"""
What stands before the fields of a message: the class's rate limit, its middleware, its `before`, the event's guards.

    frame -> rate limit -> middleware( before -> guards -> ( fields -> handler ) ) -> reply

A `Gate` puts itself before the routes of an endpoint, around the call of what is read fast as around the call of what
pydantic has to judge. Routes that nothing stands before stay as they are. Knows the endpoint by a few attributes alone.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from socketsundso.connection import RateLimit
from socketsundso.errors import DefinitionError, EventError
from socketsundso.handler import Handler, gives_awaitable, takes
from socketsundso.messages import CallMessage, Frame, Judgement, Refused, Route, finishing


class Call(msgspec.Struct, frozen=True, gc=False):
    """
    A message that is to be handled, before its fields are looked at.

    That of `{"type":"say","ref":7,"msg":"hi"}` has the `event` "say", the `ref` 7 (None where none came), and the
    `handler` of that event.
    """

    event: str
    ref: int | str | None
    handler: Any  # a Handler; as one, type checkers would take this for a method


Guard = Callable[[Any, Call], Any]
"""
`guard(endpoint, call)`, sync or async. It lets a message pass with None or True, refuses it with False, which is
answered `forbidden`, or with what it raises: an EventError or HTTPException is the answer, anything else a bug.
"""

Handle = Callable[[], Awaitable[Any]]
"""The rest of a message's way; gives the handler's value, raises what is wrong with the message or went wrong."""

Middleware = Callable[[Any, Call, Handle], Awaitable[Any]]
"""`await middleware(endpoint, call, handle)` gives what is answered, most likely `await handle()`."""


def scopes(*names: str) -> Guard:
    """
    A guard that asks the user for all of these scopes: `@event(guards=[scopes("chat:write")])`.

    The user's are `self.user.scopes`, or the keys `scopes` or `scope` of a mapping, such as the claims of a JWT: names,
    or one text with spaces between them. Where nobody is signed in, those that Starlette's AuthenticationMiddleware has
    found. Answers `unauthorized` where there is neither, `forbidden` where one is missing. The contract tells them.
    """
    for name in names or ("",):
        if not isinstance(name, str) or not name or " " in name:
            raise DefinitionError(
                f"scopes: {name!r} is no scope; name each by itself: scopes('chat:read', 'chat:write')"
            )
    return Scopes(names)


class Scopes:
    """What `scopes` gives."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self.scopes = scopes
        self._needed = frozenset(scopes)

    def __call__(self, endpoint: Any, call: Call) -> None:
        granted = _scopes_of(endpoint)
        if granted is None:
            raise EventError("unauthorized", "nobody is signed in")
        if not self._needed <= granted:
            raise EventError("forbidden", f"needs the scopes {' '.join(self.scopes)}")


def _scopes_of(endpoint: Any) -> frozenset[str] | None:
    user = endpoint.user
    if user is None:
        authenticated = endpoint.websocket.scope.get("auth")
        return None if authenticated is None else frozenset(authenticated.scopes)
    given = user.get("scopes", user.get("scope", ())) if isinstance(user, Mapping) else user.scopes
    return frozenset(given.split() if isinstance(given, str) else given)


class Gate:
    """
    What a class puts before all of its events: its limit, `middleware` (the innermost first), and whether it has a
    `before`, or `idles`: closes who says nothing.
    """

    def __init__(
        self, rate_limit: RateLimit | None, *, before: bool, middleware: Sequence[Middleware], idles: bool
    ) -> None:
        meter = None if rate_limit is None else rate_limit.meter(None)
        self._charges: tuple[Callable[[Any], None], ...] = ()
        if idles:
            self._charges += (_note_heard,)
            middleware = (*middleware, _answering)
        if meter is not None:
            self._charges += (meter.charge,)
        self._guards: tuple[Guard, ...] = (_ask_before,) if before else ()
        self._middleware = tuple(middleware)

    @property
    def is_around(self) -> bool:
        """Does what handlers give pass through here before it is a reply?"""
        return bool(self._middleware)

    @property
    def charge(self) -> Callable[[Any], None] | None:
        """To be called with the endpoint for each frame that no route is for. Raises what a limit raises."""
        if not self._charges:
            return None

        def charge(endpoint: Any) -> None:
            for each in self._charges:
                each(endpoint)

        return charge

    def stand_before(self, route: Route, handler: Handler[..., Any]) -> None:
        """Let nothing through to this route but what may pass. One that nothing stands before stays as it is."""
        charges, guards = self._charges, (*self._guards, *handler.guards)
        if not self._middleware and all(isinstance(guard, RateLimit) for guard in guards):
            charges += tuple(guard.meter(route.event).charge for guard in guards if isinstance(guard, RateLimit))
            guards = ()
        if guards:
            route.put_before(functools.partial(_guarded, route, handler, guards), awaited=True, waits=True)
        if self._middleware:
            within = functools.partial(_within, route, handler, self._middleware)
            route.put_before(within, awaited=True, waits=True)
            if route.signature.tears_down:
                finished = functools.partial(finishing, where=f"event {route.event!r}")
                route.put_before(finished, awaited=True, waits=True)
        for charge in reversed(charges):
            route.put_before(functools.partial(_charged, charge), awaited=route.awaited)


def _note_heard(endpoint: Any) -> None:
    endpoint._deadlines.heard()


async def _answering(endpoint: Any, call: Call, handle: Handle) -> Any:
    deadlines = endpoint._deadlines
    deadlines.answer_begins()
    try:
        return await handle()
    finally:
        deadlines.answer_ends()


def _ask_before(endpoint: Any, call: Call) -> Any:
    return endpoint.before(call)


def _charged(charge: Callable[[Any], None], inner: CallMessage) -> CallMessage:
    def charged(message: Any, endpoint: Any, frame: Frame) -> Any:
        charge(endpoint)
        return inner(message, endpoint, frame)

    return charged


def _guarded(route: Route, handler: Handler[..., Any], guards: Sequence[Guard], inner: CallMessage) -> CallMessage:
    event, is_awaited = route.event, route.awaited

    async def guarded(message: Any, endpoint: Any, frame: Frame) -> Any:
        call = Call(event, message.ref, handler)
        for guard in guards:
            verdict = guard(endpoint, call)
            if verdict is not None:
                await _let_pass(guard, verdict)
        value = inner(message, endpoint, frame)
        return await value if is_awaited else value

    return guarded


async def _let_pass(guard: Guard, verdict: Any) -> None:
    """Raises unless the guard lets the message pass."""
    if hasattr(verdict, "__await__"):
        verdict = await verdict
    if verdict is False:
        raise EventError("forbidden")
    if verdict is not None and verdict is not True:  # `user and user.is_admin` may be anything
        raise TypeError(
            f"{guard!r} gave {verdict!r}: a guard lets a message pass with None or True, and refuses it with False or "
            "by raising an EventError"
        )


def _within(
    route: Route, handler: Handler[..., Any], middleware: Sequence[Middleware], inner: CallMessage
) -> CallMessage:
    """The innermost first. Outside of all of them what is not valid is `Refused` again; inside it is what is wrong."""
    event, is_awaited = route.event, route.awaited

    async def within(message: Any, endpoint: Any, frame: Frame) -> Any:
        call = Call(event, message.ref, handler)
        validity = _Validity(functools.partial(inner, message, endpoint, frame), is_awaited)
        rest: Handle = validity.handle
        for each in middleware:
            rest = functools.partial(each, endpoint, call, rest)
        is_told = False
        try:
            return await rest()
        except Exception as exc:
            is_told = validity.is_told_by(exc)
            if not is_told:
                raise
        finally:
            if not is_told:
                validity.forget()
        raise validity.refusal

    return within


class _Validity:
    """What is wrong with one message, as middleware sees it: the ValidationError, which may pass or be replaced."""

    __slots__ = ("_call", "_is_awaited", "_judgement", "_traceback")

    def __init__(self, call: Callable[[], Any], is_awaited: bool) -> None:
        self._call, self._is_awaited = call, is_awaited
        self.forget()

    def forget(self) -> None:
        """The error's traceback has frames that know this: both would stay until the collector comes."""
        self._judgement: Judgement | None = None
        self._traceback: TracebackType | None = None

    async def handle(self) -> Any:
        try:
            value = self._call()
            return await value if self._is_awaited else value
        except Refused as exc:
            self._judgement = exc.judgement
        assert self._judgement is not None
        self._traceback = self._judgement.error.__traceback__
        raise self._judgement.error

    def is_told_by(self, exc: Exception) -> bool:
        return self._judgement is not None and exc is self._judgement.error

    @property
    def refusal(self) -> Refused:
        """For the receive loop; without the traceback through here, whose frames have all of this in them."""
        judgement, traceback = self._judgement, self._traceback
        self.forget()
        assert judgement is not None
        judgement.error.with_traceback(traceback)
        return Refused(judgement)


def check_middleware(owner: str, function: Any) -> None:
    """Raises `DefinitionError` for what cannot be around a message."""
    if not (callable(function) and gives_awaitable(function) and takes(function, "endpoint", "call", "handle")):
        raise DefinitionError(
            f"{owner}.middleware: {function!r} is awaited, and called with the endpoint, the call and what handles it; "
            "write it as `async def timed(endpoint, call, handle)`"
        )
