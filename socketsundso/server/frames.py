"""
Messages -> the bytes of a frame that a server sends (RFC 6455, section 5): unmasked, final, never fragmented.

Pure functions. What goes in is a payload, what comes out is ready for the socket.
"""

from __future__ import annotations

import logging
import struct

FIN_TEXT = 0x81
FIN_BINARY = 0x82
FIN_CLOSE = 0x88
FIN_PING = 0x89
FIN_PONG = 0x8A
RSV1 = 0x40

MAX_REASON_BYTES = 123  # a control frame carries at most 125 bytes, two of them are the close code
NO_CODE = 1005
ABNORMAL = 1006

# Heads of the frames that a chat consists of, made once: building one costs as much as encoding its text.
TEXT_HEADS = tuple(bytes((FIN_TEXT, size)) for size in range(126))

logger = logging.getLogger("socketsundso.server")


def text_frame(payload: bytes) -> bytes:
    """The text frame around `payload`, which must be UTF-8."""
    size = len(payload)
    if size < 126:
        return TEXT_HEADS[size] + payload
    return frame(FIN_TEXT, payload)


def frame(first_byte: int, payload: bytes) -> bytes:
    """The frame that starts with `first_byte` (FIN, reserved bits and opcode)."""
    size = len(payload)
    # RFC 6455 5.2: the minimal number of bytes MUST be used to encode the length
    if size < 126:
        return bytes((first_byte, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first_byte, 126, size) + payload
    return struct.pack("!BBQ", first_byte, 127, size) + payload


def frame_bytes(payload_bytes: int) -> int:
    """How long the frame around so many bytes of payload is."""
    return payload_bytes + (2 if payload_bytes < 126 else 4 if payload_bytes < 1 << 16 else 10)


def payload_of(frame: bytes) -> bytes | None:
    """What is in `frame` if it is exactly one data frame as `frame` and `text_frame` make it, else None."""
    if len(frame) < 2 or frame[0] not in (FIN_TEXT, FIN_BINARY):
        return None
    start = {126: 4, 127: 10}.get(frame[1], 2)
    size = frame[1] if start == 2 else int.from_bytes(frame[2:start])
    return frame[start:] if len(frame) == start + size else None


def close_frame(code: int, reason: str = "") -> bytes:
    """
    The close frame with `code` and `reason`; 1005 stands for a frame without a code.

    A reason that does not fit is cut at a character boundary and logged.
    """
    if code == NO_CODE:
        # RFC 6455 7.4.1: 1005 MUST NOT be set as a status code in a Close control frame
        return frame(FIN_CLOSE, b"")
    return frame(FIN_CLOSE, struct.pack("!H", code) + _fitting(reason))


def check_close_code(code: int) -> int:
    """`code`, if an application may close with it; ValueError otherwise."""
    # RFC 6455 7.4: 1004 and 1015 to 2999 are reserved, 1006 is never sent
    if 1000 <= code <= 1003 or code == NO_CODE or 1007 <= code <= 1014 or 3000 <= code <= 4999:
        return int(code)
    raise ValueError(f"cannot close with code {code}: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")


def parse_close(payload: bytes) -> tuple[int, str] | None:
    """Code and reason of a peer's close frame (1005 if it has none), None if the code is not allowed."""
    if not payload:
        return NO_CODE, ""
    code: int = struct.unpack_from("!H", payload)[0]
    # picows refuses the reserved codes below 3000, except that 0 and 1006 are names of its own
    if code in (0, ABNORMAL) or code > 4999:
        return None
    return code, payload[2:].decode()


def _fitting(reason: str) -> bytes:
    encoded = reason.encode(errors="replace")
    if len(encoded) <= MAX_REASON_BYTES:
        return encoded
    logger.warning("close reason cut to %d bytes: %r", MAX_REASON_BYTES, reason)
    return encoded[:MAX_REASON_BYTES].decode(errors="ignore").encode()
