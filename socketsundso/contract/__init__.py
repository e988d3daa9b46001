"""
What an API is, for those who are not its Python code: one neutral model, and what is made of it.

    model         an API as plain data
    drafts        the JSON Schemas of the model, and those of AsyncAPI
    protocol      the messages of the protocol itself
    nodes         places in documents that anybody may have written
    payloads      a message's envelope and fields as one flat object, and back
    judging       whether a schema takes a value
    bounds        whether a keyword permits more than another one
    parameters    what the handshake takes, in AsyncAPI's words
    asyncapi      an API -> an AsyncAPI document
    reading       a document, ours or anybody's -> the API
    schemas       annotations -> JSON Schemas, in one table of names
    by_pydantic   ... of what pydantic judges and writes
    by_msgspec    ... of what msgspec does
    canonical     the last pass over them: what every validator reads alike
    constraints   bounds that pydantic and msgspec have beside a schema
    patterns      regular expressions, as ECMAScript has them
    keys          what a mapping's keys are as text
    selection     what `response_model_include` and its kin leave of a schema
    sharing       which schemas are those of both directions
    names         what schemas are called
    containment   whether a schema takes all that another one does
    docstrings    what docstrings tell
    codes         which of the package's codes an endpoint answers with
    sent          which messages an endpoint sends, and what they are called
    handshake     what the handshake of an endpoint takes
    describe      an endpoint class -> its channel
    routes        an application -> its API
    diff          what changed between two APIs, and for whom it breaks something
    report        changes -> text, JSON, annotations of GitHub
    identifiers   names of the contract as names of generated code
    python        an API -> a client in Python; `python_...` are its parts, and those of the runtime that it brings
    typescript    an API -> a client in TypeScript; `typescript_...` are its parts, files/runtime.ts what it brings
    compact       that runtime, as small as it can be
    page          the page that shows an API and lets it be tried
"""

from socketsundso.contract.asyncapi import document as document
from socketsundso.contract.asyncapi import dump as dump
from socketsundso.contract.diff import Change as Change
from socketsundso.contract.diff import compare as compare
from socketsundso.contract.model import Api as Api
from socketsundso.contract.page import Docs as Docs
from socketsundso.contract.python import python as python
from socketsundso.contract.reading import read as read
from socketsundso.contract.report import FORMATS as FORMATS
from socketsundso.contract.report import report as report
from socketsundso.contract.routes import api_of as api_of
from socketsundso.contract.typescript import typescript as typescript
from socketsundso.errors import ContractError as ContractError
