"""
An API -> a client in Python, as one file.

    client        the file: messages and errors as classes, a client for each channel
    types         JSON Schemas as classes and annotations
    text          names, docstrings and literals of generated Python
    parts         the modules of the runtime, as one text
    runtime/      what every client brings: typed, linted and tested here, copied into each file
"""

from socketsundso.contract.python.client import python as python
