"""The optional rooms: what is known of one that a project does not have."""

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
            f"{name}: This project was made without {offer.package}. "
            f"Add it: cruft update --variables-to-update '{change}'"
        ]
