"""
Structs in which nothing hides: their instances are written by msgspec at once, within what their envelope says.

    class Posted(Struct): room: str
    Posted("lobby") in reply to {"type":"post","ref":7}   ->   {"type":"post","room":"lobby","ref":7}

All else, also an instance of a subclass, is left to the careful way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from socketsundso.messages import codegen
from socketsundso.messages.framing import DATA, REF, Framing, Part, parts_of
from socketsundso.messages.plain_models import Encode
from socketsundso.messages.struct_checks import check_of
from socketsundso.messages.values import FAILURES, Apart, Flat, failure, form_of, struct_json

_NAMES = {
    "dumps": struct_json,
    "encode_ref": msgspec.json.Encoder().encode,
    "join": b"".join,
    "failures": FAILURES,
    "failure": failure,
}


def struct_encode(kind: Any, typing: Flat | Apart, framing: Framing, careful: Encode, looks: bool) -> Encode | None:
    """
    What encodes the very instances of this class, those in which there is what is declared, if it `looks`; `careful` is
    given all other values.

    None where that cannot be seen; where it may be an object without a key, which is put together otherwise, or one
    that has a `type` without being told by it.
    """
    names: dict[str, Any] = dict(_NAMES)
    check = check_of(kind, "value", names) if looks else f"type(value) is {codegen.named(kind, names)}"
    if check is None:
        return None
    body: list[Part] = [DATA]
    if isinstance(typing, Apart):
        return _encode_of(check, [typing.open, *body, typing.close], framing.parts(typing.event), careful, names)
    config, behind = kind.__struct_config__, parts_of(framing.ref_end(REF) or b"")
    if config.tag_field == typing.key and isinstance(config.tag, str):
        return _encode_of(check, body, body + behind, careful, names, ("", "[:-1]"))
    if config.omit_defaults or not kind.__struct_fields__ or typing.key in (form_of(kind).keys or ()):
        return None
    body.insert(0, typing.open)
    return _encode_of(check, body, body + behind, careful, names, ("[1:]", "[1:-1]"))


def _encode_of(
    check: str,
    message: Sequence[Part],
    answer: Sequence[Part],
    careful: Encode,
    names: dict[str, Any],
    cut: tuple[str, str] = ("", ""),
) -> Encode:
    """Of what is written for `DATA` only this `cut` is taken, in a message and in an answer."""

    def source(parts: Sequence[Part], cut: str) -> list[str]:
        known = {DATA: f"dumps(value){cut}", REF: "encode_ref(ref)"}
        return [known[part] if isinstance(part, str) else codegen.named(part, names) for part in parts if part]

    def function(arguments: str, expression: str, careful: Callable[..., bytes]) -> Callable[..., bytes]:
        lines = [
            f"if not ({check}):",
            f"    return careful({arguments})",
            "try:",
            f"    return {expression}",
            "except failures as exc:",
            "    raise failure(value, exc) from exc",
        ]
        return codegen.function(arguments, lines, {**names, "careful": careful})

    written, answered = " + ".join(source(message, cut[0])), ", ".join(source(answer, cut[1]))
    return Encode(
        function("value", written, careful.message), function("value, ref", f"join(({answered}))", careful.answer)
    )
