"""
Binary frames: what a `@binary` method takes and gives, and bytes on their way out.

    async def on_audio(self, frame: bytes) -> bytes      a frame in, a frame out
    async def on_image(self, frame: memoryview) -> Seen  a frame in, {"type":"seen",...} out

Knows no connection. What is no bytes is refused where it is sent, or with `response_error` where it is a reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from socketsundso.errors import DefinitionError
from socketsundso.messages.aliases import optional_item
from socketsundso.messages.declared import kind_of, members
from socketsundso.messages.pushes import BYTES, encode_push
from socketsundso.messages.response_errors import ResponseError, detail
from socketsundso.messages.route import FRAMES, Encodes, check_frame
from socketsundso.messages.signature import EMPTY, Signature, read
from socketsundso.wire import BinaryPayload


def binary_payload(data: object) -> BinaryPayload:
    """What goes out. Raises TypeError for what is no bytes: of a number, `bytes` would make so many zeros."""
    if not isinstance(data, BYTES):
        raise TypeError(f"a binary frame is bytes, a bytearray or a memoryview, not {type(data).__name__}")
    return BinaryPayload(data)


def encode_any(message: Any) -> bytes:
    """What is sent to many: bytes as they are, anything else as `encode_push` writes it."""
    return BinaryPayload(message) if isinstance(message, BYTES) else encode_push(message)


def read_binary(name: str, function: Callable[..., Any], namespaces: Iterable[Mapping[str, Any]]) -> Signature:
    """
    The signature of a handler of binary frames, whose one parameter is the frame.

    Raises `DefinitionError`, which names the remedy.
    """
    found = read(name, function, namespaces, opaque=FRAMES)
    if found.streams or found.upload is not None:
        raise DefinitionError(
            f"event {name!r}: streams and uploads are told apart by a `ref`, which a binary frame has not; send each "
            "part with `await self.send_bytes(...)`, and take each frame as it comes"
        )
    check_frame(found)
    return found


Replies = Literal["binary", "text", "either"]


def replies_of(where: str, returns: Any) -> Replies:
    """
    What the return annotation says: "binary" for bytes, perhaps None, "either" where there is none.

    Raises `DefinitionError` for bytes or something else: nobody could declare to clients what comes.
    """
    if returns is EMPTY or returns is Any:
        return "either"
    kinds = {kind_of(each) in BYTES for each in members(optional_item(returns) or returns) if each is not type(None)}
    if len(kinds) > 1:
        raise DefinitionError(
            f"{where}: it returns bytes or a message; return one of them, and send the other with `self.send_bytes` or "
            "`self.send`"
        )
    return "binary" if True in kinds else "text"


class BinaryReplies:
    """
    What writes the replies to binary frames: bytes as they are, and the rest, where it may be one, as a message.

    A `BinaryPayload` is what goes out in a binary frame.
    """

    def __init__(self, messages: Encodes | None) -> None:
        self._messages = messages

    def validate(self, value: Any) -> Any:
        if isinstance(value, BYTES):
            return value
        return self._of_messages.validate(value)

    def encode(self, value: Any) -> bytes:
        return BinaryPayload(value) if isinstance(value, BYTES) else self._of_messages.encode(value)

    def encode_valid(self, value: Any) -> bytes:
        return BinaryPayload(value) if isinstance(value, BYTES) else self._of_messages.encode_valid(value)

    @property
    def _of_messages(self) -> Encodes:
        if self._messages is None:
            raise ResponseError([detail("bytes_type", [], "Input should be bytes")])
        return self._messages
