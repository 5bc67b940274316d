"""Safe ways to handle what a model said. Import from here: `from <package>.security import sanitize_input`."""

from .errors import InvalidInput
from .paths import validate_file_path
from .text import sanitize_input
from .urls import validate_url

__all__ = ["InvalidInput", "sanitize_input", "validate_file_path", "validate_url"]
