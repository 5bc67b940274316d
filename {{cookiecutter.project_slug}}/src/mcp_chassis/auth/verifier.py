"""What every way of checking a credential looks like from outside."""

from abc import ABC, abstractmethod

from .principal import Principal


class InvalidCredential(Exception):
    """A credential that does not stand for anyone.

    Args:
        reason: one word for the security event: `unknown`, `expired`, `audience`, ... The client never sees it.
        whose: the principal's id where the credential was genuine once, so that an operator knows whom to tell.
    """

    def __init__(self, reason: str, whose: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.whose = whose

    @property
    def was_good(self) -> bool:
        """Whether the credential was genuine once. Clients present those in good faith: it is no guess."""
        return self.whose is not None or self.reason == "expired"


class Unavailable(Exception):
    """A credential cannot be checked now, because what would say so does not answer."""


class Verifier(ABC):
    """Judges bearer tokens of one kind."""

    @abstractmethod
    async def verify(self, token: str) -> Principal | None:
        """Return whom `token` stands for; None if it is of another kind, for the next verifier to judge.

        Raises:
            InvalidCredential: if it is of this kind and stands for nobody. No further verifier is asked: an expired
                API key must not be shown to the authorization server.
            Unavailable: if that cannot be found out now.
        """

    def asks_elsewhere(self, token: str) -> bool:
        """Whether to judge this token costs a question to another server."""
        return False
