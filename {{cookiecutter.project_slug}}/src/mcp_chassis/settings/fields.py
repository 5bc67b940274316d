"""Every setting of the server, what each may be by itself, with words for what is wrong, and what follows from them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretBytes, SecretStr, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from ..http.origins import host_name, is_path, normal_origin, page_origin, public_url, shown
from ..http.routes import WELL_KNOWN
from ..limits.client_address import Network, parse_network
from ..sinks.urls import DEFAULT_PORTS

_TAKEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/security/events"})
_MIN_KEY_LENGTH = 32
_PLACEHOLDER = re.compile(r"change.?me|replace.?(me|this)|placeholder|example|your.?(api.?)?key", re.IGNORECASE)
_MISSING = "is missing, and has no default. Set it in the environment, in .env, or as a file in SECRETS_DIR."
_KINDS = {  # of JSON schemas
    **{"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"},
    **{"array": "a list in JSON, in square brackets", "object": "an object in JSON, in braces"},
}
_LIMITS = {
    **{"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}", "exclusiveMaximum": "below {}"},
    **{"minLength": "of at least {} characters", "maxLength": "of at most {} characters"},
    **{"format": "of the form {}", "pattern": "of the pattern {}", "multipleOf": "that is a multiple of {}"},
    **{"minItems": "with at least {} items", "maxItems": "with at most {} items"},
}
# Errors of pydantic: of a type, which words express; of bounds, which they may; and those that repeat the value.
_OF_TYPE = re.compile(r".*_(type|parsing|parsing_size|from_float|error|invalid|mismatch)|is_instance_of|enum")
_OF_BOUNDS = re.compile(r"(greater|less)_than(_equal)?|multiple_of|(.+_)?too_(short|long)")
_REPEATS = {"union_tag_invalid", "import_error", "byte_size_unit", "uuid_parsing", "bytes_invalid_encoding"}
MAKE_KEY = "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`."


def parts(value: Any) -> Any:
    """Split a list that is written with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _networks(value: Any) -> Any:
    return tuple(_network(part) if isinstance(part, str) else part for part in parts(value))


def _network(text: str) -> Network:
    try:
        return parse_network(text)
    except ValueError:
        raise ValueError(f"{shown(text)!r} is not an address or network such as 192.0.2.7 or 10.0.0.0/8") from None


def _choice(kind: Any, **synonyms: str) -> BeforeValidator:
    """Return what accepts the words of a `Literal` in any case, and other usual words for them."""
    known = {word.lower(): word for word in get_args(kind)} | synonyms
    return BeforeValidator(lambda value: known.get(value.strip().lower(), value) if isinstance(value, str) else value)


def _regular(path: Path) -> Path:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("is not a regular file. Name one, or one that does not exist yet")
    except OSError as error:
        raise ValueError(f"cannot be reached: {error.strerror}. Correct the path, or the rights on the way") from None
    return path


def unsecret(secret: SecretStr | SecretBytes) -> str:
    """Return what must never be logged: of a URL with a password only that, the rest is in ordinary lines as well."""
    given = secret.get_secret_value()
    text = given if isinstance(given, str) else given.decode(errors="replace")
    try:
        return unquote(urlsplit(text).password or "") or text
    except ValueError:  # not a URL
        return text


def _secrets_in(value: Any) -> Iterator[SecretStr | SecretBytes]:
    if isinstance(value, SecretStr | SecretBytes):
        yield value
    elif isinstance(value, Mapping | BaseModel):
        for _, part in value.items() if isinstance(value, Mapping) else value:
            yield from _secrets_in(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _secrets_in(part)


def _free_path(value: str) -> str:
    if not is_path(value):
        raise ValueError("must be a path such as /mcp, without a slash at the end")
    if value in _TAKEN_PATHS or WELL_KNOWN in f"{value}/":
        raise ValueError(f"{value} is taken. Choose another path")
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
_Host = Annotated[str, AfterValidator(host_name)]
_Origin = Annotated[str, AfterValidator(page_origin)]
_PublicUrl = Annotated[str, AfterValidator(public_url)]
_Path = Annotated[str, AfterValidator(_free_path)]
_File = Annotated[Path, AfterValidator(_regular)]
_FileOrNone = Annotated[_File | None, BeforeValidator(lambda value: None if value == "none" else value)]
_Levels = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_LogLevel = Annotated[_Levels, _choice(_Levels, trace="DEBUG", warn="WARNING", err="ERROR", fatal="CRITICAL")]
_Formats = Literal["auto", "json", "console", "ecs"]
_LogFormat = Annotated[_Formats, _choice(_Formats, text="console")]
_Api = Literal["openai", "anthropic", "gemini"]
_Kinds = Literal["development", "production"]
_SYNONYMS = {"dev": "development", "local": "development", "prod": "production", "live": "production"}
_Environment = Annotated[_Kinds, _choice(_Kinds, **_SYNONYMS)]


class _Sources(BaseSettings):
    """Where settings are read from."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be logged. `KEYS` holds digests, in a text whose pieces are in ordinary lines."""
        return tuple(unsecret(one) for name, value in self if name != "keys" for one in _secrets_in(value))


class SettingsFields(_Sources):
    """What can be configured. Names in the environment are these in upper case; `.env.example` explains each."""

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: _PublicUrl | None = None
    allowed_hosts: Annotated[tuple[_Host, ...], NoDecode, BeforeValidator(parts)] = ()
    mcp_endpoint: _Path = "/mcp"
    health_endpoint: _Path = "/health"
    trusted_origins: Annotated[tuple[_Origin, ...], NoDecode, BeforeValidator(parts)] = ()
    trusted_proxies: Networks = ()
    blocked_clients: Networks = ()

    enable_auth: bool = True
    api_key: SecretStr | None = None
    keys_file: _File | None = None
    keys: SecretStr | None = None
    max_failed_auth_per_minute: Annotated[int, Field(ge=1, le=10_000)] = 10
    max_failed_auth_overall: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    enable_rate_limit: bool = True
    max_requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    max_body_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 1_048_576
    max_body_nodes: Annotated[int, Field(ge=1000, le=10_000_000)] = 20_000
    max_result_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 1_048_576
    max_result_tokens: Annotated[int, Field(ge=256, le=100_000_000)] = 25_000
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
    fast_path: bool = True

    enable_request_logging: bool = True
    log_level: _LogLevel = "INFO"
    log_format: _LogFormat = "auto"
    events_file: _FileOrNone = Path("var/events.db")
    result_redaction: bool = True
    mark_untrusted: bool = True
    tools_lock: _File = Path("tools.lock.json")
    tools_token_budget: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    model_apis: Annotated[tuple[_Api, ...], NoDecode, BeforeValidator(parts)] = get_args(_Api)
    environment: _Environment = "development"

    @property
    def burst(self) -> int:
        """Requests that may come at once: `RATE_LIMIT_BURST`, or a whole minute's worth."""
        return self.rate_limit_burst or self.max_requests_per_minute

    @property
    def failed_auth_overall(self) -> int:
        """Wrong credentials per minute of all addresses: `MAX_FAILED_AUTH_OVERALL`, or ten times those of one."""
        return self.max_failed_auth_overall or 10 * self.max_failed_auth_per_minute

    @property
    def own_origins(self) -> tuple[str, ...]:
        """Origins of this server itself: a page served from there may call it."""
        loopback = tuple(normal_origin(f"http://{name}:{self.port}") for name in ("127.0.0.1", "localhost", "[::1]"))
        return (*loopback, *(("/".join(self.public_url.split("/")[:3]),) if self.public_url else ()))

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """Values of `Host` that mean this server. Names of loopback stay allowed, for programs on the same machine."""
        bare = [host for host in self.allowed_hosts if urlsplit(f"//{host}").port is None]
        ports = (self.port, *DEFAULT_PORTS.values())
        hosts = [*self.allowed_hosts, *(f"{host}:{port}" for host in bare for port in ports)]
        for origin in map(urlsplit, self.own_origins):
            hosts.append(origin.netloc)
            if origin.port is None:  # a client may write the default port or leave it out
                hosts.append(f"{origin.netloc}:{DEFAULT_PORTS[origin.scheme]}")
        return tuple(hosts)

    @property
    def resource_url(self) -> str:
        """The URL that clients know this server by: the OAuth resource (RFC 8707)."""
        return (self.public_url or f"http://127.0.0.1:{self.port}") + self.mcp_endpoint


class RoomSettings(_Sources):
    """The settings of an optional room, read from the same sources."""

    def problems(self, settings: SettingsFields) -> Iterable[str]:
        """Return why these settings, beside those of the server, cannot be used: sentences with what to do."""
        return ()


def weakness(key: str) -> str | None:
    """Return why a text cannot be used as a secret, or None."""
    if len(key) < _MIN_KEY_LENGTH:
        return f"is shorter than {_MIN_KEY_LENGTH} characters"
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", key):
        return "holds characters that a bearer token cannot carry"
    if _PLACEHOLDER.search(key) or len(set(key)) < 12:
        return "looks like a placeholder"
    return None


class _Schema(GenerateJsonSchema):
    """A schema to make words of: a type that JSON cannot express takes any value."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  (as its base class has it)

    def handle_invalid_for_json_schema(self, *_: object) -> JsonSchemaValue:
        return {}


def faults(kind: type[BaseSettings], error: ValidationError | SourceError) -> Iterator[tuple[str, str]]:
    """Yield each faulty field and a sentence on it, without the value, which may be a secret."""
    # What is no JSON for a list or an object is an error of the source, and only its text names the field.
    problems: Any = [{"loc": re.findall(r'field "(\w+)"', str(error)), "type": "json_invalid", "msg": "is no JSON"}]
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    for problem in problems:
        name = str((*problem["loc"], "settings")[0])
        yield name, f"{name.upper() if problem['loc'] else name}: {_sentence(kind, name, problem)}"


def _sentence(kind: type[BaseSettings], name: str, problem: Mapping[str, Any]) -> str:
    """Return what a field takes, by its schema. Of a rule that this does not express, the message of pydantic."""
    loc, fault = problem["loc"], problem["type"]
    if fault in {"value_error", "assertion_error"}:  # of a rule here, or of the team's
        return re.sub("^(Value error|Assertion failed), ", "", problem["msg"]) or "is refused. Write another value."
    if fault == "missing" and len(loc) == 1:
        return _MISSING
    schema, words, depth = dict[str, Any](), "another value", 1
    with suppress(Exception):  # a team's own schema may hold anything, or fail
        schema = kind.model_json_schema(schema_generator=_Schema)
        member, field = schema["properties"][name], kind.model_fields.get(name)
        words = _words(member, schema)
        if field is not None and NoDecode in field.metadata and "items" in member:
            several = f"{_words(member['items'], schema)}, or several with commas between them"
            words, depth = words.replace(_KINDS["array"], several), 2
        elif " or " in words:  # of several types, the one that was tried is in the place of the error
            depth = 2
    if len(loc) <= depth and (_OF_TYPE.fullmatch(fault) or (_OF_BOUNDS.fullmatch(fault) and re.search(r"\d", words))):
        return f"write {words}."
    # Keys of an object are of the value. Those that the schema has are of the class.
    place = "".join(f"in {step}: " for step in loc[1:] if isinstance(step, int) or repr(step) in str(schema))
    return f"{place}{'write another value' if fault in _REPEATS else problem['msg'].rstrip('.')}."


def _words(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Return what a part of a schema takes, such as `a whole number from 1 up to 65535`."""
    schema = whole.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    if options := [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]:
        return " or ".join(_words(option, whole) for option in options)
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return f"one of {', '.join(map(str, choices))}"
    words = _KINDS.get(schema.get("type", ""), "another value")
    limits = (form.format(schema[name]) for name, form in _LIMITS.items() if schema.get(name, "password") != "password")
    return " ".join((words, *limits))
