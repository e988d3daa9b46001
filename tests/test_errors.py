"""The exceptions keep their facts as attributes and write their own sentence."""

from socketsundso.errors import EventError


def test_event_error_builds_one_detail_from_its_message() -> None:
    """A message without a list becomes the list's one entry."""
    error = EventError("not_found", "no such room")
    assert error.errors == [{"type": "not_found", "loc": [], "msg": "no such room"}]
    assert str(error) == "not_found: no such room"


def test_event_error_without_message_has_no_details() -> None:
    """`errors` is an empty list, never missing."""
    assert EventError("busy").errors == []
    assert str(EventError("busy")) == "busy"
