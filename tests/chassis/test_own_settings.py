"""`settings`: a team's own settings are explained where people look for them, from the descriptions of the fields."""

from pathlib import Path
from typing import Annotated

import pytest
from baking import TEMPLATE, load_module
from pydantic import Field, SecretStr

from mcp_chassis import Service, Settings, cli

SCRIPT = load_module(TEMPLATE / "scripts" / "settings.py")
EXAMPLE, TABLE = "# --- Records ---\nLOG_LEVEL=INFO\n", "# Settings\n\n| `LOG_LEVEL` | `INFO` | Minimum level. |\n"


class OwnSettings(Settings):
    """Of a team."""

    database_url: Annotated[SecretStr, Field(description="Where the orders\n    are.")]
    max_orders: Annotated[int, Field(description="Orders in one list.")] = 10
    dry_run: bool = False
    regions: tuple[str, ...] = ("eu", "us")
    port: int = 9000  # the chassis's, with another default


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(SCRIPT, "PROJECT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / ".env.example").write_text(EXAMPLE)
    (tmp_path / "docs" / "settings.md").write_text(TABLE)
    return tmp_path


def test_they_are_written_checked_and_removed_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, none = (Service(module="own.server", settings=kind) for kind in (OwnSettings, Settings))
    assert cli.run(own, ["settings", "--check"], SCRIPT.add_command) == 1
    assert ".env.example: is not up to date. Run `own settings`." in capsys.readouterr().err
    assert cli.run(own, ["settings"], SCRIPT.add_command) == 0
    assert (project / ".env.example").read_text() == EXAMPLE + (
        "\n# --- Your own ---\n# Where the orders are.\nDATABASE_URL=\n# Orders in one list.\nMAX_ORDERS=10\n"
        "# Dry run.\nDRY_RUN=false\n# Regions.\nREGIONS=eu,us\n"
    )
    assert (project / "docs" / "settings.md").read_text() == TABLE + (
        "\n## Your own\n\n| Setting | Default | Meaning |\n| --- | --- | --- |\n"
        "| `DATABASE_URL` | required | Where the orders are. |\n| `MAX_ORDERS` | `10` | Orders in one list. |\n"
        "| `DRY_RUN` | `false` | Dry run. |\n| `REGIONS` | `eu,us` | Regions. |\n"
    )
    assert cli.run(own, ["settings", "--check"], SCRIPT.add_command) == 0
    assert cli.run(none, ["settings"], SCRIPT.add_command) == 0
    assert (project / ".env.example").read_text() == EXAMPLE
    assert (project / "docs" / "settings.md").read_text() == TABLE
