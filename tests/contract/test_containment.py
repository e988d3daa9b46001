"""No obstacle between two schemas is a proof: no value of the one is refused by the other."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from socketsundso.contract.comparing.containment import Containment
from socketsundso.contract.comparing.judging import judge
from tests.contract import generated


def validator(schema: Any, components: dict[str, Any]) -> Any:
    """Another implementation, which has nothing of ours."""
    return jsonschema.Draft202012Validator({"allOf": [schema], "components": {"schemas": components}})


def takes(schema: Any, components: dict[str, Any], value: Any) -> bool:
    return bool(validator(schema, components).is_valid(value))


def is_schema(schema: Any) -> bool:
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        return False
    return True


def opened(schema: Any) -> Any:
    """As it is to who ignores members that have no name."""
    if isinstance(schema, list):
        return [opened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = "additionalProperties", False
    return {key: opened(each) for key, each in schema.items() if (key, each) != closed}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_obstacle_is_a_proof(data: st.DataObject) -> None:
    """For random schemas, what is changed about them, and random values of the old one."""
    old_components, old = data.draw(generated.components()), data.draw(generated.SCHEMAS)
    name = data.draw(st.sampled_from(generated.NAMES))
    new_components = {**old_components, name: data.draw(generated.edited(old_components[name]))}
    new = data.draw(st.one_of(generated.edited(old), st.just(old), generated.SCHEMAS))
    assume(is_schema(new) and is_schema(new_components[name]))
    assume(generated.are_grounded(old_components) and generated.are_grounded(new_components))
    ignores = data.draw(st.booleans())
    if Containment(old_components, new_components, ignores=ignores).obstacles(old, new):
        return
    if ignores:
        new, new_components = opened(new), opened(new_components)
    for value in data.draw(st.lists(generated.values(old, old_components), min_size=5, max_size=10)):
        if takes(old, old_components, value):
            assert takes(new, new_components, value), value


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_verdict_on_a_value_is_that_of_others(data: st.DataObject) -> None:
    """Where there is one."""
    components, schema = data.draw(generated.components()), data.draw(generated.SCHEMAS)
    assume(generated.are_grounded(components))
    for value in data.draw(st.lists(generated.values(schema, components), min_size=1, max_size=5)):
        verdict = judge(value, schema, components)
        if verdict is not None:
            assert verdict == takes(schema, components, value)


@given(generated.SCHEMAS, generated.components())
@settings(max_examples=50, deadline=None)
def test_what_has_not_changed_has_no_obstacle(schema: Any, components: dict[str, Any]) -> None:
    """Whatever its keywords are, recursive or not."""
    assert Containment(components, components).obstacles(schema, schema) == []
