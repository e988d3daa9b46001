"""
What changed between two APIs, and for whom it breaks something.

    diff          two APIs -> changes
    containment   whether a schema takes all that another one does
    judging       whether a schema takes a value
    bounds        whether a keyword permits more than another one
    report        changes -> text, JSON, annotations of GitHub
"""

from socketsundso.contract.comparing.diff import Change as Change
from socketsundso.contract.comparing.diff import compare as compare
from socketsundso.contract.comparing.report import FORMATS as FORMATS
from socketsundso.contract.comparing.report import report as report
