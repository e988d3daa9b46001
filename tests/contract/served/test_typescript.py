"""What the TypeScript client does while its connection holds, in Node and Bun, against a server of this package."""

from __future__ import annotations

from typing import Any

from tests.contract.served.javascript import Engine


def test_a_request_resolves_with_its_reply(js: Engine, url: str) -> None:
    """The message as it is on the wire."""
    told = js.run("return await open(Shop, url + '/shop').buy({ count: 2 })", url=url)
    assert told == {"type": "bought", "count": 2, "ref": 1}


def test_many_requests_at_once_get_their_own_replies(js: Engine, url: str) -> None:
    """Whoever asks first is not answered with what somebody else asked."""
    told = js.run(
        """
        const plain = open(Plain, url + "/plain/x");
        const asked = Array.from({ length: 50 }, (_, n) => plain.echo({ text: String(n) }));
        return (await Promise.all(asked)).every((reply, n) => reply.text === String(n));
        """,
        url=url,
    )
    assert told is True


def test_an_own_error_is_a_class_with_its_details(js: Engine, url: str) -> None:
    """`catch (e) { if (e instanceof SoldOut) e.left }`"""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        const error = await shop.buy({ count: 5 }).catch(error => error);
        const kinds = [SoldOut, ShopError, Error].map(kind => error instanceof kind);
        return [kinds, error.left, error.details, error.message, error.code];
        """,
        url=url,
    )
    assert told == [[True, True, True], 3, {"left": 3}, "3 left", "sold_out"]


def test_invalid_fields_reject_with_pydantics_errors(js: Engine, url: str) -> None:
    """`code` and `errors` are those of the frame."""
    told = js.run("return await failure(open(Shop, url + '/shop').buy({ count: 'x' }))", url=url)
    assert (told["name"], told["code"], told["errors"][0]["loc"]) == ("RequestError", "validation_error", ["count"])


def test_what_nobody_answers_resolves_when_it_was_sent(js: Engine, url: str) -> None:
    """What is wrong with it comes as an `error`, with its event."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        const resolved = await shop.note({ text: "noted" });
        const error = next(shop, "error");
        await shop.note({ text: 7 });
        const { code, event } = await error;
        return [resolved === undefined, code, event, (await shop.notes()).notes.includes("noted")];
        """,
        url=url,
    )
    assert told == [True, "validation_error", "note", True]


def test_an_error_that_nobody_listens_for_is_reported(js: Engine, url: str) -> None:
    """As an uncaught one would be; nothing ends."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        await shop.note({ text: 7 });
        await until(() => reported.length);
        return [reported, (await shop.buy({ count: 1 })).count];
        """,
        url=url,
    )
    assert told == [["validation_error"], 1]


def test_no_field_replaces_the_type_or_the_ref(js: Engine, url: str) -> None:
    """An object that is passed on may have such keys."""
    told = js.run(
        "return await open(Plain, url + '/plain/x').echo({ text: 'a', type: 'slow', ref: 'x' })",
        url=url,
    )
    assert (told["type"], told["text"], told["ref"]) == ("echo", "a", 1)


def test_a_key_that_is_proto_is_a_field_like_any_other(js: Engine, url: str) -> None:
    """It is sent, and changes no prototype: the server finds it to be one too many."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        return await failure(shop.buy(JSON.parse('{"count": 1, "__proto__": {"count": 9}}')));
        """,
        url=url,
    )
    assert [error["loc"] for error in told["errors"]] == [["__proto__"]]


def test_what_json_cannot_say_rejects(js: Engine, url: str) -> None:
    """And nothing was sent: neither BigInt nor circles."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), circle = {};
        circle.self = circle;
        return [(await failure(shop.buy({ count: 1n }))).name, (await failure(shop.buy(circle))).name];
        """,
        url=url,
    )
    assert told == ["TypeError", "TypeError"]


def test_a_signal_cancels_a_request(js: Engine, url: str) -> None:
    """The promise rejects with the signal's reason, and the handler is cancelled."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), control = new AbortController();
        const asked = failure(shop.wait({ name: "me" }, { signal: control.signal }));
        await shop.buy({ count: 1 });
        control.abort(new Error("enough"));
        const { message } = await asked;
        await until(async () => (await shop.notes()).notes.includes("cancelled me"));
        return [message, await failure(shop.buy({ count: 1 }, { signal: AbortSignal.abort(new Error("before")) }))];
        """,
        url=url,
    )
    assert [told[0], told[1]["message"]] == ["enough", "before"]


def test_a_signal_is_let_go_when_the_answer_is_there(js: Engine, url: str) -> None:
    """One that lives long has no listeners of requests that are over."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), listeners = new Set();
        const signal = {
          aborted: false,
          addEventListener: (type, listener) => listeners.add(listener),
          removeEventListener: (type, listener) => listeners.delete(listener),
        };
        const asked = shop.buy({ count: 1 }, { signal });
        const during = listeners.size;
        await asked;
        await failure(shop.buy({ count: 9 }, { signal }));
        await shop.note({ text: "x" }, { signal });
        return [during, listeners.size];
        """,
        url=url,
    )
    assert told == [1, 0]


def test_a_request_has_a_time_limit_of_its_own(js: Engine, url: str) -> None:
    """`no_answer` then; what comes later is for nobody, and no push."""
    told = js.run(
        """
        const plain = open(Plain, url + "/plain/x", { timeoutMs: 10 }), seen = [];
        for (const type of ["slow", "error"]) plain.on(type, message => seen.push(message));
        const error = await failure(plain.slow({ seconds: 0.05 }));
        await plain.echo({ text: "x" }, { timeoutMs: 10000 });
        return [error.code, seen];
        """,
        url=url,
    )
    assert told == ["no_answer", []]


def test_a_push_reaches_its_listeners(js: Engine, url: str) -> None:
    """In the order in which they were added, each as often as it was, until it is taken away; `once` once."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), seen = [];
        const first = message => seen.push("first " + message.text);
        const off = shop.on("notice", first);
        shop.on("notice", first);
        shop.once("notice", message => seen.push("once " + message.text));
        await shop.push({ text: "a" });
        await shop.notes();
        off();
        off();
        await shop.push({ text: "b" });
        await shop.notes();
        return seen;
        """,
        url=url,
    )
    assert told == ["first a", "first a", "once a", "first b"]


def test_a_listener_that_fails_ends_nothing(js: Engine, url: str) -> None:
    """Neither the other listeners nor the connection; it is reported, async ones too."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), seen = [];
        shop.on("notice", () => { throw new Error("mine") });
        shop.on("notice", async () => { throw new Error("later") });
        shop.on("notice", message => seen.push(message.text));
        await shop.push({ text: "a" });
        await until(() => reported.length === 2);
        return [seen, reported];
        """,
        url=url,
    )
    assert told == [["a"], ["Error: mine", "Error: later"]]


def test_a_stream_is_iterated_and_a_break_cancels_it(js: Engine, url: str) -> None:
    """The generator is closed, and nothing of it comes as a push."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), seen = [];
        shop.on("tick", () => seen.push("a push"));
        for await (const tick of shop.ticks({ count: 3 })) seen.push(tick.n);
        for await (const tick of shop.ticks({ count: 1e9 })) if (tick.n === 2) break; else seen.push(tick.n);
        await until(async () => (await shop.notes()).notes.includes("ended 1000000000"));
        return seen;
        """,
        url=url,
    )
    assert told == [0, 1, 2, 0, 1]


def test_an_error_in_a_stream_is_thrown_where_it_is_iterated(js: Engine, url: str) -> None:
    """Behind the items that came before it; then the stream is over."""
    told = js.run(
        """
        const stream = open(Shop, url + "/shop").fails();
        const item = await stream.next(), error = await stream.next().catch(error => error.code);
        return [item.value.n, error, await stream.next()];
        """,
        url=url,
    )
    assert told == [0, "sold_out", {"done": True}]


def test_a_stream_begins_when_it_is_iterated(js: Engine, url: str) -> None:
    """One that nobody iterates costs the server nothing; one that was returned before gives nothing."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        const idle = shop.ticks({ count: 424242 }), stream = shop.ticks({ count: 2 });
        await idle.return();
        const all = await Promise.all([stream.next(), stream.next(), stream.next()]);
        return [all.map(each => each.done), await idle.next(), (await shop.notes()).notes.includes("ended 424242")];
        """,
        url=url,
    )
    assert told == [[False, False, True], {"done": True}, False]


def test_a_signal_ends_a_stream(js: Engine, url: str) -> None:
    """With its reason, and the generator is closed."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), control = new AbortController();
        let error;
        try {
          const stream = shop.ticks({ count: 7e8 }, { signal: control.signal });
          for await (const tick of stream) control.abort(new Error("enough"));
        } catch (caught) {
          error = caught.message;
        }
        await until(async () => (await shop.notes()).notes.includes("ended 700000000"));
        return error;
        """,
        url=url,
    )
    assert told == "enough"


ROWS = """
const log = [];
async function* rows(count) {
  try {
    for (let n = 1; n <= count; n++) { log.push(n); yield { n }; }
  } finally {
    log.push("closed");
  }
}
"""


def test_an_upload_is_fed_as_fast_as_it_is_taken(js: Engine, url: str) -> None:
    """More than the first credit, from what is async and what is not."""
    told = js.run(
        ROWS
        + """
        const shop = open(Shop, url + "/shop");
        const many = await shop.sum({ most: 1000 }, rows(100)), few = await shop.sum({ most: 9 }, [{ n: 1 }, { n: 2 }]);
        return [many.total, few.total, log.at(-1)];
        """,
        url=url,
    )
    assert told == [5050, 3, "closed"]


def test_an_answer_ends_an_upload(js: Engine, url: str) -> None:
    """Its source is closed, having been asked for no more than was allowed."""
    told = js.run(
        ROWS
        + """
        const { total } = await open(Shop, url + "/shop").sum({ most: 3 }, rows(1e6));
        await until(() => log.at(-1) === "closed");
        return [total, log.length < 100];
        """,
        url=url,
    )
    assert told == [6, True]


def test_a_source_that_fails_cancels_its_upload(js: Engine, url: str) -> None:
    """The promise rejects with what it threw, and the handler is cancelled."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        async function* broken() { yield { n: 1 }; await shop.notes(); throw new Error("no such file") }
        const { message } = await failure(shop.sum({ most: 100 }, broken()));
        await until(async () => (await shop.notes()).notes.some(text => text.startsWith("cancelled after")));
        return message;
        """,
        url=url,
    )
    assert told == "no such file"


def test_an_item_that_is_not_valid_is_the_answer(js: Engine, url: str) -> None:
    """At its place, and the source is closed."""
    told = js.run(
        ROWS
        + """
        async function* mixed() { yield* rows(2); yield { n: "x" }; yield* rows(1e6) }
        const error = await failure(open(Shop, url + "/shop").sum({ most: 1e9 }, mixed()));
        return [error.code, error.errors[0].loc];
        """,
        url=url,
    )
    assert told == ["validation_error", ["item", "n"]]


def test_a_stream_may_be_fed(js: Engine, url: str) -> None:
    """Item by item; a break ends both sides."""
    told = js.run(
        ROWS
        + """
        const shop = open(Shop, url + "/shop"), seen = [];
        for await (const tick of shop.double({}, rows(3))) seen.push(tick.n);
        for await (const tick of shop.double({}, rows(1e9))) if (tick.n === 8) break; else seen.push(tick.n);
        await until(() => log.filter(each => each === "closed").length === 2);
        return seen;
        """,
        url=url,
    )
    assert told == [2, 4, 6, 2, 4, 6]


def test_the_server_asks(js: Engine, url: str) -> None:
    """What a handler returns is the answer; what it throws refuses it, as does having none."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        const codes = [(await failure(shop.ask({ question: "?" }))).code];
        const off = shop.handle("confirm", async ({ question }) => question === "sure?");
        const heard = [await shop.ask({ question: "sure?" }), await shop.ask({ question: "no?" })];
        off();
        shop.handle("confirm", () => { throw new RequestError("declined", "not now") });
        codes.push((await failure(shop.ask({ question: "?" }))).code);
        shop.handle("confirm", () => { throw new Error("a bug") });
        codes.push((await failure(shop.ask({ question: "?" }))).code);
        return [codes, heard.map(each => each.answer), reported];
        """,
        url=url,
    )
    assert told == [["call_refused"] * 3, [True, False], ["Error: a bug"]]


def test_a_server_that_waits_no_more_aborts_the_signal(js: Engine, url: str) -> None:
    """Of the handler that still thinks about its answer, which is not sent then."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        const aborted = new Promise(resolve => shop.handle("confirm", (question, { signal }) =>
          new Promise(answer => signal.addEventListener("abort", () => (answer(true), resolve(signal.reason.code))))));
        const error = await failure(shop.ask({ question: "?", timeout_s: 0.05 }));
        return [error.code, await aborted];
        """,
        url=url,
    )
    assert told == ["call_timeout", "cancelled"]


def test_the_handshake_has_path_query_token_and_subprotocol(js: Engine, url: str) -> None:
    """Each escaped as its place asks for; what is null or undefined is left out."""
    told: Any = js.run(
        """
        const plain = open(Plain, url.replace("ws:", "http:") + Plain.path + "?a=1#b", {
          path: { name: "ä ?b" },
          query: () => ({ lang: "d&e", none: undefined, list: [1, 2] }),
          token: async () => "t=1",
        });
        return await plain.echo({ text: "x" });
        """,
        url=url,
    )
    assert told["url"].endswith("/plain/ä %3Fb?a=1&token=t%3D1&lang=d%26e&list=1&list=2")
    assert told["protocol"] == "plain.v1"


def test_what_no_connection_can_be_made_of_is_thrown_at_once(js: Engine, url: str) -> None:
    """A parameter of the path that is missing, an address that is none, no WebSocket."""
    told = js.run(
        """
        const thrown = make => { try { make(); return "nothing" } catch (error) { return error.message } };
        const none = { WebSocket: undefined };
        const here = globalThis.WebSocket;
        globalThis.WebSocket = undefined;
        const told = [
          thrown(() => new Plain(url + Plain.path, { WebSocket })),
          thrown(() => new Plain("no address", { WebSocket })) === "nothing",
          thrown(() => new Plain(url, none)),
        ];
        globalThis.WebSocket = here;
        return told;
        """,
        url=url,
    )
    assert told[0].startswith("the option path has nothing for {name} in ws://127.0.0.1:")
    assert told[1:] == [False, "there is no global WebSocket: pass one as the option WebSocket"]
