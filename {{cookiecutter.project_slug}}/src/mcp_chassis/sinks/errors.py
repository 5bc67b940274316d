"""The two exceptions of this package: the input is refused, or the program did not do what it should."""


class InvalidInput(ValueError):
    """Input that a check refused.

    The message names the rule and the place, never the value: it goes back to the caller and into the event log.
    """


class CommandError(Exception):
    """A program that could not be started, or did not end in time. The message may be shown to the caller."""
