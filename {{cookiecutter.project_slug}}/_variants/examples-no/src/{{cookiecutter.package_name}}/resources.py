"""Your resources: what a client may read. Declare each with `@resource` from `mcp_chassis` and list it here."""

from collections.abc import Callable
from typing import Any

RESOURCES: tuple[Callable[..., Any], ...] = ()
