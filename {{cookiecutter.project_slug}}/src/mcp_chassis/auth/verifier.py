"""The interface of everything that checks credentials."""

from abc import ABC, abstractmethod

from .principal import Act, Principal


class InvalidCredential(Exception):
    """A credential that is not valid.

    Args:
        reason: one word for the security event: `unknown`, `expired`, `audience`, ... The client never sees it.
        owner: the principal, if the credential was genuine once: then the operator knows whom to tell.
    """

    def __init__(self, reason: str, owner: Principal | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.owner = owner

    @property
    def whose(self) -> str | None:
        """The id of the owner."""
        return self.owner.id if self.owner is not None else None

    @property
    def was_good(self) -> bool:
        """Whether the credential was genuine once. Clients present those in good faith: it is no guess."""
        return self.owner is not None or self.reason == "expired"


class Unavailable(Exception):
    """A credential cannot be checked now: a server that is needed for that does not answer."""


class Verifier(ABC):
    """Judges bearer tokens of one kind.

    A token that is bound to a key of the client (DPoP, RFC 9449) needs the header `DPoP`, method and URL of the request
    as well. Until MCP's extension is final, it is judged as a bearer token.
    """

    @abstractmethod
    async def verify(self, token: str) -> Principal | None:
        """Return the principal of `token`; None if it is of another kind, for the next verifier to judge.

        Raises:
            InvalidCredential: if it is of this kind and not valid. No further verifier is asked: an expired API key
                must not be shown to the authorization server.
            Unavailable: if that cannot be found out now.
        """

    async def verify_again(self, token: str) -> Principal | None:
        """As `verify`, for a token whose stream is open: called twice a second, so that it ends with its credential."""
        return await self.verify(token)

    def act_for(self, token: str) -> Act | None:
        """Return what gets tokens of other services for the caller with this valid token, if there is such a thing."""
        return None

    def asks_elsewhere(self, token: str) -> bool:
        """Whether judging this token costs a question to another server."""
        return False
