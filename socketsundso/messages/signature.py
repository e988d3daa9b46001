"""
One function -> one `Signature`: what a message must hold for the function to be called, as plain data.

Reads functions, never calls them. Knows nothing of JSON decoding, endpoints or connections. Every mistake that
a signature can hold is found here and raised as a `DefinitionError` that names event, parameter and remedy.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Optional

from pydantic import AliasChoices, AliasGenerator, AliasPath, Field
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from socketsundso.errors import DefinitionError
from socketsundso.messages.aliases import UNIONS, substituted, unwrap
from socketsundso.messages.annotations import UnsupportedAnnotation, check
from socketsundso.messages.declared import kind_of
from socketsundso.messages.markers import Dependency, Injected, Uploaded, source_of

EMPTY: Any = inspect.Parameter.empty
Extra = Literal["forbid", "ignore"]
_ATOMS = (type(None), bool, int, float, str, bytes, enum.Enum)
_NO_FIELD_NAME = re.compile(r'["\\\x00-\x1f]')  # the keys that msgspec does not take: they need escapes in JSON


class Unresolvable(DefinitionError):
    """An annotation that cannot be evaluated yet; a later try, with the class's names, may succeed."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    One parameter of a handler: `name` in Python, `key` in the message.

    `default` is None for a required one, else a callable that makes a fresh default for every call.
    `exact_only`: only pydantic's view of the whole message can fill it (alias paths, validated defaults).
    """

    name: str
    key: str
    annotation: Any
    field: FieldInfo
    default: Callable[[], Any] | None
    constant: Any
    kind: Any
    exact_only: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """
    What `event`'s function takes and returns.

    `parameters` are what a message fills, `injected` what something else does. `self_position` is the index of `self`
    among the positional parameters; -1 if it is keyword-only, None without one. `streams`: it gives items one by one,
    and `returns` is what one of them is; `is_generator`: by `yield`. `upload`: it takes items one by one.

    Where the dependencies are solved, nothing is injected any more: `overridable` are those that were found on the way,
    `handshake` what FastAPI is to take from the handshake, by name, and `tears_down` says that there is something to do
    behind the handler.

    `message_model` is what the only parameter is declared as where that is the whole message, else None; `extra` says
    what becomes of keys that no parameter takes.
    """

    event: str
    parameters: tuple[Parameter, ...]
    returns: Any
    self_position: int | None
    by_keyword: bool
    is_async: bool
    streams: bool = False
    is_generator: bool = False
    upload: Uploaded | None = None
    injected: tuple[Injected, ...] = ()
    overridable: tuple[Callable[..., Any], ...] = ()
    handshake: Mapping[str, inspect.Parameter] = field(default_factory=dict)
    tears_down: bool = False
    message_model: Any = None
    extra: Extra = "forbid"

    @property
    def needs_data(self) -> bool:
        """Is there a parameter without a default?"""
        return any(each.default is None for each in self.parameters)

    def in_order(self) -> list[Parameter | Injected]:
        """All parameters but `self`, as they were written."""
        found: list[Parameter | Injected] = list(self.parameters)
        for each in self.injected:
            found.insert(each.position, each)
        return found

    def call_arguments(self, sources: Mapping[str, str]) -> str:
        """What stands between the parentheses of a call: for each parameter its source, `endpoint` for `self`."""
        positional, by_name = [], []
        for parameter in self.in_order():
            if self._is_named(parameter.kind):
                by_name.append(f"{parameter.name}={sources[parameter.name]}")
            else:
                positional.append(sources[parameter.name])
        position = self.self_position
        if position is not None:
            if position < 0 or len(positional) < position:
                by_name.append("self=endpoint")
            else:
                positional.insert(position, "endpoint")
        return ", ".join(positional + by_name)

    def _is_named(self, kind: Any) -> bool:
        """Is it given by its name? A wrapper may take fewer positional parameters than the function that it wraps."""
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            return False
        return self.by_keyword or kind is inspect.Parameter.KEYWORD_ONLY


def event_name(function: Callable[..., Any]) -> str:
    """The function's name without a leading `on_` or `handle_`."""
    name = getattr(function, "__name__", None)
    if name is None:
        raise DefinitionError(
            f"{function!r} has no name to take the event's from; write @event('name') or Handler('name', ...)"
        )
    for prefix in ("on_", "handle_"):
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    if not name:
        raise DefinitionError(f"the name of {function.__qualname__} leaves no event; write @event('name')")
    return str(name)


def is_unicode(text: str) -> bool:
    """Can it be written in JSON? A lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_async(function: Callable[..., Any]) -> bool:
    """Does calling `function` give an awaitable? Looks through wrappers, partials and callable objects."""
    candidates = (function, inspect.unwrap(function), getattr(function, "__call__", None))  # noqa: B004
    return any(inspect.iscoroutinefunction(c) for c in candidates)


def is_generator(function: Callable[..., Any]) -> bool:
    """Does calling `function` give a generator, async or not? Looks where `is_async` looks."""
    target = inspect.unwrap(getattr(function, "func", function))
    candidates = (function, target, getattr(target, "__call__", None))  # noqa: B004
    return any(inspect.isasyncgenfunction(c) or inspect.isgeneratorfunction(c) for c in candidates)


def read(
    event: str,
    function: Callable[..., Any],
    namespaces: Iterable[Mapping[str, Any]] = (),
    *,
    returns: bool = True,
    opaque: Sequence[type] = (),
) -> Signature:
    """
    The signature of `function` as handler of `event`.

    `namespaces` help to resolve annotations written as strings. With `returns=False` the return annotation is
    not looked at. A parameter of an `opaque` type need not be possible in JSON. Raises `DefinitionError`; its
    subclass `Unresolvable` for a name that is not defined (yet).
    """
    if is_generator(function) and _is_of_contextlib(function):
        raise DefinitionError(
            f"event {event!r}: contextlib makes no handler of a generator; write @event above the function itself, and "
            "`with` or `async with` within it"
        )
    where = f"event {event!r}"
    found = _read(where, event, function, _scope(function, namespaces), returns=returns, opaque=opaque)
    uploads = _uploads(found.injected)
    if len(uploads) > 1:
        names = " and ".join(repr(each.name) for each in uploads)
        raise DefinitionError(
            f"{where}: {names} are AsyncIterators, and a message is followed by the items of one; take items of a "
            "union, `AsyncIterator[Row | Column]`, or a list for what is short"
        )
    if uploads and not (found.is_async or found.streams):
        raise DefinitionError(
            f"{where}: its upload {uploads[0].name!r} is awaited item by item; write it as `async def`"
        )
    return found


def _uploads(injected: Iterable[Injected]) -> list[Uploaded]:
    return [each.source for each in injected if isinstance(each.source, Uploaded)]


def read_dependency(
    event: str, function: Callable[..., Any], namespaces: Iterable[Mapping[str, Any]], endpoint: type | None
) -> Signature:
    """
    The same of what a handler of `endpoint` depends on. Its module's own names come first, as they do in FastAPI.
    """
    where = f"event {event!r}, dependency {name_of(function)!r}"
    names, local = _scope(function, namespaces)
    return _read(where, event, function, ({**local, **names}, {}), returns=False, endpoint=endpoint)


def name_of(function: Any) -> str:
    """What an error calls it."""
    return str(getattr(function, "__qualname__", None) or repr(function))


def _read(
    where: str,
    event: str,
    function: Callable[..., Any],
    scope: tuple[dict[str, Any], dict[str, Any]],
    *,
    returns: bool,
    endpoint: type | None = None,
    opaque: Sequence[type] = (),
) -> Signature:
    try:
        signature = inspect.signature(typing.get_origin(function) or function)
    except (NameError, ValueError) as exc:
        raise Unresolvable(f"{where}: the signature cannot be read: {exc}") from exc
    parameters: list[Parameter] = []
    injected: list[Injected] = []
    self_position = None
    for position, parameter in enumerate(signature.parameters.values()):
        if parameter.name == "self":
            self_position = -1 if parameter.kind is parameter.KEYWORD_ONLY else position
            continue
        filled = _parameter(where, parameter, scope, len(parameters) + len(injected), endpoint, opaque)
        if isinstance(filled, Injected):
            injected.append(filled)
        else:
            parameters.append(filled)
    answer = _resolve(where, "the return annotation", signature.return_annotation, scope) if returns else EMPTY
    generates = endpoint is None and is_generator(function)
    streams = generates or _is_iterator(answer)
    return Signature(
        event=event,
        parameters=tuple(parameters),
        returns=_item(answer) if streams else answer,
        self_position=self_position,
        by_keyword=hasattr(function, "__wrapped__"),
        is_async=is_async(function),
        streams=streams,
        is_generator=generates,
        upload=next(iter(_uploads(injected)), None),
        injected=tuple(injected),
    )


def _is_of_contextlib(function: Callable[..., Any]) -> bool:
    """`@contextmanager` gives no generator, though it is around one."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == contextlib.__file__


def _is_iterator(annotation: Any) -> bool:
    kind = kind_of(annotation)
    return isinstance(kind, type) and issubclass(kind, AsyncIterable | Iterator)


def _item(annotation: Any) -> Any:
    """`T` of an `AsyncIterator[T]`, and of what else a stream may be said to be."""
    return next(iter(typing.get_args(unwrap(annotation))), EMPTY) if _is_iterator(annotation) else EMPTY


def specialised(signature: Signature, arguments: Mapping[Any, Any]) -> Signature:
    """The signature with types in the place of its type variables."""
    if not arguments:
        return signature
    parameters = tuple(_specialised_parameter(signature.event, each, arguments) for each in signature.parameters)
    injected = tuple(_specialised_injected(signature.event, each, arguments) for each in signature.injected)
    returns = given_types(f"event {signature.event!r}, the return annotation", signature.returns, arguments)
    upload = next(iter(_uploads(injected)), None)
    return replace(signature, parameters=parameters, injected=injected, returns=returns, upload=upload)


def _specialised_injected(event: str, injected: Injected, arguments: Mapping[Any, Any]) -> Injected:
    """`Annotated[Repository[T], Depends()]`, `AsyncIterator[T]`: with the endpoint's types."""
    source = injected.source
    if isinstance(source, Uploaded):
        where = f"event {event!r}, parameter {injected.name!r}"
        item = given_types(where, source.item, arguments)
        check_annotation(where, item)
        return replace(injected, source=replace(source, item=item))
    if not isinstance(source, Dependency) or typing.get_origin(source.dependency) is None:
        return injected
    call = given_types(f"event {event!r}, parameter {injected.name!r}", source.dependency, arguments)
    return replace(injected, source=replace(source, dependency=call))


def _specialised_parameter(event: str, parameter: Parameter, arguments: Mapping[Any, Any]) -> Parameter:
    where = f"event {event!r}, parameter {parameter.name!r}"
    annotation = given_types(where, parameter.annotation, arguments)
    check_annotation(where, annotation)
    return replace(parameter, annotation=annotation)


def renamed(signature: Signature, generator: Callable[[str], str] | AliasGenerator) -> Signature:
    """The signature with the keys that `generator` makes of the names of parameters that have no alias."""
    return replace(
        signature, parameters=tuple(_renamed(signature.event, each, generator) for each in signature.parameters)
    )


def _renamed(event: str, parameter: Parameter, generator: Callable[[str], str] | AliasGenerator) -> Parameter:
    if parameter.field.alias is not None or parameter.field.validation_alias is not None:
        return parameter
    where = f"event {event!r}, parameter {parameter.name!r}"
    try:
        key = _generated(generator, parameter.name)
    except Exception as exc:  # it is the application's
        raise DefinitionError(f"{where}: alias_generator raised {exc!r}") from exc
    if not isinstance(key, str) or not key:
        raise DefinitionError(f"{where}: alias_generator gave {key!r}, and a key of a message is a text")
    return replace(parameter, key=key, exact_only=parameter.exact_only or bool(_NO_FIELD_NAME.search(key)))


def _generated(generator: Callable[[str], str] | AliasGenerator, name: str) -> Any:
    if not isinstance(generator, AliasGenerator):
        return generator(name)
    alias, to_validate, _ = generator.generate_aliases(name)
    return alias if to_validate is None else to_validate


def given_types(where: str, annotation: Any, arguments: Mapping[Any, Any]) -> Any:
    """`annotation` with types in the place of its type variables. Raises `DefinitionError` if it cannot take them."""
    try:
        return substituted(annotation, arguments)
    except (PydanticUserError, TypeError) as exc:  # a model is built here; it may hold no Struct, say
        given = ", ".join(f"{variable} = {kind!r}" for variable, kind in arguments.items())
        raise DefinitionError(f"{where}: {annotation!r} is not possible with {given}: {exc}".splitlines()[0]) from exc


def _scope(
    function: Callable[..., Any], namespaces: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    target = typing.get_origin(function) or function
    while isinstance(target, functools.partial):
        target = target.func
    target = inspect.unwrap(target)
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc]  # the class's own or inherited one, as it is
    if not hasattr(target, "__globals__"):
        target = getattr(type(target), "__call__", target)  # noqa: B004  # the function, not the question
    local: dict[str, Any] = {}
    for namespace in namespaces:
        local = {**namespace, **local}
    local.update({p.__name__: p for p in getattr(target, "__type_params__", ())})
    return getattr(target, "__globals__", {}), local


def _resolve(where: str, what: str, annotation: Any, scope: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    if annotation is EMPTY:
        return EMPTY
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, scope[0], scope[1], include_extras=True)["it"]
    except NameError as exc:
        raise Unresolvable(
            f"{where}: {what}, {annotation!r}, cannot be resolved: {exc}. Define or import the name "
            "before the endpoint, at module level, and not under `if TYPE_CHECKING:`"
        ) from exc
    except (TypeError, SyntaxError, AttributeError) as exc:
        raise DefinitionError(f"{where}: {what}, {annotation!r}, is not a type: {exc}") from exc


def _parameter(
    owner: str,
    parameter: inspect.Parameter,
    scope: tuple[dict[str, Any], dict[str, Any]],
    position: int,
    endpoint: type | None,
    opaque: Sequence[type] = (),
) -> Parameter | Injected:
    where = f"{owner}, parameter {parameter.name!r}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise DefinitionError(
            f"{where}: {stars}{parameter.name} says nothing about the message; name each parameter, or take one "
            "`dict` parameter"
        )
    annotation = _resolve(owner, f"the annotation of parameter {parameter.name!r}", parameter.annotation, scope)
    annotation = Any if annotation is EMPTY else annotation
    source = source_of(where, annotation, parameter, endpoint)
    if isinstance(source, Uploaded):
        check_annotation(where, source.item)
    if source is not None:
        return Injected(parameter.name, parameter.kind, position, source)
    if annotation not in opaque:
        check_annotation(where, annotation)
    if isinstance(parameter.default, FieldInfo):
        field = FieldInfo.from_annotated_attribute(annotation, parameter.default)
    else:
        field = FieldInfo.from_annotation(annotation)
    if parameter.default is None:
        _admit_none(field)
    default, constant = _default(where, parameter, field)
    key, exact = _key(parameter.name, field)
    return Parameter(
        name=parameter.name,
        key=key,
        annotation=_bare(field),
        field=field,
        default=default,
        constant=constant,
        kind=parameter.kind,
        exact_only=exact or bool(field.validate_default and default) or _takes_data(field),
    )


def check_annotation(where: str, annotation: Any) -> None:
    """Raises `DefinitionError`, which names `where` it stands, for what can never come from JSON."""
    try:
        check(annotation)
    except UnsupportedAnnotation as exc:
        raise DefinitionError(f"{where}: {exc}") from exc
    except NameError as exc:  # `type X = ...` looks its names up when it is asked what it stands for
        raise Unresolvable(
            f"{where}: {annotation!r} cannot be resolved: {exc}. Define the name before the endpoint"
        ) from exc


def _bare(field: FieldInfo) -> Any:
    """The type and all that decides what is valid, without what belongs to a field (alias, default, title)."""
    metadata = list(field.metadata)
    if field.discriminator is not None:
        metadata.append(Field(discriminator=field.discriminator))
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def _admit_none(field: FieldInfo) -> None:
    """`a: int = None` has always meant `Optional[int]`. What belongs to a field stays the field's."""
    is_optional = typing.get_origin(field.annotation) in UNIONS and type(None) in typing.get_args(field.annotation)
    if not is_optional:
        field.annotation = Optional[_bare(field)]  # type: ignore[assignment]  # what decides of values is within
        field.metadata, field.discriminator = [], None


def _takes_data(field: FieldInfo) -> bool:
    return field.default_factory is not None and bool(field.default_factory_takes_validated_data)


def _default(where: str, parameter: inspect.Parameter, field: FieldInfo) -> tuple[Callable[[], Any] | None, Any]:
    """A maker of fresh defaults, and the default itself where it can never change (else EMPTY)."""
    value = parameter.default
    if value is ...:  # pydantic's way to say "required"
        return None, EMPTY
    if value is EMPTY or isinstance(value, FieldInfo):
        if field.default_factory is not None:
            return typing.cast("Callable[[], Any]", field.default_factory), EMPTY
        if field.default is PydanticUndefined or field.default is ...:
            return None, EMPTY
        value = field.default
    if isinstance(value, _ATOMS) or (type(value) is tuple and not value):
        return (lambda: value), value
    if _is_shared(where, value):
        return (lambda: value), EMPTY
    return (lambda: copy.deepcopy(value)), EMPTY


def _is_shared(where: str, value: Any) -> bool:
    """
    Is every call given this very object as its default?

    What is hashable and has no state to change: a sentinel has to stay the one it is compared with. And what can be
    hashed but not copied, as pydantic has it.
    """
    try:
        hash(value)
    except Exception:
        is_hashable = False
    else:
        is_hashable = True
    if is_hashable and not getattr(value, "__dict__", None):
        return True
    try:
        copy.deepcopy(value)
    except Exception as exc:
        if is_hashable:
            return True
        raise DefinitionError(
            f"{where}: its default cannot be copied for every call ({exc}); write `= Field(default_factory=...)`"
        ) from exc
    return False


def _key(name: str, field: FieldInfo) -> tuple[str, bool]:
    alias = field.alias if field.validation_alias is None else field.validation_alias
    if isinstance(alias, AliasPath | AliasChoices):
        return name, True
    if alias is None:
        return name, False
    return alias, bool(_NO_FIELD_NAME.search(alias))
