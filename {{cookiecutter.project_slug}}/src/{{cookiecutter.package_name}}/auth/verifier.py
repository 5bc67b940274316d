"""What every way of checking a credential looks like from outside."""

from typing import Protocol

from .principal import Principal


class InvalidCredential(Exception):
    """A credential that does not stand for anyone.

    Args:
        reason: one word for the security event: `unknown`, `expired`, `audience`, ... The client never sees it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Verifier(Protocol):
    """Judges bearer tokens of one kind."""

    async def verify(self, token: str) -> Principal:
        """Return whom `token` stands for.

        Raises:
            InvalidCredential: if it stands for nobody.
        """
        ...
