"""
What an API is, for those who are not its Python code: one neutral model, and what is made of it.

    model         an API as plain data
    identifiers   names of the contract as names of generated code
    schemas/      annotations -> JSON Schemas
    describing/   endpoint classes and applications -> their API
    asyncapi/     an API -> an AsyncAPI document, and back
    comparing/    what changed between two APIs, and for whom it breaks something
    python/       an API -> a client in Python
    typescript/   an API -> a client in TypeScript
    page          the page that shows an API and lets it be tried; playground/ is what it is made of

Each folder's `__init__` names what the others may use, and lists its modules.
"""

from socketsundso.contract.asyncapi import document as document
from socketsundso.contract.asyncapi import dump as dump
from socketsundso.contract.asyncapi import read as read
from socketsundso.contract.comparing import FORMATS as FORMATS
from socketsundso.contract.comparing import Change as Change
from socketsundso.contract.comparing import compare as compare
from socketsundso.contract.comparing import report as report
from socketsundso.contract.describing import api_of as api_of
from socketsundso.contract.model import Api as Api
from socketsundso.contract.page import Docs as Docs
from socketsundso.contract.python import python as python
from socketsundso.contract.typescript import typescript as typescript
from socketsundso.errors import ContractError as ContractError
