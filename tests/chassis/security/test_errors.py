"""The one exception that the caller may see."""

from mcp_chassis import sinks as security


def test_everything_a_tool_author_needs_is_exported() -> None:
    guide = {"sanitize_input", "validate_file_path", "validate_url"}
    sinks = {"SafeRoot", "SafeFetcher", "run_argv", "fill_url"}
    assert guide | sinks <= set(security.__all__)
    assert all(hasattr(security, name) for name in security.__all__)


def test_a_refusal_is_a_value_error_so_that_pydantic_validators_can_raise_it() -> None:
    assert issubclass(security.InvalidInput, ValueError)
