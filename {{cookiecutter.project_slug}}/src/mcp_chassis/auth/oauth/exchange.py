"""Calls of other services in the name of the caller, by tokens that theirs are exchanged for (RFC 8693)."""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import anyio
import structlog

from ...mcp.sdk import ToolError
from ...sinks.errors import ConfigurationError, UpstreamError
from ..principal import Principal, act_for_caller, get_principal
from ..verifier import InvalidCredential
from .jwks import IssuerClient, cause_of, json_object
from .rules import number
from .verdict_cache import Kept, VerdictCache

log = structlog.stdlib.get_logger("auth")

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS = "urn:ietf:params:oauth:token-type:access_token"
_USABLE = frozenset({_ACCESS, "urn:ietf:params:oauth:token-type:jwt"})
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")  # token68 of RFC 9110, section 11.2
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
_MARGIN = 30.0  # seconds before its end in which a token is not used any more
_REFUSED = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchanged(Kept):
    token: str = field(repr=False)


def on_behalf_of(
    audience: str, scopes: Iterable[str] = (), *, principal: Principal | None = None
) -> Callable[[], Awaitable[str]]:
    """Return what makes the value of `Authorization` for calls of another service, each in the name of its caller.

    The authorization server decides whether this server may act for the caller there. The caller's own token, which
    is for this server alone, is never sent to the service, and no tool can get it (MCP, security best practices).

    Args:
        audience: the service, as the authorization server calls it.
        scopes: what the token should allow there.
        principal: serve this caller only. Default: the caller of each call.

    Returns:
        An async function. It raises `ToolError` if the caller gets no token, `UpstreamError` if the authorization
        server does not answer properly, `ConfigurationError` if OAUTH_TOKEN_URL is not set.
    """
    wanted = tuple(sorted(set(scopes)))

    async def authorization() -> str:
        caller, act = get_principal(), act_for_caller.get()
        if principal is not None and caller != principal:
            raise ToolError("This acts for another caller.")
        if act is None and caller.kind == "oauth":
            raise ConfigurationError("acting for callers needs the setting OAUTH_TOKEN_URL")
        if act is None:
            raise ToolError("This tool acts for its caller, which needs an access token of theirs: log in with OAuth.")
        return f"Bearer {await act(audience, wanted)}"

    return authorization


@dataclass(kw_only=True, eq=False, repr=False)
class TokenExchange(IssuerClient):
    """Asks the authorization server for tokens of other services, and keeps each until it ends.

    What it keeps belongs to one token of a caller, not to the caller: another token of theirs may allow less.
    """

    def __post_init__(self) -> None:
        self._kept: VerdictCache[_Exchanged] = VerdictCache()
        self._asking: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def token(self, subject_token: str, audience: str, scopes: tuple[str, ...]) -> str:
        """Return a token for `audience` that acts for the subject of `subject_token`. Raises as `on_behalf_of`."""
        key = "\n".join((subject_token, audience, *scopes))
        async with self._asking.setdefault(key, anyio.Lock()):  # of many calls that need it, one asks
            kept = self._kept.get(key)
            if kept is None:
                form = {
                    "grant_type": _GRANT,
                    "subject_token": subject_token,
                    "subject_token_type": _ACCESS,
                    "requested_token_type": _ACCESS,
                    "audience": audience,
                } | ({"scope": " ".join(scopes)} if scopes else {})
                kept = _exchanged(await self._ask(form, audience), subject_token)
                self._kept.put(key, kept)
        return kept.token

    async def _ask(self, form: Mapping[str, str], audience: str) -> dict[str, Any]:
        try:
            answer = await self._post(form)
            if answer.status not in _REFUSED:
                return json_object(answer)
        except (ValueError, UpstreamError) as error:
            raise _failed(cause_of(error)) from None
        code = _ERROR_CODE.search(answer.body.decode("ascii", "replace").partition('"error":')[2])
        log.warning("a token was not exchanged", audience=audience, status=answer.status, error=code[0] if code else "")
        raise ToolError(f"The authorization server does not let this server act for you at {audience}.")


def _exchanged(document: Mapping[str, Any], subject_token: str) -> _Exchanged:
    """Return the token in an answer (RFC 8693, section 2.2.1)."""
    token = document.get("access_token")
    is_bearer = str(document.get("token_type")).lower() == "bearer" and document.get("issued_token_type") in _USABLE
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None or not is_bearer:
        raise _failed("the answer holds no access token")
    if token == subject_token:  # it would pass the caller's token through (MCP, security best practices)
        raise _failed("the answer holds the token of the caller")
    try:
        seconds = number(document.get("expires_in", 0))
    except InvalidCredential:
        seconds = 0  # then it is not kept
    return _Exchanged(token=token, until=time.time() + seconds - _MARGIN)


def _failed(cause: str) -> UpstreamError:
    text = "The authorization server does not answer properly, so this tool cannot act for you right now."
    return UpstreamError(text, cause=f"a token could not be exchanged: {cause}")
