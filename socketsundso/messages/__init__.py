"""
Bytes <-> values: what a handler's signature makes of frames, and how replies, pushes and errors are written.

Knows no connection. One module per question:

    signature     a function -> its parameters, types resolved
    whole         the parameter that is the message: which events its models name
    markers       what fills a parameter beside the message: Depends, the connection, the handshake
    dependencies  a graph of dependencies -> the signature of the whole, and the function that solves it
    teardown      what dependencies do behind their `yield`
    aliases       what an annotation stands for: aliases and NewTypes looked through, types for variables
    structs       Structs in pydantic's eyes, and pydantic's classes in msgspec's
    envelopes     in what messages stand, as endpoints declare it
    framing       the same, compiled: how frames are read and written
    codecs        in which bytes frames say it: JSON, or MessagePack
    packed_framing   an envelope in another codec
    packed_replies   replies in another codec, without JSON between where that is the same
    json_rpc      the same of JSON-RPC 2.0
    canonical     what is between the two: the form that messages have within the package
    refs          what a `ref` may be
    naming        what messages are called, by their own `type` or by their class
    forms         how an annotation looks to pydantic
    annotations   which annotations msgspec decodes exactly as pydantic would, and which can never come from JSON
    conduct       how the requests of an event stand beside others: in turn, or apart
    route         one event, compiled: its Struct and the calls that unpack it
    fields        what reads a value of one annotation, and one that a frame keeps raw
    whole_frames  what reads a frame that is one model as a whole
    flat_models   the model that clients send flat, and that is not: told once
    raw_fields    what pydantic takes from raw JSON, and the complete error where it refuses that
    judge         what pydantic says of a whole frame that the fast path refused
    decoder       routes -> one union of Structs: a frame in, a message ready to be called out
    declared      what an annotation declares: behind names, type variables, in the fields of a class
    readers       what a handler returned, as what is declared, where Structs are in it
    writers       the other way: Structs written with their declared fields alone
    exact_json    what is no instance of what is declared, within one that nobody has validated
    replies       values -> JSON with a `type`, as the response model declares it
    details       what an application's own errors tell, as JSON
    pushes        the same for messages that answer nothing
    items         the same for what a stream gives, one by one
    binary        what is no JSON: what a `@binary` method takes and gives, bytes that are pushed
    questions     what the server asks of its clients, and how their answers are read
    values        the same for values that nothing was declared about
    response_errors  what is told of a value that is no valid reply
    definition    what an endpoint makes of frames and exceptions, compiled
    plain_models  the shortcut for replies of models of scalars
    core_schemas  what pydantic's core schemas tell about how a value will be written
    codegen       functions from generated source
    disclosure    what an error may tell while inputs are kept out
    error_frames  exceptions -> `error` frames
"""

from socketsundso.messages import signature as signature
from socketsundso.messages.aliases import substituted as substituted
from socketsundso.messages.annotations import pydantic_form as pydantic_form
from socketsundso.messages.binary import BinaryReplies as BinaryReplies
from socketsundso.messages.binary import binary_payload as binary_payload
from socketsundso.messages.binary import encode_any as encode_any
from socketsundso.messages.binary import read_binary as read_binary
from socketsundso.messages.binary import replies_of as replies_of
from socketsundso.messages.canonical import numbered as numbered
from socketsundso.messages.codecs import JSON as JSON
from socketsundso.messages.codecs import Codec as Codec
from socketsundso.messages.codecs import Frame as Frame
from socketsundso.messages.codecs import Misshapen as Misshapen
from socketsundso.messages.codecs import declared_codecs as declared_codecs
from socketsundso.messages.codecs import text_of as text_of
from socketsundso.messages.codegen import lines_before as lines_before
from socketsundso.messages.conduct import Bound as Bound
from socketsundso.messages.conduct import Conduct as Conduct
from socketsundso.messages.conduct import conduct_of as conduct_of
from socketsundso.messages.conduct import is_duration as is_duration
from socketsundso.messages.core_schemas import is_of_application as is_of_application
from socketsundso.messages.core_schemas import is_silent as is_silent
from socketsundso.messages.declared import bare as bare
from socketsundso.messages.declared import field_types as field_types
from socketsundso.messages.declared import holds as holds
from socketsundso.messages.declared import is_mapping as is_mapping
from socketsundso.messages.declared import is_model_class as is_model_class
from socketsundso.messages.declared import is_named_tuple as is_named_tuple
from socketsundso.messages.declared import is_pydantic as is_pydantic
from socketsundso.messages.declared import is_struct as is_struct
from socketsundso.messages.declared import is_typed_dict as is_typed_dict
from socketsundso.messages.declared import item_types as item_types
from socketsundso.messages.declared import kind_of as kind_of
from socketsundso.messages.declared import members as members
from socketsundso.messages.declared import required_keys as required_keys
from socketsundso.messages.declared import settled as settled
from socketsundso.messages.decoder import UNDECODABLE as UNDECODABLE
from socketsundso.messages.decoder import Decoder as Decoder
from socketsundso.messages.definition import Definition as Definition
from socketsundso.messages.dependencies import Overrides as Overrides
from socketsundso.messages.dependencies import are_overridden as are_overridden
from socketsundso.messages.dependencies import solved as solved
from socketsundso.messages.details import check_errors as check_errors
from socketsundso.messages.details import details_of as details_of
from socketsundso.messages.details import refuse_alike as refuse_alike
from socketsundso.messages.details import written as written
from socketsundso.messages.envelopes import AnyEnvelope as AnyEnvelope
from socketsundso.messages.envelopes import ArrayEnvelope as ArrayEnvelope
from socketsundso.messages.envelopes import Envelope as Envelope
from socketsundso.messages.envelopes import framing_of as framing_of
from socketsundso.messages.error_frames import ErrorPolicy as ErrorPolicy
from socketsundso.messages.error_frames import MessageError as MessageError
from socketsundso.messages.error_frames import code_of as code_of
from socketsundso.messages.error_frames import error_frame as error_frame
from socketsundso.messages.error_frames import http_code as http_code
from socketsundso.messages.fields import Field as Field
from socketsundso.messages.framing import CANONICAL as CANONICAL
from socketsundso.messages.framing import Framing as Framing
from socketsundso.messages.items import item_encoder as item_encoder
from socketsundso.messages.json_rpc import NULL_RESULT as NULL_RESULT
from socketsundso.messages.json_rpc import JsonRpc as JsonRpc
from socketsundso.messages.judge import core_alias as core_alias
from socketsundso.messages.judge import json_model_fields as json_model_fields
from socketsundso.messages.judge import size_of as size_of
from socketsundso.messages.markers import Dependency as Dependency
from socketsundso.messages.markers import Depends as Depends
from socketsundso.messages.markers import are_alike as are_alike
from socketsundso.messages.naming import Naming as Naming
from socketsundso.messages.naming import own_types as own_types
from socketsundso.messages.naming import pushed_fields as pushed_fields
from socketsundso.messages.naming import pushed_type as pushed_type
from socketsundso.messages.packed_framing import packed as packed
from socketsundso.messages.packed_replies import packed_encoder as packed_encoder
from socketsundso.messages.pushes import BYTES as BYTES
from socketsundso.messages.pushes import Emitted as Emitted
from socketsundso.messages.pushes import encode_push as encode_push
from socketsundso.messages.pushes import naming_of as naming_of
from socketsundso.messages.pushes import pushed_name as pushed_name
from socketsundso.messages.pushes import refuse_bytes as refuse_bytes
from socketsundso.messages.questions import Asks as Asks
from socketsundso.messages.questions import Expected as Expected
from socketsundso.messages.questions import Questions as Questions
from socketsundso.messages.questions import Refusal as Refusal
from socketsundso.messages.questions import asked_by_anybody as asked_by_anybody
from socketsundso.messages.questions import revived as revived
from socketsundso.messages.raw_fields import unsayable as unsayable
from socketsundso.messages.refs import Ref as Ref
from socketsundso.messages.replies import ResponseOptions as ResponseOptions
from socketsundso.messages.replies import encoder_for as encoder_for
from socketsundso.messages.replies import is_model as is_model
from socketsundso.messages.replies import naming_of_replies as naming_of_replies
from socketsundso.messages.replies import returned_model as returned_model
from socketsundso.messages.response_errors import ResponseError as ResponseError
from socketsundso.messages.route import ITEM_KEY as ITEM_KEY
from socketsundso.messages.route import CallMessage as CallMessage
from socketsundso.messages.route import Encodes as Encodes
from socketsundso.messages.route import Judgement as Judgement
from socketsundso.messages.route import Refused as Refused
from socketsundso.messages.route import Route as Route
from socketsundso.messages.route import Unread as Unread
from socketsundso.messages.route import batch_route as batch_route
from socketsundso.messages.route import cancel_route as cancel_route
from socketsundso.messages.route import complete_route as complete_route
from socketsundso.messages.route import item_route as item_route
from socketsundso.messages.route import reply_route as reply_route
from socketsundso.messages.route import text_route as text_route
from socketsundso.messages.signature import Extra as Extra
from socketsundso.messages.signature import Signature as Signature
from socketsundso.messages.signature import Unresolvable as Unresolvable
from socketsundso.messages.structs import union_members as union_members
from socketsundso.messages.teardown import Opened as Opened
from socketsundso.messages.teardown import close as close
from socketsundso.messages.teardown import fail_late as fail_late
from socketsundso.messages.teardown import finishing as finishing
from socketsundso.messages.whole import Wholes as Wholes
from socketsundso.messages.whole import field_names as field_names
from socketsundso.messages.whole import refuse_beside as refuse_beside
from socketsundso.messages.whole_frames import is_frame as is_frame
