"""
What operators see: metrics and traces of endpoints. Nothing in the package imports this wing.

    prometheus      metrics, by `prometheus_client`
    opentelemetry   a span for each message and each connection, by `opentelemetry-api`
    tally           what is counted, in plain numbers, whoever shows them
    meters          what is counted of messages, and how: around each event's compiled call
    installing      an observer and the classes that it was added to
    families        metrics as plain data, between who counts and who shows

Import the module whose library is installed: `from socketsundso.telemetry import prometheus`.
"""
