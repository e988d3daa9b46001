"""
APIs as plain values, for every test of what is made of a contract.

`CHAT` has rooms: pushes with history, presence and gaps, a union of replies. `SHOP` has two channels: an application's
own errors, streams, an upload, calls, binary frames, parameters of the handshake, security. `ODD` has the names and
schemas that a generator trips over. `APIS` is all of them, by name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from socketsundso.contract.model import (
    Api,
    Binary,
    Call,
    Channel,
    Error,
    Features,
    Message,
    Parameter,
    Receive,
    Schema,
    Wire,
)

OWN_ERRORS = (
    Error("validation_error", "The fields are not what the event takes."),
    Error("unknown_event", "There is no such event."),
    Error("malformed_message", "No object with a string `type`."),
    Error("response_error", "The handler's value is no valid reply."),
    Error("internal_error", "The handler failed."),
)
"""The package's own codes that any endpoint may answer with."""


def fields(*required: str, **properties: Any) -> Schema:
    """An object with these properties and no other; `required` names those that have to be there."""
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | {"required": list(required)} if required else schema


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


STRING = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
BOOLEAN = {"type": "boolean"}
ROOM = {"type": "string", "minLength": 1, "maxLength": 40, "description": "A room's name.", "examples": ["lobby"]}

POSTED = Message(
    "posted",
    ref("Posted"),
    name="Posted",
    summary="Somebody said something.",
    description="To everybody in the room, the sender too.",
)

CHAT = Api(
    "Chat",
    "1.2.0",
    (
        Channel(
            "chat",
            "/ws",
            summary="A chat with rooms.",
            description="Enter a room, and *everybody* in it hears what you say.",
            receives=(
                Receive(
                    "enter",
                    fields("room", "name", room=ROOM, name=STRING),
                    acknowledged=True,
                    summary="Enter a room.",
                    description="Its newest messages come first, then live ones.",
                    errors=(Error("full", "No more room."),),
                ),
                Receive("leave", fields("room", room=ROOM)),
                Receive(
                    "say",
                    fields(
                        "room",
                        "msg",
                        room=ROOM,
                        msg={"type": "string", "minLength": 1, "maxLength": 2000},
                        mentions={"type": "array", "items": STRING, "default": []},
                    ),
                    replies=(
                        Message("said", ref("Said"), name="Said", summary="It was said."),
                        Message("muted", fields("seconds", seconds=NUMBER), name="Muted", description="Not now."),
                    ),
                    tags=("talk",),
                ),
                Receive("ping", fields(), replies=(Message("pong", fields(), name="Pong"),)),
            ),
            pushes=(
                POSTED,
                Message(
                    "typing",
                    fields("room", "users", room=STRING, users={"type": "array", "items": ref("User")}),
                    "Typing",
                ),
            ),
            errors=OWN_ERRORS,
            features=Features(history=True, presence=True, gaps=True),
        ),
    ),
    {
        "Posted": fields("sender", "msg", sender=ref("User"), msg=STRING),
        "Said": fields("id", id=INTEGER),
        "User": fields("id", "name", id=INTEGER, name=STRING, avatar={"anyOf": [STRING, {"type": "null"}]}),
    },
    description="A small chat.",
)

SHOP = Api(
    "Shop",
    "0.9.1",
    (
        Channel(
            "shop",
            "/shops/{shop}",
            summary="Buy and watch prices.",
            parameters=(
                Parameter("shop", "path", {"type": "string", "enum": ["north", "south"]}, description="Which one."),
                Parameter("currency", "query", {"type": "string", "default": "EUR"}, required=False),
                Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100}),
                Parameter("x-tenant", "header", STRING, required=False, description="Whose shop."),
                Parameter("session", "cookie", STRING, required=False),
            ),
            subprotocols=("shop.v1", "shop.v2"),
            receives=(
                Receive(
                    "buy",
                    fields(
                        "symbol",
                        "count",
                        symbol=STRING,
                        count={"type": "integer", "exclusiveMinimum": 0},
                        note={"anyOf": [STRING, {"type": "null"}], "default": None},
                        side=ref("Side"),
                    ),
                    replies=(Message("bought", ref("Order"), name="Order"),),
                    cancellable=True,
                    errors=(
                        Error("sold_out", "Not so many left.", fields("left", left=INTEGER), name="SoldOut"),
                        Error("too_late", "The shop is closed.", ref("TooLate"), name="TooLate"),
                    ),
                    summary="Buy something.",
                    security=("shop:buy",),
                    tags=("orders", "money"),
                ),
                Receive("pay", fields("order", order=INTEGER), replies=(Message("pay", fields("paid", paid=BOOLEAN)),)),
                Receive(
                    "ticks",
                    fields("symbols", symbols={"type": "array", "items": STRING, "minItems": 1}),
                    replies=(
                        Message("tick", ref("Tick"), name="Tick"),
                        Message("halted", fields("symbol", symbol=STRING), name="Halted"),
                    ),
                    stream=True,
                    cancellable=True,
                    summary="Prices as they change.",
                ),
                Receive(
                    "import_orders",
                    fields("name", name=STRING),
                    replies=(Message("imported", fields("count", count=INTEGER), name="Imported"),),
                    uploads=ref("Order"),
                    cancellable=True,
                ),
                Receive("sell", fields("symbol", symbol=STRING), deprecated=True, description="Nobody does."),
            ),
            pushes=(Message("notice", fields("text", text=STRING), name="Notice", deprecated=True),),
            calls=(
                Call(Message("confirm", fields("order", order=ref("Order")), name="Confirm", summary="Sure?"), BOOLEAN),
                Call(Message("locate", fields(), name="Locate"), ref("Position")),
            ),
            errors=OWN_ERRORS,
            security=("token", "bearer"),
            binary=Binary(
                "photo",
                sends=True,
                errors=(Error("blurred", "Nothing can be seen.", fields("of", of=STRING), name="Blurred"),),
                summary="Show what is sold.",
                description="A JPEG.",
                tags=("orders",),
                security=("shop:sell",),
            ),
        ),
        Channel(
            "admin",
            "/admin/{region}/{id}",
            parameters=(
                Parameter("region", "path", STRING),
                Parameter("id", "path", {"type": "integer", "description": "A number."}),
            ),
            receives=(Receive("close", fields("reason", reason=STRING), acknowledged=True),),
            errors=OWN_ERRORS[:2],
            features=Features(gaps=True),
            wire=Wire(type_key="kind", ref_key="id"),
            security=("bearer",),
        ),
    ),
    {
        "Side": {"type": "string", "enum": ["buy", "sell"], "description": "Which way."},
        "Order": fields("id", "lines", id=INTEGER, lines={"type": "array", "items": ref("Line")}, side=ref("Side")),
        "Line": fields("symbol", "price", symbol=STRING, price={"type": "string", "description": "A decimal."}),
        "Tick": fields(
            "symbol", "price", "at", symbol=STRING, price=NUMBER, at={"type": "string", "format": "date-time"}
        ),
        "TooLate": fields("opens", opens={"type": "string", "format": "time"}),
        "Position": {
            "type": "array",
            "prefixItems": [NUMBER, NUMBER],
            "items": False,
            "minItems": 2,
            "maxItems": 2,
        },
    },
    {
        "token": {"type": "httpApiKey", "in": "query", "name": "token", "description": "A token of the shop."},
        "bearer": {"type": "http", "scheme": "bearer"},
    },
)

ODD = Api(
    "Odd names",
    "0",
    (
        Channel(
            "odd",
            "/",
            description="`*/ */ \"\"\" ''' ${x} \\u0000 <script>alert(1)</script> -->\nsecond line",
            receives=(
                Receive("chat.send", fields("class", **{"class": STRING, "from": STRING, "a-b": INTEGER})),
                Receive("class", fields(), replies=(Message("class", fields(), name="Class"),)),
                Receive("constructor", fields(constructor=STRING)),
                Receive("__proto__", fields(**{"__proto__": STRING})),
                Receive("on", fields()),
                Receive("close", fields()),
                Receive("once", fields(state=STRING, room=STRING, handle=STRING)),
                Receive(
                    "größe/é b", fields("ä", **{"ä": STRING, "": STRING, "1st": STRING, "$ref": STRING}), tags=("ü~/",)
                ),
                Receive(
                    "tree",
                    fields("tree", tree=ref("Tree")),
                    replies=(Message("tree", ref("Tree"), name="Tree"),),
                ),
                Receive("any", {"type": "object"}, replies=(Message("any", {"type": "object"}, name="Anything"),)),
                Receive(
                    "map",
                    {"type": "object", "additionalProperties": INTEGER, "propertyNames": {"pattern": "^[a-z]+$"}},
                ),
                Receive(
                    "patterns",
                    {"type": "object", "patternProperties": {"^t": INTEGER}, "additionalProperties": False},
                ),
                Receive(
                    "few", {"type": "object", "additionalProperties": STRING, "minProperties": 1, "maxProperties": 2}
                ),
            ),
            pushes=(
                Message("toString", fields("value", value={"const": None}), name="ToString"),
                Message("0", fields("n", n={"type": "integer", "maximum": 2**63 - 1}), name="Zero"),
                Message("either", fields("shape", shape=ref("Shape")), name="Either", description="*/ end of comment"),
            ),
            errors=(Error("internal_error"), Error("no such code!", "`\n*/")),
        ),
    ),
    {
        "Tree": fields("value", value={}, children={"type": "array", "items": ref("Tree")}),
        "Shape": {"anyOf": [ref("Circle"), ref("Square")]},
        "Circle": fields("kind", "r", kind={"const": "circle"}, r={"allOf": [ref("Length")], "description": "In m."}),
        "Square": fields("kind", "a", kind={"const": "square"}, a=ref("Length")),
        "Length": {"type": "number", "exclusiveMinimum": 0},
        "app.models.Unused": {"type": "integer", "enum": [1, 2, 3], "default": 1},
    },
)

APIS = {"chat": CHAT, "shop": SHOP, "odd": ODD}

WIRES = {
    "renamed": Wire("action", "requestId"),
    "nested": Wire("event", "ref", "payload"),
    "open": Wire("event", "ref", "payload", is_open=True),
    "array": Wire(parts=("type", "ref", "data")),
    "ref-last": Wire(parts=("type", "data", "ref")),
}
"""Those of envelopes that are not the default one."""


def within(api: Api, wire: Wire) -> Api:
    """The same API in another envelope."""
    return replace(api, channels=tuple(replace(each, wire=wire) for each in api.channels))


ENVELOPED = {f"{name}-{called}": within(api, wire) for called, wire in WIRES.items() for name, api in APIS.items()}
