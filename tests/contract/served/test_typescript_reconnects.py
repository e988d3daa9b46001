"""What the TypeScript client does when its connection is lost, or cannot be made, and what is left when it ends."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.contract.served.conftest import command
from tests.contract.served.javascript import Engine
from tests.serving import free_port, serving

ENDS = [1000, 1003, 1007, 1008, 1009, 4000, 4401, 4403, 4999]
GOES_ON = [1001, 1011, 1012, 1013, 3000, 4408, 4429]


class Restarting:
    """A server that is stopped and started again, on one port."""

    def __init__(self) -> None:
        self._port = free_port()
        self._stack = contextlib.ExitStack()
        self.url = f"ws://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._stack.enter_context(serving(*command(self._port), port=self._port))

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Restarting]:
    server = Restarting()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_which_close_codes_are_the_end(js: Engine, url: str) -> None:
    """The client gives up where to come back would change nothing, and comes back from everything else."""
    told = js.run(
        """
        return await Promise.all(codes.map(async code => {
          const shop = open(Shop, url + "/shop");
          await shop.leave({ code, reason: "because" });
          await until(() => shop.state === "closed" || shop.states.filter(each => each.state === "open").length === 2);
          const lost = shop.states.find(each => each.code !== undefined);
          return [shop.state, lost.code, lost.reason];
        }));
        """,
        url=url,
        codes=ENDS + GOES_ON,
    )
    assert told == [["closed", code, "because"] for code in ENDS] + [["open", code, "because"] for code in GOES_ON]


def test_an_application_says_what_the_end_is(js: Engine, url: str) -> None:
    """A sign-in that has expired is none where the token is asked for anew."""
    told = js.run(
        """
        let tokens = 0;
        const chat = open(Chat, url + "/chat", {
          token: () => (tokens++ ? "ada" : "bad"),
          endsAt: code => code !== 4401 && endsAt(code),
        });
        return [(await chat.who({}, { retry: true })).name, chat.states.map(each => [each.state, each.code ?? null])];
        """,
        url=url,
    )
    assert told == [
        "ada",
        [["connecting", None], ["open", None], ["waiting", 4401], ["connecting", 4401], ["open", None]],
    ]


def test_what_is_asked_in_vain_rejects_at_once(js: Engine, url: str) -> None:
    """A request, a stream and whoever answers the server, when the connection is lost; none is sent again."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), stream = shop.ticks({ count: 1e9 });
        const aborted = new Promise(resolve => shop.handle("confirm", (question, { signal }) =>
          new Promise(() => signal.addEventListener("abort", () => resolve(signal.reason.code)))));
        await stream.next();
        const asked = [shop.wait({ name: "lost" }), shop.ask({ question: "?" })].map(failure);
        await shop.notes();
        await shop.leave({ code: 1012 });
        const ended = (async () => { for await (const tick of stream); })();
        const errors = await Promise.all([...asked, failure(ended)]);
        return [errors.map(each => each.code), await Promise.race([aborted, "nobody asked"])];
        """,
        url=url,
    )
    assert told[0] == ["connection_lost"] * 3
    assert told[1] == "connection_lost"


def test_a_request_is_sent_again_where_it_may_be(engines: Callable[[str], Engine], server: Restarting) -> None:
    """`retry: true`, over a restart of the server."""
    js = engines("ws")
    js.run(
        """
        const chat = open(Chat, url + "/chat"), shop = world.shop = open(Shop, url + "/shop");
        const { pid } = await chat.who();
        world.asked = shop.retire({ pid }, { retry: true }).then(answer => answer.pid !== pid);
        await shop.notes({}, { timeoutMs: 1 }).catch(() => {});
        """,
        url=server.url,
    )
    server.stop()
    js.run("await until(() => world.shop.state === 'waiting')")
    server.start()
    assert js.run("return await world.asked") is True
    js.run("for (const key of Object.keys(world)) delete world[key]")


def test_who_is_away_is_tried_again_and_again(js: Engine, url: str) -> None:
    """Each attempt fails once, whichever events tell of it, until there is a server."""
    told = js.run(
        """
        let address = "ws://127.0.0.1:1/";
        class Moving { constructor(...rest) { return new WebSocket(address, ...rest.slice(1)) } }
        const chat = open(Chat, address, { WebSocket: Moving });
        await until(() => chat.status.attempt === 3);
        const states = chat.states.map(each => [each.state, each.attempt, each.error === undefined]);
        address = url + "/chat";
        return [states, (await chat.who()).name];
        """,
        url=url,
    )
    between = [each for n in (1, 2) for each in (["waiting", n, False], ["connecting", n, False])]
    assert told == [[["connecting", 0, True], *between, ["waiting", 3, False]], "guest"]


def test_an_attempt_fails_once_however_it_is_told(node: Engine) -> None:
    """By an error alone, as undici 6 tells it, a close alone, or both, in any order; what comes late is ignored."""
    told = node.run(
        """
        const sockets = [];
        class Refused {
          readyState = 3;
          constructor() {
            sockets.push(this);
            setImmediate(() => events.forEach(each => this["on" + each]({ code: 1006 })));
          }
          close() {}
        }
        const attempts = [];
        for (const each of told) {
          events = each;
          const chat = open(Chat, "ws://127.0.0.1/", { WebSocket: Refused, minDelayMs: 1e6, maxDelayMs: 1e6 });
          await until(() => chat.state === "waiting");
          await new Promise(setImmediate);
          sockets.at(-1).onopen();
          sockets.at(-1).onclose({ code: 1000 });
          attempts.push([chat.status.attempt, chat.state]);
        }
        return [attempts, sockets.length];
        """,
        told=[["error"], ["close"], ["error", "close"], ["close", "error"]],
        events=[],
    )
    assert told == [[[1, "waiting"]] * 4, 4]


def test_delays_double_up_to_a_bound_and_have_a_random_part(js: Engine) -> None:
    """Between half and the whole of what an attempt may wait."""
    told = js.run(
        """
        const chat = open(Chat, "ws://127.0.0.1:1/", { minDelayMs: 2, maxDelayMs: 12 });
        await until(() => chat.status.attempt === 6);
        return chat.states.filter(each => each.state === "waiting").map(each => each.delayMs);
        """
    )
    assert all(most / 2 <= delay <= most for delay, most in zip(told, (2, 4, 8, 12, 12, 12), strict=True))


def test_a_connection_that_is_lost_at_once_again_and_again_waits_longer(node: Engine) -> None:
    """An open connection alone ends no row of failures: a server that accepts and closes is not stormed."""
    told = node.run(
        """
        const address = await serve(socket => socket.close(1013));
        const chat = open(Chat, address);
        await until(() => chat.status.attempt === 4);
        return chat.states.filter(each => each.state === "waiting").map(each => each.attempt);
        """
    )
    assert told == [1, 2, 3, 4]


def test_a_server_that_does_not_answer_the_handshake_is_given_up(js: Engine) -> None:
    """After `connectTimeoutMs`, as an attempt that failed."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = js.run(
            """
            const chat = open(Chat, url, { connectTimeoutMs: 30 });
            await until(() => chat.status.attempt === 2);
            return chat.states.filter(each => each.state === "waiting").map(each => each.error.code);
            """,
            url=f"ws://127.0.0.1:{mute.getsockname()[1]}",
        )
    assert told == ["no_answer"] * 2


def test_a_token_is_asked_for_before_each_attempt(js: Engine, url: str) -> None:
    """One that cannot be had fails the attempt and not the client, whether it throws or rejects."""
    told = js.run(
        """
        let asked = 0;
        const token = () => {
          if (++asked === 1) throw new Error("offline");
          return asked === 2 ? Promise.reject(new Error("still offline")) : "user" + asked;
        };
        const chat = open(Chat, url + "/chat", { token });
        const names = [(await chat.who()).name];
        await chat.drop({}).catch(() => {});
        names.push((await chat.who()).name);
        return [names, chat.states.filter(each => each.error).map(each => each.error.message)];
        """,
        url=url,
    )
    assert told == [["user3", "user4"], ["offline", "offline", "still offline", "still offline"]]


def test_what_waits_is_sent_behind_what_on_open_asks(js: Engine, url: str) -> None:
    """In the order in which it was asked, on the first connection and on later ones."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), name = "order" + Math.random(), order = [];
        const note = text => shop.note({ text: name + text });
        shop.onOpen(async ({ reconnected }) => {
          await shop.notes();
          await note(reconnected ? " again" : " first");
        });
        note(" one");
        await note(" two");
        await shop.leave({ code: 1012 });
        await until(() => shop.state === "waiting");
        note(" three");
        await note(" four");
        return (await shop.notes()).notes.filter(text => text.startsWith(name)).map(text => text.split(" ")[1]);
        """,
        url=url,
    )
    assert told == ["first", "one", "two", "again", "three", "four"]


def test_who_is_told_of_connections_late_is_told_of_the_present_one(js: Engine, url: str) -> None:
    """`onOpen` of a client that is open already calls at once, and again only after it was lost."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop"), seen = [];
        await shop.notes();
        const off = shop.onOpen(opening => seen.push(opening.reconnected));
        await shop.leave({ code: 1012 });
        await until(() => seen.length === 2);
        off();
        await shop.leave({ code: 1012 });
        await until(() => shop.states.filter(each => each.state === "open").length === 3);
        return seen;
        """,
        url=url,
    )
    assert told == [False, True]


def test_an_on_open_that_fails_does_not_keep_the_others_waiting(js: Engine, url: str) -> None:
    """It is reported."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        shop.onOpen(async () => { await shop.buy({ count: 9 }) });
        return [(await shop.buy({ count: 1 })).count, reported];
        """,
        url=url,
    )
    assert told == [1, ["sold_out"]]


def test_so_many_messages_wait_and_no_more(js: Engine) -> None:
    """Beyond `maxQueued` they are refused, and it is the new ones that are."""
    told = js.run(
        """
        const shop = open(Shop, "ws://127.0.0.1:1/", { maxQueued: 2 });
        const asked = [1, 2, 3].map(count => failure(shop.buy({ count })));
        const refused = await asked[2];
        shop.close();
        return [refused.code, (await Promise.all(asked.slice(0, 2))).map(each => each.code)];
        """
    )
    assert told == ["queue_full", ["closed", "closed"]]


def test_what_was_given_up_while_it_waited_is_never_sent(node: Engine) -> None:
    """By its time limit or its signal: the server does not do what nobody wants any more."""
    told = node.run(
        """
        let heard, answer;
        const address = await serve((socket, said) => { heard = said; answer = socket });
        const control = new AbortController();
        let letIn;
        const shop = open(Shop, address, { token: () => new Promise(resolve => (letIn = resolve)) });
        const asked = [
          failure(shop.buy({ count: 1 }, { timeoutMs: 5 })),
          failure(shop.buy({ count: 2 }, { signal: control.signal })),
          failure(shop.buy({ count: 3 })),
        ];
        control.abort();
        await asked[0];
        letIn("me");
        await until(() => heard && heard.length);
        answer.say({ type: "bought", count: 3, ref: heard[0].ref });
        return [(await Promise.all(asked)).map(each => each.code ?? each.name), heard.map(each => each.count)];
        """
    )
    assert told[0][0] == "no_answer"
    assert told[1] == [3]


def test_a_limited_request_is_sent_again_when_it_may_be(js: Engine, url: str) -> None:
    """`retry: true` waits for `retry_after_s`; without it the error says how long that is."""
    told = js.run(
        """
        const shop = open(Shop, url + "/shop");
        await shop.limited();
        const error = await shop.limited().catch(error => error);
        const { type } = await shop.limited({}, { retry: true });
        return [error.code, error.retryAfterMs > 0, error.retryAfterMs <= 200, type];
        """,
        url=url,
    )
    assert told == ["rate_limited", True, True, "limited"]


def test_who_said_too_much_comes_back_when_it_may_speak(node: Engine) -> None:
    """Not before `retry_after_s`, behind a close with 4429."""
    told = node.run(
        """
        const address = await serve(socket => {
          socket.say({ type: "error", code: "rate_limited", errors: [], retry_after_s: 60 });
          socket.close(4429);
        });
        const shop = open(Shop, address);
        shop.on("error", () => {});
        await until(() => shop.state === "waiting");
        return shop.status.delayMs;
        """
    )
    assert 59_000 < told <= 60_000


def test_a_server_that_says_nothing_is_asked_and_then_left(node: Engine) -> None:
    """A connection that is dead for the network alone is found by its silence; the next one begins anew."""
    told = node.run(
        """
        const heard = [];
        const address = await serve((socket, said) => heard.push(said));
        const shop = open(Shop, address, { heartbeatMs: 20 });
        await until(() => heard.length === 2);
        const lost = shop.states.find(each => each.state === "waiting");
        return [heard[0], lost.code, lost.error.code];
        """
    )
    assert told == [[{"ref": 0}], 1006, "no_answer"]


def test_a_server_of_this_package_answers_when_it_is_asked(node: Engine, url: str) -> None:
    """A quiet connection stays, as does one whose only handler is slow; nobody hears of the question."""
    told = node.run(
        """
        let questions = 0;
        class Counting extends WebSocket { send(text) { questions += text === '{"ref":0}'; super.send(text) } }
        const plain = open(Plain, url + "/plain/x", { heartbeatMs: 10, WebSocket: Counting }), seen = [];
        plain.on("error", error => seen.push(error.code));
        await plain.slow({ seconds: 0.15 });
        const during = questions;
        await until(() => questions > during + 2);
        await plain.echo({ text: "x" });
        return [plain.states.map(each => each.state), seen, during > 0];
        """,
        url=url,
    )
    assert told == [["connecting", "open"], [], True]


# ---- pages, and machines that sleep: what the engines here do not have is put in their place

PAGE = """
const listeners = [];
const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
for (const target of [page, globalThis]) {
  target.addEventListener = (type, listener) => listeners.push([target, type, listener]);
  target.removeEventListener = (type, listener) =>
    listeners.splice(listeners.findIndex(each => each[1] === type && each[2] === listener), 1);
}
const happens = wanted => { for (const [, type, listener] of [...listeners]) if (type === wanted) listener() };
globalThis.document = page;
try { %s } finally {
  delete globalThis.document;
  delete globalThis.addEventListener;
  delete globalThis.removeEventListener;
}
"""


@pytest.mark.parametrize("event", ["online", "pageshow", "visibilitychange"])
def test_a_page_that_is_back_does_not_wait(node: Engine, url: str, event: str) -> None:
    """Whatever the delay was; a page that is hidden waits on."""
    told = node.run(
        PAGE
        % """
        const chat = open(Chat, url + "/chat", { minDelayMs: 1e6, maxDelayMs: 1e6 });
        await chat.who();
        await chat.drop({}).catch(() => {});
        await until(() => chat.state === "waiting");
        page.visibilityState = "hidden";
        happens(event);
        const hidden = chat.state;
        page.visibilityState = "visible";
        happens(event);
        await until(() => chat.state === "open");
        return hidden;
        """,
        url=url,
        event=event,
    )
    assert told == "waiting"


def test_a_page_that_is_back_asks_whether_the_server_is_there(node: Engine) -> None:
    """At once, since nobody told it how long it was away."""
    told = node.run(
        PAGE
        % """
        let heard;
        const address = await serve((socket, said) => (heard = said));
        const chat = open(Chat, address);
        await until(() => chat.state === "open");
        happens("pageshow");
        await until(() => heard.length);
        return heard;
        """
    )
    assert told == [{"ref": 0}]


def test_a_client_that_was_closed_stays_closed(node: Engine) -> None:
    """Whatever happens to its page, while it waited, connected, or was open; its listeners are gone, however often it
    had come back."""
    told = node.run(
        PAGE
        % """
        let connections = 0;
        const address = await serve(socket => ++connections < 10 && socket.close(1012));
        const back = open(Chat, address, { minDelayMs: 1, maxDelayMs: 1 });
        await until(() => connections === 10 && back.state === "open");
        const during = listeners.length;
        const waiting = open(Chat, "ws://127.0.0.1:1/");
        await until(() => waiting.state === "waiting");
        const all = [back, waiting, open(Chat, address)], handlers = [...listeners];
        for (const chat of all) chat.close();
        const left = listeners.length;
        for (const [, , listener] of handlers) listener();
        await new Promise(setImmediate);
        return [during, left, all.map(chat => chat.states.at(-1).state)];
        """
    )
    assert told == [3, 0, ["closed"] * 3]


def test_the_time_of_a_sleeping_machine_counts(node: Engine) -> None:
    """Timers stand still meanwhile: what is left is told by the clock, a second after it wakes."""
    told = node.run(
        """
        const { setTimeout: wait } = globalThis, { now } = Date;
        let slept = 0, ticks = 0;
        globalThis.setTimeout = (run, ms) => wait(() => { ticks++; run() }, ms / 1000);
        Date.now = () => now() + slept;
        try {
          const chat = open(Chat, "ws://127.0.0.1:1/", { minDelayMs: 600000, maxDelayMs: 600000 });
          await until(() => chat.state === "waiting");
          const from = ticks;
          slept = 3600 * 1000;
          await until(() => chat.status.attempt === 2);
          return ticks - from;
        } finally {
          globalThis.setTimeout = wait;
          Date.now = now;
        }
        """
    )
    assert told < 100


def test_a_clock_that_is_set_back_holds_nothing_up(node: Engine) -> None:
    """Nobody waits for the time to be what it was."""
    told = node.run(
        """
        const { setTimeout: wait } = globalThis, { now } = Date;
        let behind = 0;
        globalThis.setTimeout = (run, ms) => wait(run, ms / 1000);
        Date.now = () => now() - behind;
        try {
          const chat = open(Chat, "ws://127.0.0.1:1/", { minDelayMs: 20000, maxDelayMs: 20000 });
          await until(() => chat.state === "waiting");
          behind = 3600 * 1000;
          await until(() => chat.status.attempt === 2);
          return chat.status.attempt;
        } finally {
          globalThis.setTimeout = wait;
          Date.now = now;
        }
        """
    )
    assert told == 2


# ---- the end


def test_nothing_is_left_behind_a_close(node: Engine, url: str) -> None:
    """Who waits gets `closed` at once, `closed` is the last state, later requests are refused, no timer runs on."""
    told = node.run(
        """
        const timers = () => (process.getActiveResourcesInfo?.() ?? []).filter(each => each === "Timeout").length;
        const before = timers();
        const shop = open(Shop, url + "/shop", { timeoutMs: 60000 }), seen = [];
        shop.on("notice", () => seen.push("a push"));
        await shop.notes();
        const stream = shop.ticks({ count: 1e9 });
        await stream.next();
        const ended = (async () => { for await (const tick of stream); })();
        const asked = [shop.wait({ name: "closing" }), ended].map(failure);
        shop.push({ text: "late" });
        shop.close();
        shop.close();
        const codes = (await Promise.all([...asked, failure(shop.notes())])).map(each => each.code);
        await until(() => timers() <= before);
        return [codes, seen, shop.states.map(each => each.state)];
        """,
        url=url,
    )
    assert told == [["closed"] * 3, [], ["connecting", "open", "closed"]]


def test_the_server_sees_the_code_of_a_close(node: Engine) -> None:
    """And its reason."""
    told = node.run(
        """
        let told;
        const address = await serve(socket => socket.on("close", (code, reason) => (told = [code, String(reason)])));
        const chat = open(Chat, address);
        await until(() => chat.state === "open");
        chat.close(4000, "bye");
        return await until(() => told);
        """
    )
    assert told == [4000, "bye"]


def test_a_listener_may_close_the_client(js: Engine, url: str) -> None:
    """In a push, in a state, in `onOpen`: it is the last that it hears."""
    told = js.run(
        """
        const [one, two, three] = [open(Shop, url + "/shop"), open(Shop, url + "/shop"), open(Shop, url + "/shop")];
        one.on("notice", () => one.close());
        two.onState(() => two.close());
        three.onOpen(() => three.close());
        const asked = [one.push({ text: "a" }), two.notes(), three.notes()].map(failure);
        await until(() => [one, two, three].every(each => each.state === "closed"));
        return (await Promise.all(asked)).map(each => each.code ?? "sent");
        """,
        url=url,
    )
    assert told == ["sent", "closed", "closed"]
