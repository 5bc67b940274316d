"""The settings of evals: which model is asked."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..http.origins import is_loopback
from ..settings.fields import RoomSettings, SettingsFields


class EvalSettings(RoomSettings):
    """The endpoint that answers as a model."""

    eval_api: Literal["openai", "anthropic"] = "openai"
    eval_url: str | None = None
    eval_model: str | None = None
    eval_key: SecretStr | None = None

    def problems(self, settings: SettingsFields) -> list[str]:
        """Return why no model can be asked."""
        if self.eval_url is None:
            return []
        problems = []
        try:
            parts = urlsplit(self.eval_url)
            is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        except ValueError:  # not a URL
            is_safe = False
        if not is_safe:
            problems.append("EVAL_URL: must begin with https://, or be http:// on this machine: it gets EVAL_KEY.")
        if self.eval_model is None:
            problems.append("EVAL_MODEL: is missing while EVAL_URL is set. Name the model to ask.")
        return problems
