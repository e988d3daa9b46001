"""
How a handshake may sign in, for the contract alone: nothing here is asked of anybody.

    class Chat(Endpoint):
        security = [APIKeyQuery(name="token"), HTTPBearer()]    # any one of them is enough

`authenticate` is what signs in. The names are FastAPI's, whose own (`fastapi.security`) are taken as well, as is
anything else with a `scheme_name` and a `model` of OpenAPI. Each becomes a security scheme of AsyncAPI 3.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from socketsundso.errors import DefinitionError

__all__ = [
    "APIKeyCookie",
    "APIKeyHeader",
    "APIKeyQuery",
    "HTTPBasic",
    "HTTPBearer",
    "OAuth2PasswordBearer",
    "OpenIdConnect",
    "SecurityScheme",
]


class SecurityScheme(Protocol):
    """What `security` lists."""

    @property
    def scheme_name(self) -> str:
        """What it is called in the document."""

    @property
    def model(self) -> Any:
        """The scheme in OpenAPI's words."""


@dataclass(frozen=True, kw_only=True)
class _Scheme:
    scheme_name: str = ""
    """What it is called in the document; the name of the class unless given."""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.scheme_name:
            object.__setattr__(self, "scheme_name", type(self).__name__)

    def _told(self, **words: Any) -> dict[str, Any]:
        return {key: value for key, value in {**words, "description": self.description}.items() if value != ""}


@dataclass(frozen=True, kw_only=True)
class _APIKey(_Scheme):
    """`name` is that of the key, and `place` where OpenAPI says it is."""

    place: ClassVar[str]
    name: str

    @property
    def model(self) -> Mapping[str, Any]:
        return self._told(type="apiKey", **{"in": self.place}, name=self.name)


class APIKeyQuery(_APIKey):
    """A key of the query: `wss://example.com/ws?token=...`"""

    place = "query"


class APIKeyHeader(_APIKey):
    """A header, which browsers cannot send."""

    place = "header"


class APIKeyCookie(_APIKey):
    """A cookie, which browsers send by themselves: mind `allowed_origins`."""

    place = "cookie"


@dataclass(frozen=True, kw_only=True)
class HTTPBearer(_Scheme):
    """The header `Authorization: Bearer ...`, which browsers cannot send. `bearerFormat` is a hint: "JWT"."""

    bearerFormat: str = ""

    @property
    def model(self) -> Mapping[str, Any]:
        return self._told(type="http", scheme="bearer", bearerFormat=self.bearerFormat)


@dataclass(frozen=True, kw_only=True)
class HTTPBasic(_Scheme):
    """The header `Authorization: Basic ...`"""

    @property
    def model(self) -> Mapping[str, Any]:
        return self._told(type="http", scheme="basic")


@dataclass(frozen=True, kw_only=True)
class OAuth2PasswordBearer(_Scheme):
    """A token that `tokenUrl` gives for a name and a password; `scopes` maps each scope to what it allows."""

    tokenUrl: str
    scopes: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Mapping[str, Any]:
        flow = {"tokenUrl": self.tokenUrl, "scopes": dict(self.scopes)}
        return self._told(type="oauth2", flows={"password": flow})


@dataclass(frozen=True, kw_only=True)
class OpenIdConnect(_Scheme):
    """A token of the provider that is described at `openIdConnectUrl`."""

    openIdConnectUrl: str

    @property
    def model(self) -> Mapping[str, Any]:
        return self._told(type="openIdConnect", openIdConnectUrl=self.openIdConnectUrl)


def check_security(owner: str, security: Any) -> tuple[SecurityScheme, ...]:
    """Raises `DefinitionError` for what is no list of schemes."""
    if isinstance(security, str | Mapping) or not isinstance(security, Iterable):
        raise DefinitionError(f"{owner}.security is {security!r}; it is a list of schemes: security = [HTTPBearer()]")
    schemes: tuple[Any, ...] = tuple(security)
    for scheme in schemes:
        if isinstance(scheme, type) or not (hasattr(scheme, "scheme_name") and hasattr(scheme, "model")):
            raise DefinitionError(
                f"{owner}.security has {scheme!r}, which is no security scheme; those of socketsundso.security and of "
                "fastapi.security are: security = [HTTPBearer()]"
            )
    return schemes


def asyncapi_scheme(scheme: SecurityScheme) -> dict[str, Any]:
    """A security scheme in AsyncAPI's words, which are OpenAPI's but for keys and scopes."""
    model = scheme.model
    told = (
        dict(model) if isinstance(model, Mapping) else model.model_dump(mode="json", by_alias=True, exclude_none=True)
    )
    if told["type"] == "apiKey":
        told["type"] = "httpApiKey"
    if "flows" in told:
        told["flows"] = {name: _flow(flow) for name, flow in told["flows"].items()}
    return told


def _flow(flow: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"scopes": "availableScopes"}
    return {renamed.get(key, key): value for key, value in flow.items()}
