"""The path of one tool call, resource read or prompt."""
