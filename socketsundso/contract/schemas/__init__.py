"""
Annotations -> JSON Schemas, as pydantic or msgspec read and write them.

    components    all of them, in one table of names
    by_pydantic   ... of what pydantic judges and writes
    by_msgspec    ... of what msgspec does
    canonical     the last pass over them: what every validator reads alike
    constraints   bounds that pydantic and msgspec have beside a schema
    patterns      regular expressions, as ECMAScript has them
    keys          what a mapping's keys are as text
    selection     what `response_model_include` and its kin leave of a schema
    sharing       which schemas are those of both directions
    names         what schemas are called
"""

from socketsundso.contract.schemas.components import Components as Components
