"""What settings must not say together, and what each secret must be: every rule, as a sentence that says what to do."""

import re
from importlib.util import find_spec
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..http.origins import is_loopback, is_plain_port
from .fields import SettingsFields

_MIN_KEY_LENGTH = 32
_PLACEHOLDER = re.compile(r"change.?me|replace.?(me|this)|placeholder|example|your.?(api.?)?key", re.IGNORECASE)
_MAKE_KEY = "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
_REDIS_URL = re.compile(r"(rediss?|unix)://")


def contradictions(settings: SettingsFields) -> list[str]:
    """Every rule between settings, each with what to do."""
    problems = []
    some_key = settings.api_key or settings.keys or settings.keys_file
    if settings.enable_auth and settings.auth_mode == "api-key" and some_key is None:
        problems.append("API_KEY: is missing while ENABLE_AUTH is true. Run `python scripts/create_env.py`.")
    if settings.failed_auth_overall < settings.max_failed_auth_per_minute:
        problems.append("MAX_FAILED_AUTH_OVERALL: is smaller than MAX_FAILED_AUTH_PER_MINUTE. Leave it empty.")
    if settings.api_key is not None and (reason := _weakness(settings.api_key.get_secret_value())):
        problems.append(f"API_KEY: {reason}. {_MAKE_KEY}")
    problems += _oauth_problems(settings) if settings.enable_auth else []
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
    problems += _sharing_problems(settings) + _watching_problems(settings)
    if settings.mcp_endpoint == settings.health_endpoint:
        problems.append("HEALTH_ENDPOINT: is the same as MCP_ENDPOINT. Choose two different paths.")
    if settings.rate_limit_burst is not None and not settings.enable_rate_limit:
        problems.append("RATE_LIMIT_BURST: has no effect while ENABLE_RATE_LIMIT is false. Remove one of the two.")
    return problems


def _sharing_problems(settings: SettingsFields) -> list[str]:
    """Say what several processes need so that they are one server to their clients."""
    problems = []
    if settings.redis_url is not None and find_spec("redis") is None:
        problems.append(
            "REDIS_URL: needs the redis client. Install it: pip install redis, or this project's [redis] extra."
        )
    if settings.redis_url is not None and not _REDIS_URL.match(settings.redis_url.get_secret_value()):
        problems.append("REDIS_URL: must start with redis://, rediss:// or unix://, such as redis://127.0.0.1:6379/0.")
    for name in ("replicas", "workers"):
        if getattr(settings, name) > 1 and settings.redis_url is None:
            problems.append(
                f"{name.upper()}: more than 1 needs REDIS_URL: otherwise each process counts for itself and "
                "knows nothing of confirmations that another has asked for."
            )
    if settings.redis_url is not None and not settings.state_secret:
        problems.append(f"STATE_SECRET: is missing while REDIS_URL is set. Give all replicas the same one. {_MAKE_KEY}")
    for secret in settings.state_secrets:
        if reason := _weakness(secret):
            problems.append(f"STATE_SECRET: {reason}.")
    if len(set(settings.state_secrets)) < len(settings.state_secrets):
        problems.append("STATE_SECRET: names one secret twice. To rotate, write the new one and the old one.")
    return problems


def _watching_problems(settings: SettingsFields) -> list[str]:
    """Return what keeps the audit trail, metrics and traces from working."""
    problems = []
    key = settings.audit_key.get_secret_value() if settings.audit_key is not None else None
    if settings.audit_file is not None and key is None:
        problems.append(f"AUDIT_KEY: is missing while AUDIT_FILE is set. {_MAKE_KEY}")
    if key is not None and (reason := _weakness(key)):
        problems.append(f"AUDIT_KEY: {reason}. {_MAKE_KEY}")
    if key is not None and settings.api_key is not None and key == settings.api_key.get_secret_value():
        problems.append(f"AUDIT_KEY: is the same as API_KEY, which clients know. {_MAKE_KEY}")
    if settings.metrics_port == settings.port:
        problems.append("METRICS_PORT: is the same as PORT. Choose another, or leave it empty for /metrics on PORT.")
    if settings.otel_exporter_otlp_endpoint is not None:
        if re.match(r"https?://[^/]", settings.otel_exporter_otlp_endpoint) is None:
            problems.append("OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL such as http://127.0.0.1:4318.")
        if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
            problems.append("OTEL_EXPORTER_OTLP_ENDPOINT: needs this project's [otel] extra. Install it.")
    return problems


def _oauth_problems(settings: SettingsFields) -> list[str]:
    """Lead through what an authorization server needs, a sentence for each thing that is missing."""
    oauth = {name: value for name, value in settings if name.startswith("oauth_")}
    if settings.auth_mode != "oauth":
        given = [name.upper() for name, value in oauth.items() if isinstance(value, str | SecretStr)]
        return [
            f"{name}: has no effect while AUTH_MODE is {settings.auth_mode}. Set AUTH_MODE=oauth." for name in given
        ]
    problems = []
    if settings.oauth_issuer is None:
        problems.append(
            "OAUTH_ISSUER: is missing while AUTH_MODE is oauth. Set it to the issuer URL of your authorization server."
        )
    for name in ("oauth_issuer", "oauth_introspection_url"):
        if oauth[name] is not None and (reason := _unsafe_url(oauth[name], settings)):
            problems.append(f"{name.upper()}: {reason}")
    if "/.well-known/" in (settings.oauth_issuer or ""):
        problems.append("OAUTH_ISSUER: is the URL of a document. Leave out the part from /.well-known/ on.")
    client = ("oauth_introspection_url", "oauth_client_id", "oauth_client_secret")
    if any(oauth[name] is not None for name in client):
        problems += [
            f"{name.upper()}: is missing. Tokens that are not JWTs need OAUTH_INTROSPECTION_URL, OAUTH_CLIENT_ID and "
            "OAUTH_CLIENT_SECRET. Set all three, or none."
            for name in client
            if oauth[name] is None
        ]
    return problems


def _unsafe_url(url: str, settings: SettingsFields) -> str | None:
    """Return what keeps a URL of the authorization server from being used (RFC 8414, section 2)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not a URL. Write https://host/path."
    local = settings.oauth_allow_http_issuer and settings.environment == "development" and is_loopback(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        return (
            "must start with https://. For an issuer on this machine set OAUTH_ALLOW_HTTP_ISSUER=true "
            "with ENVIRONMENT=development."
        )
    is_plain = url.isprintable() and is_plain_port(parts.netloc)
    if not host or parts.username is not None or parts.query or parts.fragment or not is_plain:
        return "must be https://host/path, without a user name, a query, a fragment or zeros in front of a port."
    return None


def _weakness(key: str) -> str | None:
    if len(key) < _MIN_KEY_LENGTH:
        return f"is shorter than {_MIN_KEY_LENGTH} characters"
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", key):
        return "holds characters that a bearer token cannot carry"
    if _PLACEHOLDER.search(key) or len(set(key)) < 12:
        return "looks like a placeholder"
    return None
