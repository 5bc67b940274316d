"""Notes in a directory: files that callers name, and that stay below one root whatever they say."""

from typing import Annotated

from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.sinks import SafeRoot, Text

NOTES = SafeRoot("notes", max_bytes=65_536)

NotePath = Annotated[str, Field(min_length=1, max_length=255, description="Name of the note, such as todo.txt")]


@tool(title="List notes", scopes=("notes:read",), read_only=True, open_world=False)
def list_notes() -> list[str]:
    """List the names of the notes."""
    return list(NOTES.list())


@tool(title="Read a note", scopes=("notes:read",), read_only=True, open_world=False)
def read_note(path: NotePath) -> str:
    """Return the text of a note."""
    return NOTES.read_text(path)


# It destroys nothing: a note that exists is left alone. A tool that replaced it would say destructive=True, and the
# guard would ask a person before every call.
@tool(title="Write a note", scopes=("notes:write",), destructive=False, open_world=False, calls_per_minute=60)
def write_note(path: NotePath, text: Annotated[Text, Field(description="Content of the note")]) -> str:
    """Write a new note. A note of that name must not exist."""
    NOTES.write_text(path, text, overwrite=False)
    return "The note is written."
