"""Your resources: what a client may read. Declare each with `@resource` from `.policy.declare` and list it here."""

from collections.abc import Callable
from typing import Any

RESOURCES: tuple[Callable[..., Any], ...] = ()
