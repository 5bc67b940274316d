"""What a call may do: the guard that every tool call, resource read and prompt passes."""
