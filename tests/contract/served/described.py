"""The contract of `endpoints`, by hand."""

from __future__ import annotations

from socketsundso.contract.model import Api, Call, Channel, Error, Features, Message, Parameter, Receive
from tests.contract.apis import BOOLEAN, INTEGER, NUMBER, STRING, fields, ref

API = Api(
    "Served",
    "1",
    (
        Channel(
            "chat",
            "/chat",
            receives=(
                Receive("enter", fields("room", room=STRING, last={"type": "integer"}), acknowledged=True),
                Receive("exit", fields("room", room=STRING), acknowledged=True),
                Receive("say", fields("room", "msg", room=STRING, msg=STRING), acknowledged=True),
                Receive("flood", fields("room", "count", room=STRING, count=INTEGER), acknowledged=True),
                Receive("drop", fields(code=INTEGER), acknowledged=True),
                Receive("who", fields(), replies=(Message("who", fields("name", "pid", name=STRING, pid=INTEGER)),)),
            ),
            pushes=(Message("posted", fields("msg", msg=STRING)),),
            features=Features(history=True, presence=True),
            security=("token",),
        ),
        Channel(
            "shop",
            "/shop",
            receives=(
                Receive(
                    "buy",
                    fields("count", count=INTEGER),
                    replies=(Message("bought", fields("count", count=INTEGER)),),
                    errors=(Error("sold_out", "Not so many left.", fields("left", left=INTEGER), name="SoldOut"),),
                ),
                Receive("note", fields("text", text=STRING)),
                Receive(
                    "notes", fields(), replies=(Message("notes", fields(notes={"type": "array", "items": STRING})),)
                ),
                Receive("wait", fields("name", name=STRING), replies=(Message("waited", fields()),), cancellable=True),
                Receive(
                    "ticks",
                    fields("count", count=INTEGER),
                    replies=(Message("tick", fields("n", n=INTEGER)),),
                    stream=True,
                ),
                Receive(
                    "sum",
                    fields("most", most=INTEGER),
                    replies=(Message("sum", fields("total", total=INTEGER)),),
                    uploads=fields("n", n=INTEGER),
                    cancellable=True,
                ),
                Receive(
                    "double",
                    fields(),
                    replies=(Message("tick", fields("n", n=INTEGER)),),
                    stream=True,
                    uploads=fields("n", n=INTEGER),
                ),
                Receive("fails", fields(), replies=(Message("tick", fields("n", n=INTEGER)),), stream=True),
                Receive(
                    "ask",
                    fields("question", question=STRING, timeout_s=NUMBER),
                    replies=(Message("asked", fields("answer", answer=BOOLEAN)),),
                ),
                Receive("limited", fields(), replies=(Message("limited", fields()),)),
                Receive(
                    "retire", fields("pid", pid=INTEGER), replies=(Message("retired", fields("pid", pid=INTEGER)),)
                ),
                Receive("leave", fields("code", code=INTEGER, reason=STRING)),
                Receive("push", fields("text", text=STRING)),
            ),
            pushes=(Message("notice", fields("text", text=STRING)),),
            calls=(Call(Message("confirm", fields("question", question=STRING)), BOOLEAN),),
        ),
        Channel(
            "plain",
            "/plain/{name}",
            parameters=(Parameter("name", "path", STRING), Parameter("lang", "query", STRING, required=False)),
            subprotocols=("plain.v1",),
            receives=(
                Receive("echo", fields("text", text=STRING), replies=(Message("echo", ref("Echo")),)),
                Receive("slow", fields("seconds", seconds=NUMBER), replies=(Message("slow", fields()),)),
            ),
        ),
    ),
    {"Echo": fields("text", "url", "protocol", text=STRING, url=STRING, protocol=STRING)},
    {"token": {"type": "httpApiKey", "in": "query", "name": "token"}},
)
