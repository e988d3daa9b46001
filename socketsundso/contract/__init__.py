"""What an API is, for those who are not its Python code: one neutral model (`model`), and what is made of it."""

from socketsundso.contract.python import python as python
