"""What every way of checking a credential looks like from outside."""

from typing import Protocol

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


class NotMine(InvalidCredential):
    """A credential of another kind: only this one lets the next verifier be asked.

    Otherwise an expired API key would be shown to the authorization server, and called malformed in the event.
    """


class Verifier(Protocol):
    """Judges bearer tokens of one kind."""

    async def verify(self, token: str) -> Principal:
        """Return whom `token` stands for.

        Raises:
            InvalidCredential: if it stands for nobody.
            NotMine: if that is for another verifier to say.
        """
        ...
