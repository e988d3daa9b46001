"""The page in a real Chromium, against a real server: one of each for all tests, a tab for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.browsing import chromium, command, complaints, in_a_browser, run_script, tab, wait_for
from tests.contract.apis import APIS
from tests.serving import free_port, serving

pytestmark = in_a_browser

HELPERS = """
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const isSeen = (element) => element.checkVisibility();
const composer = () => document.querySelector(".composer");
const press = (text, root = document) => all("button", root).find((b) => b.textContent === text && isSeen(b)).click();
const label = (text, root = composer()) => all("label.key", root).find((l) => l.textContent === text);
const field = (text, root = composer()) => document.getElementById(label(text, root).htmlFor);
const change = (control, value) => {
  if (control.type === "checkbox") control.checked = value; else control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
};
const fill = (text, value) => change(field(text), value);
const include = (text) => change(composer().querySelector(`[aria-label="include ${text}"]`), true);
const choose = (event) => change(composer().querySelector("select"), event);
const editor = () => composer().querySelector(".json textarea");
const written = () => JSON.parse(editor().value);
const entries = () => all(".entry").map((row) => row.querySelector("b")?.textContent ?? "-").join();
const state = () => document.querySelector(".state").textContent;
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of a browser and of the application."""
    port = free_port()
    with (
        serving("-m", "tests.contract.served.playing", str(port), port=port),
        chromium(tmp_path_factory.mktemp("chromium")) as debugger,
    ):
        yield debugger, port


@contextmanager
def opened(places: tuple[int, int], address: str = "docs/ws/") -> Iterator[ClientConnection]:
    """The page in a tab of its own, once it shows the document; nothing may be wrong with it in the end."""
    debugger, port = places
    with tab(debugger, f"http://127.0.0.1:{port}/{address}") as page:
        resize(page, 1400)
        wait_for(page, "document.querySelector('#page:not([aria-busy])') !== null", True)
        run_script(page, HELPERS)
        yield page
        assert complaints(page) == []


def resize(page: ClientConnection, width: int) -> None:
    command(page, "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


def said(page: ClientConnection, script: str) -> Any:
    """What a script gives, which may not raise."""
    answer = command(page, "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")


def test_a_message_is_sent_by_form_and_its_reply_is_shown(places: tuple[int, int]) -> None:
    """Connect, fill in, send: the request and its reply are in the log, with the same ref."""
    with opened(places) as page:
        said(page, "press('Connect')")
        wait_for(page, "state()", "open")
        said(page, "choose('enter'); fill('room', 'lobby'); press('Send')")
        wait_for(page, "entries()", "-,enter,enter")
        assert said(page, "all('.entry .ref').map((r) => r.textContent)") == ["ref 1", "ref 1"]
        assert said(page, "all('.entry .preview').at(-1).textContent") == '{"room":"lobby"}'
        assert "ms" in said(page, "all('.entry .note').at(-1).textContent")
        said(page, "press('Disconnect')")
        wait_for(page, "state()", "closed")


def test_a_validation_error_is_shown_at_its_field(places: tuple[int, int]) -> None:
    """The field is marked, described by what is wrong, and has the focus; typing into it ends that."""
    with opened(places) as page:
        said(page, "choose('order'); press('Add', composer())")
        said(page, "fill('symbol', 'X'); fill('count', '-1'); fill('number', '12'); press('Connect and send')")
        wait_for(page, "all('[aria-invalid]').map((c) => c.value).join()", "-1,12")
        assert said(page, "document.activeElement === field('count')") is True
        described = said(page, "document.getElementById(field('number').getAttribute('aria-describedby')).textContent")
        assert described.startswith("String should match pattern")
        said(page, "fill('count', '2'); fill('number', '1234'); press('Send')")
        wait_for(page, "entries().endsWith('order,order')", True)
        assert said(page, "all('[aria-invalid]').length") == 0


def test_a_push_from_a_second_tab_is_shown_as_text(places: tuple[int, int]) -> None:
    """Markup in it stays what it is."""
    markup = "<img src=x onerror=alert(1)><b>hi</b>"
    with opened(places) as page, opened(places) as other:
        for each in (page, other):
            said(each, "choose('enter'); fill('room', 'tabs'); press('Connect and send')")
            wait_for(each, "entries()", "-,enter,enter")
        said(other, f"choose('say'); fill('msg', {json.dumps(markup)}); press('Send')")
        wait_for(page, "entries()", "-,enter,enter,said")
        said(page, "all('.entry').at(-1).querySelector('details').open = true")
        wait_for(page, f"all('.entry pre').at(-1)?.textContent.includes({json.dumps(json.dumps(markup))})", True)
        assert said(page, "all('.entry img, .entry pre b').length") == 0


def test_a_stream_is_counted_and_cancelled(places: tuple[int, int]) -> None:
    """Its items are counted while they come; a cancel ends it with `complete`."""
    with opened(places) as page:
        said(page, "choose('count'); include('to'); fill('to', '1000000'); include('pace_s'); fill('pace_s', '0.01')")
        said(page, "press('Connect and send')")
        wait_for(page, "/^[0-9]+ items received/.test(document.querySelector('.requests .count')?.textContent)", True)
        said(page, "press('Cancel')")
        wait_for(page, "document.querySelectorAll('.requests li').length", 0)
        wait_for(page, "entries().endsWith('complete')", True)


def test_a_call_of_the_server_is_answered_by_form(places: tuple[int, int]) -> None:
    """Its question is shown as text; the answer goes back under its ref."""
    with opened(places) as page:
        said(page, "choose('confirm'); fill('question', '<b>sure?</b>'); press('Connect and send')")
        wait_for(page, "document.querySelector('.question h3')?.textContent", "The server asks ask")
        assert "<b>sure?</b>" in said(page, "document.querySelector('.question pre').textContent")
        said(page, "change(document.querySelector('.question [role=switch]'), true); press('Answer')")
        wait_for(page, "entries()", "-,confirm,ask,reply,confirm")
        assert said(page, "all('.entry .preview').at(-1).textContent") == '{"sure":true}'
        assert said(page, "all('.question').length") == 0


FRAMES: dict[str, Any] = {
    "nested": {"event": "enter", "payload": {"room": "lobby"}},
    "array": ["enter", None, {"room": "lobby"}],
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_page_speaks_the_envelope_of_its_endpoint(places: tuple[int, int], name: str) -> None:
    """The editor has whole frames; errors find their fields, and answers, items and calls their requests."""
    with opened(places, f"docs/{name}/") as page:
        said(page, "choose('enter'); fill('room', 'lobby')")
        assert said(page, "written()") == FRAMES[name]
        said(page, "press('Connect and send')")
        wait_for(page, "entries()", "-,enter,enter")
        assert said(page, "all('.entry .ref').map((r) => r.textContent)") == ["ref 1", "ref 1"]
        assert said(page, "all('.entry .preview').at(-1).textContent") == '{"room":"lobby"}'
        said(page, "fill('room', 'a name that is too long'); press('Send')")
        wait_for(page, "all('[aria-invalid]').map((c) => c.value).join()", "a name that is too long")
        said(page, "choose('count'); include('to'); fill('to', '2'); press('Send')")
        wait_for(page, "entries().endsWith('count,tick,tick,complete')", True)
        said(page, "choose('confirm'); fill('question', 'sure?'); press('Send')")
        wait_for(page, "document.querySelector('.question h3')?.textContent", "The server asks ask")
        said(page, "change(document.querySelector('.question [role=switch]'), true); press('Answer')")
        wait_for(page, "all('.entry .preview').at(-1).textContent", '{"sure":true}')


SAMPLES = {
    "nested": {"event": "enter", "ref": 1, "payload": {"room": "string"}},
    "array": ["enter", 1, {"room": "string"}],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_reference_shows_frames_in_their_envelope(places: tuple[int, int], name: str) -> None:
    """Its samples are what can be sent."""
    with opened(places, f"docs/{name}/") as page:
        said(page, "all('details').forEach((card) => (card.open = true))")
        wait_for(page, "all('pre').some((sample) => sample.textContent.includes('enter'))", True)
        shown = said(page, "all('pre').map((sample) => sample.textContent)")
        assert SAMPLES[name] in [json.loads(text) for text in shown if text.startswith(("{", "["))]


def test_a_reference_tells_of_binary_frames(places: tuple[int, int]) -> None:
    """A card for each side: what they are for, who may send them, which errors answer; no form and no sample."""
    with opened(places, "shop/") as page:
        said(page, "all('details').forEach((card) => (card.open = true))")
        cards = "all('.card.binary').map((card) => card.querySelector('.name').textContent)"
        wait_for(page, f"{cards}.join()", "receive photo,send binary")
        told = "all('.card.binary').map((card) => card.querySelector('.inside').textContent)"
        wait_for(page, f"{told}.every((text) => text)", True)
        clients, server = said(page, told)
        assert all(each in clients for each in ("orders", "A JPEG.", "Sent by clients", "shop:sell", "blurred"))
        assert server == "Sent by the server, as they are."


def test_form_and_json_are_one_message(places: tuple[int, int]) -> None:
    """A change of one is a change of the other, also of what the form has no field for."""
    with opened(places) as page:
        said(page, "choose('order'); press('Example', composer()); change(all('.chooser')[0], 1); fill('iban', 'DE1')")
        assert said(page, "written()")["payment"] == {"kind": "transfer", "iban": "DE1"}
        message = {
            "type": "order",
            "lines": [{"symbol": "A", "count": 1}, {"symbol": "B", "count": "many"}],
            "payment": {"kind": "card", "number": "1234"},
            "side": "sell",
            "tags": {"__proto__": 1},
            "more": {"a": [1]},
        }
        said(page, f"change(editor(), {json.dumps(json.dumps(message))})")
        assert said(page, "field('side').selectedOptions[0].textContent") == "sell"
        assert said(page, "field('number').value") == "1234"
        assert said(page, "label('more') !== undefined") is True
        said(page, "change(field('number'), '12345')")
        message["payment"] = {"kind": "card", "number": "12345"}
        assert json.loads(said(page, "editor().value")) == message


def test_large_integers_keep_their_digits(places: tuple[int, int]) -> None:
    """JavaScript's numbers end at 2^53; what is sent and shown does not."""
    with opened(places) as page:
        said(
            page,
            "choose('grow'); fill('value', '[9007199254740993]'); include('big'); fill('big', '18446744073709551616')",
        )
        said(page, "press('Connect and send')")
        wait_for(page, "entries()", "-,grow,grow")
        told = said(page, "all('.entry .preview').at(-1).textContent")
        assert told == '{"tree":{"value":[9007199254740993],"children":[]},"big":18446744073709551616}'


def test_what_a_docstring_says_is_text(places: tuple[int, int]) -> None:
    """Titles, descriptions and names with markup in them make no elements."""
    with opened(places) as page:
        said(page, "all('details.card').forEach((card) => { card.open = true; })")
        wait_for(page, "all('.brief').some((p) => p.textContent === '<script>alert(1)</script> <img src=x>')", True)
        assert said(page, "all('main script, main img, h1 i').length") == 0


def test_a_link_opens_its_card(places: tuple[int, int]) -> None:
    """And leads to it."""
    with opened(places, "docs/ws/#play/event/order") as page:
        wait_for(page, "document.activeElement.parentElement.id", "play/event/order")
        assert said(page, "document.getElementById('play/event/order').open") is True


@pytest.mark.parametrize("view", ["Reference", "Playground"])
def test_a_narrow_screen_has_no_horizontal_scrolling(places: tuple[int, int], view: str) -> None:
    """At 360 pixels, with a card and a form open."""
    with opened(places, "docs/ws/#play/event/order") as page:
        resize(page, 360)
        said(page, f"press('{view}'); choose('order'); press('Example')" if view == "Playground" else "1")
        assert said(page, "document.documentElement.scrollWidth") <= 360


def test_a_client_of_the_application_hears_what_the_page_says(places: tuple[int, int]) -> None:
    """What is sent is what a program would send."""
    with opened(places) as page, connect(f"ws://127.0.0.1:{places[1]}/ws") as client:
        client.send('{"type": "enter", "room": "both"}')
        assert json.loads(client.recv(timeout=20))["type"] == "enter"
        said(page, "choose('enter'); fill('room', 'both'); press('Connect and send')")
        wait_for(page, "entries()", "-,enter,enter")
        said(page, "choose('say'); fill('msg', 'two\\nlines'); press('Send')")
        assert json.loads(client.recv(timeout=20)) == {"type": "said", "msg": "two\nlines"}


def test_the_chat_example_is_tried(places: tuple[int, int]) -> None:
    """Two tabs in a room: who comes is seen, what is said is heard."""
    address = "examples/chat/docs/"
    with opened(places, address) as ada, opened(places, address) as grace:
        for page, name in ((ada, "ada"), (grace, "grace")):
            said(page, f"choose('enter'); fill('room', 'lobby'); fill('name', '{name}'); press('Connect and send')")
            wait_for(page, "entries().includes('presence_diff') || entries().includes('presence_state')", True)
        wait_for(ada, "all('.entry .preview').some((row) => row.textContent.includes('grace'))", True)
        said(grace, "choose('message'); fill('msg', 'hello ada'); press('Send')")
        wait_for(ada, "entries().includes('said')", True)
        said(grace, "fill('msg', ' '); press('Send')")
        wait_for(grace, "document.activeElement === field('msg') && field('msg').ariaInvalid", "true")


def test_who_comes_back_is_told_what_was_missed(places: tuple[int, int]) -> None:
    """`resume` has a form, too: what was said meanwhile follows its answer."""
    with opened(places, "examples/chat/docs/") as page:
        said(page, "choose('enter'); fill('room', 'back'); fill('name', 'ada'); press('Connect and send')")
        wait_for(page, "entries().includes('room_position')", True)
        position = json.loads(said(page, "all('.entry .preview')[2].textContent"))
        said(page, "choose('message'); fill('msg', 'missed'); press('Send')")
        wait_for(page, "entries().includes('said')", True)
        said(page, "press('Disconnect')")
        wait_for(page, "state()", "closed")
        rooms = {"back": {"seq": 0, "epoch": position["epoch"]}}
        said(page, f"choose('resume'); change(editor(), {json.dumps(json.dumps({'type': 'resume', 'rooms': rooms}))})")
        said(page, "press('Clear'); press('Connect and send')")
        wait_for(page, "/^-,resume,resumed,.*said/.test(entries())", True)


def test_a_list_of_many_is_shown_as_json(places: tuple[int, int]) -> None:
    """A form of thousands of rows is no help; nothing of it is lost."""
    lines = [{"symbol": "A", "count": n} for n in range(1000)]
    with opened(places) as page:
        said(page, f"choose('order'); change(editor(), {json.dumps(json.dumps({'type': 'order', 'lines': lines}))})")
        assert said(page, "all('.composer .item').length") == 0
        said(page, "change(field('number'), '1234')")
        assert said(page, "written()")["lines"] == lines


def test_the_stream_example_is_stopped(places: tuple[int, int]) -> None:
    """Tokens are counted, until `complete` comes for the cancel."""
    with opened(places, "examples/llm_stream/docs/") as page:
        said(page, "choose('generate'); fill('prompt', 'hello'); press('Connect and send')")
        wait_for(
            page, "/^[1-9][0-9]* items? received/.test(document.querySelector('.requests .count')?.textContent)", True
        )
        said(page, "press('Cancel')")
        wait_for(page, "entries().endsWith('complete')", True)


@pytest.mark.parametrize("api", APIS)
def test_every_event_has_a_form(places: tuple[int, int], api: str) -> None:
    """Whatever its name and schema: its example goes through the form and comes out as it was; all cards open."""
    script = """
        const wrong = [];
        all("details").forEach((each) => { each.open = true; });
        for (const channel of all("#channel option").length ? all("#channel option") : [null]) {
            if (channel) change(document.getElementById("channel"), channel.value);
            for (const { value } of [...composer().querySelector("select").options]) {
                choose(value);
                press("Example");
                const text = (composer().querySelector(".json textarea") ?? composer().querySelector("textarea")).value;
                if (composer().querySelector(".json")) {
                    composer().querySelector(".form").dispatchEvent(new Event("input"));
                    if (editor().value !== text) wrong.push([value, text, editor().value]);
                }
                press("Reset");
            }
        }
        wrong"""
    with opened(places, f"{api}/") as page:
        assert said(page, script.strip()) == []


def test_a_policy_of_a_proxy_changes_nothing(places: tuple[int, int]) -> None:
    """Under `default-src 'self'` beside the page's own policy, it is shown, and connects."""
    with opened(places, "strict/docs/") as page:
        said(page, "choose('enter'); fill('room', 'strict'); press('Connect and send')")
        wait_for(page, "entries()", "-,enter,enter")


def test_an_upload_is_fed_item_by_item(places: tuple[int, int]) -> None:
    """Each with its form, as far as the server lets it, until `complete`."""
    with opened(places) as page:
        said(page, "choose('feed'); press('Connect and send')")
        wait_for(page, "all('.feeding').length", 1)
        said(page, "var feeding = document.querySelector('.feeding')")
        for sent, symbol in enumerate(("a", "b"), 1):
            said(page, f"change(field('symbol', feeding), '{symbol}'); change(field('count', feeding), 1)")
            said(page, "press('Send item')")
            told = "document.querySelector('.requests .count').textContent"
            wait_for(page, f"{told}.startsWith('{sent} sent, ')", True)
        said(page, "press('Complete')")
        wait_for(page, "all('.entry .preview').at(-1).textContent", '{"fed":["a","b"]}')
        wait_for(page, "all('.requests li').length", 0)


@contextmanager
def flooded(places: tuple[int, int]) -> Iterator[ClientConnection]:
    """A page connected to a server that sends as many messages as it is asked for."""
    with opened(places, "flooded/") as page:
        said(page, "press('Connect')")
        wait_for(page, "entries()", "-")
        yield page


def ask_for(page: ClientConnection, count: int) -> None:
    said(page, f"fill('count', {count}); press('Send')")


def test_the_log_has_an_end(places: tuple[int, int]) -> None:
    """A thousand entries stay, and what was dropped is counted."""
    with flooded(places) as page:
        ask_for(page, 3000)
        wait_for(page, "document.querySelector('.told').textContent", "2002 older entries dropped: the log keeps 1000")
        wait_for(page, "all('.entry').length", 1000)
        assert '"n":2999' in said(page, "all('.entry').at(-1).textContent")


def test_the_log_is_filtered(places: tuple[int, int]) -> None:
    """By words, by type, by ref and by direction."""
    with flooded(places) as page:
        ask_for(page, 20)
        wait_for(page, "all('.entry').length", 22)
        for words, count in (("type:drop", 20), ("type:drop 1", 11), ("ref:1", 1), ("nothing", 0), ("", 22)):
            said(page, f"change(document.querySelector('.log input'), {json.dumps(words)})")
            assert said(page, "all('.entry').length") == count, words
        said(page, "change(document.querySelector('.log select'), 'out')")
        assert said(page, "entries()") == "flood"


def test_the_log_is_paused(places: tuple[int, int]) -> None:
    """What comes meanwhile is counted, and shown when it goes on."""
    with flooded(places) as page:
        said(page, "press('Pause')")
        ask_for(page, 5)
        wait_for(page, "document.querySelector('.told').textContent", "paused, 6 new")
        assert said(page, "entries()") == "-"
        said(page, "press('Go on')")
        assert said(page, "all('.entry').length") == 7


def test_what_was_sent_is_sent_again(places: tuple[int, int]) -> None:
    """With a new ref; or it goes back into the form."""
    with flooded(places) as page:
        ask_for(page, 2)
        wait_for(page, "entries()", "-,flood,drop,drop")
        said(page, "all('.entry')[1].querySelector('details').open = true")
        wait_for(page, "all('.entry .bar').length", 1)
        said(page, "press('Send again', all('.entry')[1])")
        wait_for(page, "entries()", "-,flood,drop,drop,flood,drop,drop")
        assert said(page, "all('.entry .ref').map((r) => r.textContent)") == ["ref 1", "ref 2"]
        said(page, "fill('count', 0); press('Edit', all('.entry')[1])")
        assert said(page, "written()") == {"type": "flood", "count": 2}


def test_a_big_message_is_shortened(places: tuple[int, int]) -> None:
    """On the page, not on the clipboard."""
    with flooded(places) as page:
        said(page, "var copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }")
        ask_for(page, 1)
        wait_for(page, "entries()", "-,flood,drop")
        said(page, "all('.entry')[2].querySelector('details').open = true")
        wait_for(page, "all('.entry pre').length", 1)
        assert said(page, "document.querySelector('.entry pre').textContent.length") < 25_000
        said(page, "press('Copy', all('.entry')[2])")
        assert said(page, "JSON.parse(copied[0]).text.length") == 300_000


def test_a_close_is_explained(places: tuple[int, int]) -> None:
    """Its code, its reason, and what the code means."""
    with flooded(places) as page:
        ask_for(page, -1)
        wait_for(page, "state()", "closed")
        assert (
            said(page, "document.querySelector('.why').textContent") == "Closed with 4429: so many (too many messages)"
        )


def test_a_refused_handshake_is_explained(places: tuple[int, int]) -> None:
    """As far as a browser tells."""
    debugger, port = places
    with tab(debugger, f"http://127.0.0.1:{port}/odd/") as page:
        wait_for(page, "document.querySelector('#page:not([aria-busy])') !== null", True)
        said(
            page,
            HELPERS + "change(document.querySelector('.address'), document.querySelector('.address').value + 'x'); 1",
        )
        said(page, "document.querySelector('.connection').requestSubmit()")
        wait_for(page, "state()", "closed")
        wait_for(
            page, "document.querySelector('.why').textContent.startsWith('Closed with 1006: no close frame')", True
        )


def test_an_answer_that_is_none_is_told_at_its_form(places: tuple[int, int]) -> None:
    """The server waits no more, and what was asked stays to be read until it is dismissed."""
    with opened(places) as page:
        said(page, "choose('confirm'); fill('question', 'sure?'); press('Connect and send')")
        wait_for(page, "all('.question').length", 1)
        said(page, "change(document.querySelector('.question .json textarea'), '[1]'); press('Answer')")
        wait_for(page, "document.querySelector('.question')?.innerText.includes('waits no more')", True)
        wait_for(page, "document.querySelector('.composer .problems').textContent.startsWith('invalid_answer')", True)
        said(page, "press('Dismiss')")
        assert said(page, "all('.question').length") == 0


def test_a_call_is_declined(places: tuple[int, int]) -> None:
    """The request that needed it is answered with what follows from that."""
    with opened(places) as page:
        said(page, "choose('confirm'); fill('question', 'sure?'); press('Connect and send')")
        wait_for(page, "all('.question').length", 1)
        said(page, "press('Decline')")
        wait_for(page, "document.querySelector('.composer .problems').textContent.startsWith('call_refused')", True)


def test_an_error_about_no_field_stands_below_the_form(places: tuple[int, int]) -> None:
    """With its code."""
    with opened(places) as page:
        said(page, "choose('fail'); press('Connect and send')")
        told = "document.querySelector('.composer .problems').textContent"
        wait_for(page, told, "sold_out only 3 left")


def test_any_text_can_be_sent(places: tuple[int, int]) -> None:
    """Also what is no message; the answer is shown."""
    with opened(places) as page:
        said(page, "choose('raw text'); change(composer().querySelector('textarea'), '[1]'); press('Connect and send')")
        wait_for(page, "entries()", "-,-,error")
        assert "malformed_message" in said(page, "document.querySelector('.composer .problems').textContent")


def test_an_api_without_a_document_says_why(places: tuple[int, int]) -> None:
    """What is wrong with which event, as text."""
    debugger, port = places
    with tab(debugger, f"http://127.0.0.1:{port}/broken/") as page:
        wait_for(page, "document.querySelector('main pre')?.textContent.includes(\"'<b>say'\")", True)


def test_a_link_to_an_odd_name_opens_its_card(places: tuple[int, int]) -> None:
    """Names may have any characters."""
    with opened(places, "odd/") as page:
        name = "größe/é b"
        said(page, f"all('nav a').find((a) => a.textContent === {name!r}).click()")
        wait_for(page, "document.activeElement.querySelector?.('.name')?.textContent", name)


def test_what_is_no_address_is_told(places: tuple[int, int]) -> None:
    """In the browser's words, with the focus where it is to be corrected."""
    with opened(places) as page:
        said(page, "document.querySelector('.address').value = 'ws://:x'; press('Connect')")
        assert said(page, "document.querySelector('.why').textContent") != ""
        assert said(page, "document.activeElement.className") == "address"


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, " ": 32, "/": 191}


def strike(page: ClientConnection, *keys: str) -> None:
    """Keys, one after another, as a keyboard sends them; what is no name of a key is typed."""
    for key in keys:
        if key not in KEYS:
            command(page, "Input.insertText", text=key)
            continue
        text = {"Enter": "\r", " ": " ", "/": "/"}.get(key)
        told = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        command(page, "Input.dispatchKeyEvent", type="keyDown", **told, **({"text": text} if text else {}))
        command(page, "Input.dispatchKeyEvent", type="keyUp", **told)


def walk_to(page: ClientConnection, wanted: str) -> None:
    """Tab until the element with this text, label or name has the focus; each stop can be seen."""
    name = "((e) => e.ariaLabel ?? e.labels?.[0]?.textContent ?? e.textContent.trim())(document.activeElement)"
    for _ in range(80):
        strike(page, "Tab")
        assert said(page, "getComputedStyle(document.activeElement).outlineStyle") != "none", said(page, name)
        if said(page, name) == wanted:
            return
    raise AssertionError(f"no way to {wanted!r}")


def test_everything_is_done_by_keyboard(places: tuple[int, int]) -> None:
    """Search, open a card, try its event, fill it in, send it, read the answer: with a visible focus all the way."""
    with opened(places) as page:
        strike(page, "/", "order several", "ArrowDown", "Enter")
        wait_for(page, "document.querySelector('[id=\"play/event/order\"] .primary')?.textContent", "Try it")
        walk_to(page, "Try it")
        strike(page, "Enter")
        wait_for(page, "composer().contains(document.activeElement)", True)
        said(page, "composer().querySelector('select').focus()")
        strike(page, "enter")
        said(page, "choose('enter')")
        walk_to(page, "room")
        strike(page, "keys", "Enter")
        wait_for(page, "entries()", "-,enter,enter")
        assert said(page, "written()") == {"type": "enter", "room": "keys"}


def test_a_search_shows_what_has_its_words(places: tuple[int, int]) -> None:
    """Names, descriptions and fields; Escape shows everything again."""
    with opened(places) as page:
        strike(page, "/", "nothing is")
        shown = "all('.card').filter(isSeen).length"
        assert said(page, shown) == 0
        assert "Nothing is found" in said(page, "document.querySelector('main').innerText")
        for words in ("payment", "symbol", "who pays", "ORDER lines"):
            strike(page, "Escape", words)
            assert said(page, "all('.card').filter(isSeen).map((card) => card.id)") == ["play/event/order"]
        strike(page, "Escape")
        assert said(page, shown) > 8


def test_every_control_has_a_name(places: tuple[int, int]) -> None:
    """What assistive technology hears of all that can be reached, with every kind of field on the page."""
    with opened(places) as page:
        said(page, "all('details').forEach((d) => { d.open = true; }); choose('order'); press('Example', composer())")
        command(page, "Accessibility.enable")
        nodes = command(page, "Accessibility.getFullAXTree")["nodes"]
        reached = [node for node in nodes if not node["ignored"] and _is_control(node)]
        assert len(reached) > 50
        assert [node["role"]["value"] for node in reached if not node.get("name", {}).get("value")] == []


def _is_control(node: dict[str, Any]) -> bool:
    roles = ("button", "textbox", "searchbox", "combobox", "checkbox", "switch", "spinbutton", "link", "group", "log")
    focusable = any(each["name"] == "focusable" and each["value"]["value"] for each in node.get("properties", []))
    return focusable and node["role"]["value"] in roles


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(places: tuple[int, int], scheme: str) -> None:
    """Every text has a contrast of 4.5 to what is behind it (WCAG 1.4.3), in both themes."""
    media = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    with opened(places) as page:
        command(page, "Emulation.setEmulatedMedia", features=media)
        said(page, "all('details').forEach((d) => { d.open = true; }); choose('order'); press('Example', composer())")
        said(page, "fill('number', 'x'); press('Connect and send')")
        wait_for(page, "all('[aria-invalid]').length", 1)
        assert said(page, CONTRAST) == []


CONTRAST = """
(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const over = ([r, g, b, a], below) =>
        [r, g, b].map((part, n) => (part * a + below[n] * (255 - a)) / 255).concat(255);
    const behind = (element) => element
        ? over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [255, 255, 255, 255];
    const light = (color) => color.slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
    const contrast = (element) => {
        const ground = behind(element);
        const text = over(rgba(getComputedStyle(element).color), ground);
        const [dark, bright] = [light(text), light(ground)].sort((a, b) => a - b);
        return (bright + 0.05) / (dark + 0.05);
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return all("body *").filter((element) => hasText(element) && isSeen(element) && !element.disabled)
        .filter((element) => contrast(element) < 4.5)
        .map((element) => `${element.className} ${element.textContent.slice(0, 30)} ${contrast(element).toFixed(2)}`);
})()
"""


def test_the_theme_can_be_chosen(places: tuple[int, int]) -> None:
    """Light and dark, whatever the system says; it is the same when the page is opened again."""
    with opened(places) as page:
        paper = "getComputedStyle(document.body).backgroundColor"
        system = said(page, paper)
        said(page, "document.getElementById('theme').click()")
        light = said(page, paper)
        said(page, "document.getElementById('theme').click()")
        assert (system, said(page, paper) != light) == (light, True)
        with opened(places) as again:
            assert said(again, "document.documentElement.dataset.theme") == "dark"
        said(page, "document.getElementById('theme').click()")


def test_on_paper_everything_is_open(places: tuple[int, int]) -> None:
    """Every card with its fields, and nothing to press."""
    with opened(places) as page:
        command(page, "Emulation.setEmulatedMedia", media="print")
        said(page, "dispatchEvent(new Event('beforeprint'))")
        assert said(page, "all('.card').every((card) => card.open && card.querySelector('.inside').firstChild)") is True
        assert said(page, "all('button').filter(isSeen).length") == 0


def test_a_hundred_events_are_there_at_once(places: tuple[int, int]) -> None:
    """Cards and contents of all of them; what is in a card is made when it is opened."""
    with opened(places, "many/") as page:
        assert said(page, "all('.card').length") == 100
        assert said(page, "all('main table').length") == 0
        told = said(page, "performance.getEntriesByName('shown')[0].startTime")
        print(f"shown after {told:.0f} ms")
