"""
An API -> an AsyncAPI document, and a document -> the API: each undoes what the other one does.

    writing       an API -> an AsyncAPI document
    reading       a document, ours or anybody's -> the API
    drafts        the JSON Schemas of the model, and those of AsyncAPI
    protocol      the messages of the protocol itself
    wires         a message in the envelope of its channel, and back
    payloads      the same for an envelope that is flat: one object
    parameters    what the handshake takes, in AsyncAPI's words
    nodes         places in documents that anybody may have written
"""

from socketsundso.contract.asyncapi.drafts import references as references
from socketsundso.contract.asyncapi.payloads import component_name as component_name
from socketsundso.contract.asyncapi.reading import read as read
from socketsundso.contract.asyncapi.writing import document as document
from socketsundso.contract.asyncapi.writing import dump as dump
