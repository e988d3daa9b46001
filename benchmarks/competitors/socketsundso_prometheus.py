"""socketsundso, the reply validated by a pydantic response model, with metrics for Prometheus."""

from benchmarks.competitors.socketsundso_model import Chat
from socketsundso.telemetry import prometheus

VALIDATES = "pydantic, input and reply"

prometheus.instrument()
app = Chat
