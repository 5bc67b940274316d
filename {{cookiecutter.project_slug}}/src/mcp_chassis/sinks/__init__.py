"""Functions that are safe with any input from the model. Import them from here."""

from .commands import Finished, Programs, options, run_argv
from .dialling import FetchError
from .errors import CommandError, InvalidInput
from .fetch import Fetched, SafeFetcher
from .paths import validate_file_path
from .safe_root import SafeRoot
from .templates import fill_url
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
from .urls import validate_url

__all__ = [
    "Argument",
    "CommandError",
    "FetchError",
    "Fetched",
    "Finished",
    "Identifier",
    "InvalidInput",
    "Name",
    "Programs",
    "SafeFetcher",
    "SafeRoot",
    "Text",
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
