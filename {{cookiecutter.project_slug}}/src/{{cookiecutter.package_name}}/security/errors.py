"""The one exception that means: this input is refused, and the caller may know why."""


class InvalidInput(ValueError):
    """Input that a check refused.

    The message names the rule and the place, never the value: it goes back to the caller and into the event log.
    """
