"""The rules between settings, and those for secrets. Each problem is a sentence with what to do."""

import re

from ..http.origins import is_loopback
from .fields import SettingsFields

_MIN_KEY_LENGTH = 32
_PLACEHOLDER = re.compile(r"change.?me|replace.?(me|this)|placeholder|example|your.?(api.?)?key", re.IGNORECASE)
_RUN = "Run `python scripts/create_env.py`."
_NO_FILE = (
    "There is no .env in this directory. Run this in the project's directory, name the file with --env-file, or make "
    "one with `python scripts/create_env.py`."
)
MAKE_KEY = "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`."


def contradictions(settings: SettingsFields, *, needs_key: bool, has_file: bool = True) -> list[str]:
    """Return the problems between settings.

    Args:
        settings: of the server.
        needs_key: whether API keys are the only credentials.
        has_file: whether there is an `.env`, or none is read.
    """
    problems = []
    some_key = settings.api_key or settings.keys or settings.keys_file
    if settings.enable_auth and needs_key and some_key is None:
        problems.append(f"API_KEY: is missing while ENABLE_AUTH is true. {_RUN if has_file else _NO_FILE}")
    if settings.failed_auth_overall < settings.max_failed_auth_per_minute:
        problems.append("MAX_FAILED_AUTH_OVERALL: is smaller than MAX_FAILED_AUTH_PER_MINUTE. Leave it empty.")
    if settings.api_key is not None and (reason := weakness(settings.api_key.get_secret_value())):
        make = MAKE_KEY.replace("secrets.token", '"mcp_" + secrets.token')
        problems.append(f"API_KEY: {reason}. {make}")
    if not is_loopback(settings.host):
        if not settings.enable_auth:
            problems.append(
                f"HOST: {settings.host} is reachable by others while ENABLE_AUTH is false. "
                "Set ENABLE_AUTH=true, or HOST=127.0.0.1."
            )
        if settings.public_url is None:
            problems.append(
                f"PUBLIC_URL: is needed to listen on {settings.host}, because other Host headers are refused. "
                "Set it to the URL that clients use, such as https://mcp.example.com."
            )
    if settings.mcp_endpoint == settings.health_endpoint:
        problems.append("HEALTH_ENDPOINT: is the same as MCP_ENDPOINT. Choose two different paths.")
    if settings.rate_limit_burst is not None and not settings.enable_rate_limit:
        problems.append("RATE_LIMIT_BURST: has no effect while ENABLE_RATE_LIMIT is false. Remove one of the two.")
    return problems


def weakness(key: str) -> str | None:
    """Return why a text cannot be used as a secret, or None."""
    if len(key) < _MIN_KEY_LENGTH:
        return f"is shorter than {_MIN_KEY_LENGTH} characters"
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", key):
        return "holds characters that a bearer token cannot carry"
    if _PLACEHOLDER.search(key) or len(set(key)) < 12:
        return "looks like a placeholder"
    return None
