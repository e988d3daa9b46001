"""What a user is called in log lines and traces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.authentication import SimpleUser, UnauthenticatedUser

from socketsundso.connection import name_of


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (None, None),
        ("ada", "ada"),
        (42, 42),
        ({"sub": "ada", "token": "secret"}, "ada"),
        ({"token": "secret"}, None),
        (SimpleNamespace(id=7, name="Ada"), 7),
        (SimpleNamespace(id=object(), name="Ada"), "Ada"),
        (SimpleUser("ada"), "ada"),
        (UnauthenticatedUser(), None),
        ("x" * 300, "x" * 200 + "…"),
        (object(), None),
    ],
    ids=repr,
)
def test_a_user_is_called_by_the_first_of_its_names(user: Any, name: Any) -> None:
    """A text or a number is its own name; what has none has none, and no other part of a user is told."""
    assert name_of(user) == name
