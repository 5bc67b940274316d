"""The optional rooms: what is known of one that a project does not have."""

from pathlib import Path

import pytest

from mcp_chassis import rooms
from mcp_chassis.rooms import OFFERS, Offer
from mcp_chassis.settings import SettingsError, load_settings

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.package)
def test_an_offer_names_every_setting_of_its_room_with_the_default(offer: Offer) -> None:
    fields = rooms.rooms()[offer.package].settings.model_fields
    defaults = {name.upper(): field.default for name, field in fields.items()}
    assert offer.settings == {
        name: None if name == "STATE_SECRET" else "" if value in {None, ()} else str(value).lower()
        for name, value in defaults.items()
    }


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.package)
def test_a_setting_of_an_absent_room_is_an_error_that_says_how_to_add_it(
    offer: Offer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    present = {package: room for package, room in rooms.rooms().items() if package != offer.package}
    for place in ("mcp_chassis.rooms.rooms", "mcp_chassis.settings.rooms"):
        monkeypatch.setattr(place, lambda: present)
    env_file = tmp_path_factory.mktemp("env") / ".env"
    for name, neutral in offer.settings.items():
        env_file.write_text(f"{name}={KEY if neutral is None else neutral}\n", encoding="utf-8")
        load_settings(_env_file=env_file, api_key=KEY)
        if neutral is None:
            continue
        env_file.write_text(f"{name}=something\n", encoding="utf-8")
        with pytest.raises(SettingsError) as error:
            load_settings(_env_file=env_file, api_key=KEY)
        change = f'{{"{offer.question}": "{offer.answer}"}}'
        assert error.value.problems == [
            f"{name}: has no effect, as this project was made without {offer.package}. Remove it from the settings. "
            f"Or add the package, and install again: uvx cruft update --variables-to-update '{change}'"
        ]


@pytest.mark.parametrize(
    ("name", "value", "is_refused"),
    [
        ("redis_url", "redis://x", True),
        ("Audit_File", "/x", True),
        ("auth_mode", "OAuth", True),
        ("WORKERS", "02", True),
        ("WORKERS", " 1 ", False),
        ("OAUTH_ALLOW_HTTP_ISSUER", "0", False),
        ("rate_limit_on_outage", " Local ", False),
        ("AUDIT_KEY", " ", False),
    ],
)
@pytest.mark.parametrize("source", ["environment", "file", "secret"])
def test_a_setting_of_an_absent_room_is_read_as_settings_are(
    name: str, value: str, *, is_refused: bool, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place in ("mcp_chassis.rooms.rooms", "mcp_chassis.settings.rooms"):
        monkeypatch.setattr(place, dict)
    env_file = tmp_path / ".env"
    env_file.write_text(f'{name}="{value}"\n' if source == "file" else "", encoding="utf-8")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    if source == "environment":
        monkeypatch.setenv(name, value)
    if source == "secret":
        (tmp_path / name).write_text(value, encoding="utf-8")
    if not is_refused:
        load_settings(_env_file=env_file, api_key=KEY)
        return
    with pytest.raises(SettingsError, match=f"{name.upper()}: has no effect, as this project was made without"):
        load_settings(_env_file=env_file, api_key=KEY)


def test_auth_mode_none_leads_to_the_switch_of_authentication_not_to_oauth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place in ("mcp_chassis.rooms.rooms", "mcp_chassis.settings.rooms"):
        monkeypatch.setattr(place, dict)
    (tmp_path / ".env").write_text("AUTH_MODE=None\n", encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_settings(_env_file=tmp_path / ".env", api_key=KEY)
    (problem,) = error.value.problems
    assert "ENABLE_AUTH=false" in problem
    assert "cruft" not in problem


def test_a_secret_of_an_absent_room_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place in ("mcp_chassis.rooms.rooms", "mcp_chassis.settings.rooms"):
        monkeypatch.setattr(place, dict)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    (tmp_path / "audit_file").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="audit_file: cannot be read"):
        load_settings(_env_file=None, api_key=KEY)
