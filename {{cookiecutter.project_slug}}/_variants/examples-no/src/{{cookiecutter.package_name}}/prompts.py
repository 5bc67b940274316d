"""Your prompts: texts that a user picks. Plain typed functions, listed in `PROMPTS`."""

from collections.abc import Callable
from typing import Any

PROMPTS: tuple[Callable[..., Any], ...] = ()
