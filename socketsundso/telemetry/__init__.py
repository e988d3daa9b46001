"""
What operators see: metrics and traces of endpoints. Nothing in the package imports this wing, but for the command line
where it is told to.

    prometheus      metrics, by `prometheus_client`
    opentelemetry   a span for each message and each connection, by `opentelemetry-api`
    watching        what a process tells whoever watches it, such as `socketsundso top`
    tally           what is counted, in plain numbers, whoever shows them
    meters          what is counted of messages, and how: around each event's compiled call
    installing      an observer and the classes that it was added to
    families        metrics as plain data, between who counts and who shows

Import the module whose library is installed: `from socketsundso.telemetry import prometheus`.
"""

from socketsundso.telemetry.watching import watch as watch
