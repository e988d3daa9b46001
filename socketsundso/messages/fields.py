"""
What reads a value of one annotation: msgspec, where it decodes exactly as pydantic would, else pydantic's adapter.

A `Field` reads what a frame keeps raw, since only its `ref` says what it is: the answer to a question, the item of an
upload.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from pydantic import TypeAdapter
from pydantic_core import ValidationError

from socketsundso.errors import DefinitionError
from socketsundso.messages.annotations import UnsupportedAnnotation, native, pydantic_form
from socketsundso.messages.disclosure import declared_names
from socketsundso.messages.framing import Place
from socketsundso.messages.raw_fields import gathered
from socketsundso.messages.structs import by_pydantic, runs_user_code


def native_kind(annotation: Any) -> Any | None:
    """What msgspec decodes while it decodes the frame: not what calls the application's code, which is called once."""
    kind = native(annotation)
    return None if kind is None or runs_user_code(kind) else kind


def adapter_for(where: str, annotation: Any) -> TypeAdapter[Any]:
    """What validates it. Raises `DefinitionError`, which names `where` it stands, if that cannot be built."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(pydantic_form(annotation))
        adapter.rebuild(raise_errors=True)
    except UnsupportedAnnotation as exc:
        raise DefinitionError(f"{where}: {exc}") from exc
    except NameError as exc:  # in the fields of a class
        raise DefinitionError(
            f"{where}: {annotation!r} cannot be resolved: {_first_line(exc)}. Define the name before the endpoint"
        ) from exc
    except Exception as exc:
        raise DefinitionError(
            f"{where}: pydantic cannot build a validator for {annotation!r}: {_first_line(exc)} "
            "Annotate it with what JSON can hold, or keep it on self"
        ) from exc
    return adapter


def _first_line(exc: Exception) -> str:
    """What an exception says, in one line; of one that ends in a colon the reason stands in the next."""
    first, _, rest = (str(exc).strip() or type(exc).__name__).partition("\n")
    reason = rest.strip().partition("\n")[0]
    return f"{first} {reason}." if first.endswith(":") and reason else first


class Field:
    """
    One key of a frame, in this `place` of it. `where` says what it is declared as.

    Raises `DefinitionError` for what pydantic cannot validate.
    """

    def __init__(self, key: str, annotation: Any, where: str, place: Place = ()) -> None:
        self._key, self._place, self._adapter = key, place, adapter_for(where, annotation)
        kind = native_kind(annotation)
        self._decode = None if kind is None else msgspec.json.Decoder(kind, dec_hook=by_pydantic).decode

    def read(self, raw: bytes) -> Any:
        """Raises pydantic's `ValidationError`, with the key in its places, and whatever validators raise."""
        if self._decode is not None:
            try:
                return self._decode(raw)
            except Exception:  # pydantic may take it all the same, and tells what is wrong
                pass
        try:
            return self._adapter.validator.validate_json(raw)
        except ValidationError as exc:
            failure = exc
        raise gathered({self._key: failure}, self._place) or failure

    @functools.cached_property
    def declared(self) -> frozenset[str]:
        """The names that may stand in the `loc` of an error."""
        return declared_names(self._adapter.core_schema) | {self._key}
