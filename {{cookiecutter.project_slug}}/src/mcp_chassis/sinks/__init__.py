"""Functions that are safe with any input from the model. Import them from here."""

from .commands import Finished, Programs, options, run_argv
from .errors import CommandError, ConfigurationError, InvalidInput, UpstreamError
from .fetch import SafeFetcher
from .http import Fetched
from .paths import validate_file_path
from .safe_root import SafeRoot
from .text import (
    Argument,
    Identifier,
    Name,
    Text,
    check_argument,
    check_identifier,
    check_name,
    check_text,
    sanitize_input,
)
from .upstream import Upstream
from .urls import fill_url, validate_url

__all__ = [
    "Argument",
    "CommandError",
    "ConfigurationError",
    "Fetched",
    "Finished",
    "Identifier",
    "InvalidInput",
    "Name",
    "Programs",
    "SafeFetcher",
    "SafeRoot",
    "Text",
    "Upstream",
    "UpstreamError",
    "check_argument",
    "check_identifier",
    "check_name",
    "check_text",
    "fill_url",
    "options",
    "run_argv",
    "sanitize_input",
    "validate_file_path",
    "validate_url",
]
