"""A route that serves exactly its path."""

from starlette.routing import Match, Route
from starlette.types import Scope


class ExactRoute(Route):
    """A route without parameters that serves its path and nothing else.

    Starlette's pattern accepts a final newline, so that `/security/events%0a` would be another path to the layers and
    the same one to the router.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether this is the path."""
        return super().matches(scope) if scope["path"] == self.path else (Match.NONE, {})
