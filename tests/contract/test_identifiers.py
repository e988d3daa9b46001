"""What the names of a contract are called in generated code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.contract.identifiers import (
    ECMASCRIPT_KEYWORDS,
    ECMASCRIPT_OBJECT,
    PYTHON_KEYWORDS,
    Scope,
    Style,
    as_it_is,
    camel,
    pascal,
    snake,
)
from socketsundso.errors import ContractError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("say", "say Say say"),
        ("chat.send", "chatSend ChatSend chat_send"),
        ("get_HTTPStatus", "getHttpStatus GetHttpStatus get_http_status"),
        ("v2 items/list", "v2ItemsList V2ItemsList v2_items_list"),
        ("presence:diff!", "presenceDiff PresenceDiff presence_diff"),
        ("2fa", "_2fa _2fa _2fa"),
        ("größe/é b", "größeÉB GrößeÉB größe_é_b"),
        ("日本", "日本 日本 日本"),
        ("ﬁx", "fix Fix fix"),
        ("__proto__", "proto Proto proto"),
        ("SHOUT", "shout Shout shout"),
    ],
)
def test_a_name_in_each_style(text: str, names: str) -> None:
    """Words stand between what no identifier has, and between small and capital letters; Unicode stays, normalised."""
    assert " ".join(style(text) for style in (camel, pascal, snake)) == names


@pytest.mark.parametrize("style", [camel, pascal, snake, as_it_is])
@given(text=st.text())
def test_any_text_becomes_an_identifier_or_nothing(style: Style, text: str) -> None:
    """Nothing else can come out, and never `_` with a letter behind it, which is what generated code has for itself."""
    name = style(text)
    assert not name or name.isidentifier()
    assert not re.match(r"_[a-zA-Z]", name)


def test_what_is_an_identifier_stays() -> None:
    """Types keep the names that they have, and only what is none becomes one."""
    assert [as_it_is(text) for text in ("Page_User_", "userIDs", "m1.Item")] == ["Page_User_", "userIDs", "M1Item"]


def test_two_that_fall_together_are_named() -> None:
    """The error tells both, and what they would be."""
    methods = Scope("method of Chat", camel)
    assert methods.add("chat.send", "event 'chat.send'") == "chatSend"
    with pytest.raises(ContractError) as refused:
        methods.add("chat_send", "event 'chat_send'")
    assert str(refused.value) == (
        "event 'chat.send' and event 'chat_send' would both be the method of Chat 'chatSend'; rename one of them"
    )


def test_what_differs_by_case_only_falls_together_or_does_not() -> None:
    """`Say` and `say` are one method; `userId` and `userid` are two."""
    methods = Scope("method", camel)
    assert [methods.add(text, text) for text in ("userId", "userid", "say")] == ["userId", "userid", "say"]
    with pytest.raises(ContractError, match="say and Say"):
        methods.add("Say", "Say")


def test_an_owner_asks_again_and_gets_the_same() -> None:
    """A name is not taken by who has it."""
    methods = Scope("method", camel)
    assert methods.add("say", "event 'say'") == methods.add("say", "event 'say'")


@pytest.mark.parametrize("text", ["", "💥", "__", "-.-"])
def test_what_has_no_letters_is_refused(text: str) -> None:
    """By the name that it has in the contract."""
    with pytest.raises(ContractError, match="no letter and no digit to make the name of a method of"):
        Scope("method", camel).add(text, f"event {text!r}")


def test_what_is_taken_gets_an_underscore() -> None:
    """Keywords, what every object has, and what the client itself has."""
    methods = Scope("method", camel, ECMASCRIPT_KEYWORDS | ECMASCRIPT_OBJECT | {"close"})
    names = ("class", "constructor", "then", "close", "to_string", "open")
    assert [methods.add(name, name) for name in names] == [
        "class_", "constructor_", "then_", "close_", "toString_", "open",
    ]  # fmt: skip
    functions = Scope("function", snake, PYTHON_KEYWORDS)
    assert [functions.add(name, name) for name in ("class", "import", "None", "match")] == [
        "class_", "import_", "none", "match",
    ]  # fmt: skip
