"""How a function says that it is a resource."""

import pytest

from {{ cookiecutter.package_name }}.policy.declare import (
    ResourceDeclaration,
    resource,
    resource_declaration,
)


def test_the_function_stays_as_it_is_and_knows_its_uri() -> None:
    def note(name: str) -> str:
        return f"note {name}"

    declared = resource("notes://{name}", title="A note", mime_type="text/markdown")(note)
    assert declared is note
    assert declared("a") == "note a"
    assert resource_declaration(declared) == ResourceDeclaration("notes://{name}", "A note", "text/markdown")


def test_a_function_without_declaration_is_refused_with_what_to_write() -> None:
    def forgotten() -> str:
        return ""

    with pytest.raises(TypeError, match=r"forgotten is listed in RESOURCES without a URI: write @resource"):
        resource_declaration(forgotten)
