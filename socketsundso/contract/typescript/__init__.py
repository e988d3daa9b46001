"""
An API -> a client in TypeScript, as one file.

    client        the file: the runtime, types, errors, a class for each channel
    channels      a channel -> its parameters, messages and class
    types         JSON Schemas as types
    compact       the runtime, as small as it can be
    runtime.ts    what every client brings
"""

from socketsundso.contract.typescript.client import typescript as typescript
