"""Every switch of the server in one frozen object: environment variables, then `.env`, then a directory of secrets.

A server that is not safe as configured does not start: `load_settings` names every problem at once.
"""

import hmac
import ipaddress
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

EXIT_CONFIG = 78
"""What `sysexits.h` calls EX_CONFIG."""

MIN_KEY_LENGTH = 32
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PLACEHOLDER = re.compile(r"change.?me|replace.?(me|this)|placeholder|example|your.?(api.?)?key", re.IGNORECASE)
_HOST_LABELS = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)
_MAKE_KEY = "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_REDIS_URL = re.compile(r"(rediss?|unix)://")
_TAKEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/security/events"})


class SettingsError(Exception):
    """The settings cannot be used. `problems` says what to change, a sentence each, without any value of a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """What can be configured. Names in the environment are these in upper case; `.env.example` explains each."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    public_url: str | None = None
    mcp_endpoint: str = "/mcp"
    health_endpoint: str = "/health"
    trusted_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    blocked_clients: Annotated[tuple[Network, ...], NoDecode] = ()

    enable_auth: bool = True
    auth_mode: Literal["api-key", "oauth"] = "api-key"
    api_key: SecretStr | None = None
    keys_file: Path | None = None
    keys: SecretStr | None = None
    max_failed_auth_per_minute: Annotated[int, Field(ge=1, le=10_000)] = 10
    max_failed_auth_overall: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    oauth_issuer: str | None = None
    oauth_audience: str | None = None
    oauth_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    oauth_allow_http_issuer: bool = False
    oauth_max_token_lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    oauth_introspection_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: SecretStr | None = None

    enable_rate_limit: bool = True
    max_requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    redis_url: SecretStr | None = None
    redis_timeout: Annotated[float, Field(gt=0, le=10)] = 0.25
    rate_limit_on_outage: Literal["local", "closed", "open"] = "local"
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    state_secret: SecretStr | None = None

    max_body_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 1_048_576
    max_result_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 1_048_576
    max_concurrent_calls: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1000
    max_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_streams: Annotated[int, Field(ge=1, le=100_000)] = 500
    max_streams_per_caller: Annotated[int, Field(ge=1, le=100_000)] = 50
    max_stream_age: Annotated[float, Field(gt=0, le=86_400)] = 3600
    receive_timeout: Annotated[float, Field(gt=0, le=300)] = 10
    send_timeout: Annotated[float, Field(gt=0, le=300)] = 10
    keep_alive_timeout: Annotated[int, Field(ge=1, le=300)] = 5
    shutdown_timeout: Annotated[int, Field(ge=1, le=600)] = 10

    enable_request_logging: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    audit_file: Path | None = None
    audit_key: SecretStr | None = None
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    metrics_host: str = "127.0.0.1"
    otel_exporter_otlp_endpoint: str | None = None
    tools_lock: Path = Path("tools.lock.json")
    environment: Literal["development", "production"] = "development"

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("trusted_origins", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return _parts(value)

    @field_validator("trusted_proxies", "blocked_clients", "oauth_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        # An address with host bits set (10.0.0.1/8) is a typing error worth hearing of, but a lone address is fine.
        return tuple(_network(part) if isinstance(part, str) else part for part in _parts(value))

    @field_validator("trusted_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normal_origin(origin) for origin in value)

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        return None if value is None else normal_origin(value)

    @field_validator("mcp_endpoint", "health_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if not _PATH.fullmatch(value) or any(part in {".", ".."} for part in value.split("/")):
            raise ValueError("must be a path such as /mcp, without a slash at the end")
        if value in _TAKEN_PATHS or value.startswith("/.well-known/"):
            raise ValueError(f"{value} is taken")
        return value

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if problems := _contradictions(self):
            raise ValueError("\n".join(problems))
        return self

    @property
    def burst(self) -> int:
        """Requests that may come at once: `RATE_LIMIT_BURST`, or a whole minute's worth."""
        return self.rate_limit_burst or self.max_requests_per_minute

    @property
    def failed_auth_overall(self) -> int:
        """Wrong credentials per minute of all addresses: `MAX_FAILED_AUTH_OVERALL`, or ten times those of one."""
        return self.max_failed_auth_overall or 10 * self.max_failed_auth_per_minute

    @property
    def state_keys(self) -> tuple[bytes, ...]:
        """Keys for what clients carry between rounds of a call, made of `STATE_SECRET` and for nothing else."""
        return tuple(hmac.digest(part.encode(), b"request state", "sha256") for part in self._state_secrets)

    @property
    def _state_secrets(self) -> tuple[str, ...]:
        return _parts(self.state_secret.get_secret_value()) if self.state_secret is not None else ()

    @property
    def own_origins(self) -> tuple[str, ...]:
        """Origins of this server itself: a page served from there may call it."""
        loopback = tuple(normal_origin(f"http://{name}:{self.port}") for name in ("127.0.0.1", "localhost", "[::1]"))
        return (*loopback, *((self.public_url,) if self.public_url else ()))

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Values of `Host` that mean this server. Names of loopback stay allowed, for probes on the same machine."""
        hosts = []
        for origin in map(urlsplit, self.own_origins):
            hosts.append(origin.netloc)
            if origin.port is None:  # a client may write the default port or leave it out
                hosts.append(f"{origin.netloc}:{_DEFAULT_PORTS[origin.scheme]}")
        return tuple(hosts)

    @property
    def resource_url(self) -> str:
        """The URL that clients know this server by: the OAuth resource (RFC 8707)."""
        return (self.public_url or f"http://127.0.0.1:{self.port}") + self.mcp_endpoint

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be logged."""
        given = (self.api_key, self.redis_url, self.oauth_client_secret, self.audit_key)
        return (*(secret.get_secret_value() for secret in given if secret is not None), *self._state_secrets)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Args:
        overrides: settings that win over every source, for tests and for command-line options.

    Raises:
        SettingsError: naming every problem.
    """
    directory = Path(os.environ.get("SECRETS_DIR", "/run/secrets"))
    sources: dict[str, Any] = {"_secrets_dir": directory} if directory.is_dir() else {}
    try:
        return Settings(**sources, **overrides)
    except ValidationError as error:
        problems, faulty = _sentences(error)
    except UnicodeDecodeError:
        raise SettingsError([".env: is not UTF-8. Save it in that encoding."]) from None
    if faulty:
        # The rules between settings have not run yet: ask again with the faulty ones at their defaults.
        defaults = {name: Settings.model_fields[name].default for name in faulty}
        try:
            Settings(**sources, **(overrides | defaults))
        except ValidationError as error:
            problems += _sentences(error)[0]
    raise SettingsError(problems)


def normal_origin(text: str) -> str:
    """Return `text` as a browser would write it in `Origin` (RFC 6454, section 6.1).

    Raises:
        ValueError: saying what an origin looks like.
    """
    if not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is not an origin: write https://host or https://host:port")
    if text == "*":
        raise ValueError("'*' is not allowed: list the exact origins, such as https://app.example.com")
    try:
        parts = urlsplit(text.removesuffix("/"))
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} is not an origin: write https://host or https://host:port") from None
    host = parts.hostname or ""
    if not host.isascii():
        raise ValueError(f"{text!r}: write the host as browsers send it, in its xn-- form")
    extra = parts.path or parts.query or parts.fragment or parts.username is not None or parts.password is not None
    if (
        parts.scheme not in _DEFAULT_PORTS
        or extra
        or "%" in host
        or not (_HOST_LABELS.fullmatch(host) or _is_address(host))
    ):
        raise ValueError(f"{text!r} is not an origin: write https://host or https://host:port, without a path")
    name = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _contradictions(settings: Settings) -> list[str]:
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


def _sharing_problems(settings: Settings) -> list[str]:
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
        problems.append(
            "STATE_SECRET: is missing while REDIS_URL is set. Give all replicas the same one, made with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
        )
    for secret in settings._state_secrets:
        if reason := _weakness(secret):
            problems.append(f"STATE_SECRET: {reason}.")
    if len(set(settings._state_secrets)) < len(settings._state_secrets):
        problems.append("STATE_SECRET: names one secret twice. To rotate, write the new one and the old one.")
    return problems


def _watching_problems(settings: Settings) -> list[str]:
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


def _oauth_problems(settings: Settings) -> list[str]:
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


def _unsafe_url(url: str, settings: Settings) -> str | None:
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
    if not host or parts.username is not None or parts.query or parts.fragment or not url.isprintable():
        return "must be https://host/path, without a user name, a query or a fragment."
    return None


def _weakness(key: str) -> str | None:
    if len(key) < MIN_KEY_LENGTH:
        return f"is shorter than {MIN_KEY_LENGTH} characters"
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", key):
        return "holds characters that a bearer token cannot carry"
    if _PLACEHOLDER.search(key) or len(set(key)) < 12:
        return "looks like a placeholder"
    return None


def _parts(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network such as 192.0.2.7 or 10.0.0.0/8") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _sentences(error: ValidationError) -> tuple[list[str], set[str]]:
    """Return a sentence for every problem, and the names of the settings that are wrong by themselves."""
    sentences, faulty = [], set()
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            name = str(problem["loc"][0])
            faulty.add(name)
            sentences.append(f"{name.upper()}: {message}")
        else:
            sentences += message.splitlines()
    return sentences, faulty
