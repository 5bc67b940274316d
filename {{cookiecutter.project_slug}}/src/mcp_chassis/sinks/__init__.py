"""Functions that are safe with any input from the model. Import them from here."""

from .commands import Finished, Programs, options, run_argv
from .errors import CommandError, ConfigurationError, InvalidInput, UpstreamError
from .fetch import SafeFetcher
from .http import Fetched
from .safe_root import SafeRoot, validate_file_path
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

__all__ = ["CommandError", "ConfigurationError", "InvalidInput", "UpstreamError"]
__all__ += ["Argument", "Identifier", "Name", "Text"]
__all__ += ["check_argument", "check_identifier", "check_name", "check_text", "sanitize_input"]
__all__ += ["SafeRoot", "validate_file_path"]
__all__ += ["Fetched", "SafeFetcher", "Upstream", "fill_url", "validate_url"]
__all__ += ["Finished", "Programs", "options", "run_argv"]
