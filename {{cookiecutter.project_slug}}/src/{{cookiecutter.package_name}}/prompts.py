"""Your prompts: texts that a user picks. Plain typed functions, listed in `PROMPTS`."""

from typing import Annotated

from pydantic import Field

from mcp_chassis import prompt
from mcp_chassis.sinks import sanitize_input


@prompt(title="Introduce somebody")
def introduce(name: Annotated[str, Field(max_length=100, description="Whom to introduce")]) -> str:
    """Ask the model to introduce somebody in two sentences."""
    return f"Introduce {sanitize_input(name)} in two friendly sentences."


PROMPTS = (introduce,)
