"""Calls of other services in the name of the caller, by a token of their own (RFC 8693)."""

from collections.abc import Awaitable, Callable, Iterable

from ...mcp.sdk import ToolError
from ...sinks.errors import ConfigurationError
from ..principal import Principal, act_for_caller, get_principal


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
        An async function, which raises `ToolError` if it gets no token, and `ConfigurationError` without OAUTH_TOKEN_URL.
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
