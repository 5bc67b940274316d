"""Your settings are explained in `.env.example` and in docs/settings.md."""

from mcp_chassis.cli import run

from {{ cookiecutter.package_name }}.server import SERVER


def test_the_files_that_explain_your_settings_are_up_to_date() -> None:
    assert run(SERVER, ["settings", "--check"]) == 0, "run the command `settings`"
