"""Whose fault a failure is: the caller's input, the tool's own or its configuration's, or that of another system."""


class InvalidInput(ValueError):
    """Input that a check refused: the caller can avoid it by asking differently.

    The message names the rule and the place, never the value: it goes back to the caller and into the event log.
    """


class ConfigurationError(Exception):
    """The tool uses a sink wrongly, or this server is not set up for it. The caller only learns that the tool failed.

    No ValueError: a validator of pydantic would make a fault of the caller's of it. The message goes into the log, and
    names no value.
    """


class UpstreamError(Exception):
    """Another system, asked by a tool, failed: it is down, does not prove who it is, or answers nonsense.

    The message is for the caller and names nothing of the internal network. The cause is for the log, and holds neither
    a credential nor a value.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class CommandError(UpstreamError):
    """A program that did not end in time."""


def refuse_length(text: str, max_length: int, *, what: str = "it") -> None:
    """Refuse a text of more than `max_length` characters, and a maximum that is not positive."""
    if max_length < 1:
        raise ConfigurationError("max_length must be positive")
    if len(text) > max_length:
        raise InvalidInput(f"{what} is longer than {max_length} characters")
