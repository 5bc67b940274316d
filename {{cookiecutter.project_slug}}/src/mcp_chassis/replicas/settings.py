"""The settings of several processes as one server, and their rules."""

import hmac
import re
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from ..settings.fields import MAKE_KEY, RoomSettings, SettingsFields, parts, unsecret, weakness

_URL = re.compile(r"rediss?://[^/?#]*(/[0-9]*)?(\?[^#]*)?|unix://[^#]*")


class ReplicaSettings(RoomSettings):
    """What replicas share, and how many there are."""

    redis_url: SecretStr | None = None
    redis_timeout: Annotated[float, Field(gt=0, le=10)] = 0.25
    rate_limit_on_outage: Literal["local", "closed", "open"] = "local"
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    state_secret: SecretStr | None = None

    @property
    def state_keys(self) -> tuple[bytes, ...]:
        """Keys for what clients carry between rounds of a call, derived from `STATE_SECRET` for this use only."""
        return tuple(hmac.digest(part.encode(), b"request state", "sha256") for part in self.state_secrets)

    @property
    def state_secrets(self) -> tuple[str, ...]:
        """`STATE_SECRET`: the newest first, and those that are being replaced."""
        return parts(self.state_secret.get_secret_value()) if self.state_secret is not None else ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be logged. Of the URL only its password: the rest is in ordinary lines as well."""
        url = self.redis_url
        password = (unsecret(url),) if url is not None and "@" in url.get_secret_value() else ()
        return (*password, *self.state_secrets)

    def problems(self, settings: SettingsFields) -> list[str]:
        """Return what several processes lack to act as one server."""
        problems = []
        if self.redis_url is not None:
            if find_spec("redis") is None:
                problems.append(
                    "REDIS_URL: needs the redis client. Install the project again: `uv sync`, or `pip install -e .`."
                )
            elif not _is_usable(self.redis_url.get_secret_value()):
                problems.append(
                    "REDIS_URL: is not a URL such as redis://127.0.0.1:6379/0, rediss://:password@host:6379/0 or "
                    "unix:///run/redis.sock. In a password write %2F for /, %23 for #, %3F for ? and %40 for @."
                )
            if not self.state_secret:
                problems.append(
                    f"STATE_SECRET: is missing while REDIS_URL is set. Give all replicas the same one. {MAKE_KEY}"
                )
        else:
            problems += [
                f"{name}: more than 1 needs REDIS_URL: otherwise each process counts for itself and "
                "knows nothing of confirmations that another has asked for."
                for name, number in (("REPLICAS", self.replicas), ("WORKERS", self.workers))
                if number > 1
            ]
        problems += [f"STATE_SECRET: {reason}. {MAKE_KEY}" for reason in map(weakness, self.state_secrets) if reason]
        if len(set(self.state_secrets)) < len(self.state_secrets):
            problems.append("STATE_SECRET: names one secret twice. To rotate, write the new one and the old one.")
        return problems


def _is_usable(url: str) -> bool:
    from redis.asyncio import ConnectionPool  # noqa: PLC0415  (slow, and used only where a Redis is set)

    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # it connects later
    except (ValueError, TypeError):  # an option that is unknown, or has no such value
        return False
    return _URL.fullmatch(url) is not None
