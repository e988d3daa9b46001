"""The contract of `endpoints`."""

from socketsundso.contract import api_of
from tests.contract.served.endpoints import app

API = api_of(app)
