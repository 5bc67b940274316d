"""Values in URL templates stay where they were put."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.sinks import ConfigurationError, InvalidInput, fill_url

TEMPLATE = "https://api.example.com/users/{user}/notes?page={page}&order=asc"


def test_values_are_encoded_per_segment() -> None:
    assert (
        fill_url(TEMPLATE, user="Ann Lee", page=2) == "https://api.example.com/users/Ann%20Lee/notes?page=2&order=asc"
    )
    assert fill_url("https://a.example/{x}", x="a/b?c#d&é+") == "https://a.example/a%2Fb%3Fc%23d%26%C3%A9%2B"
    assert fill_url("https://a.example/{x}", x="%2f") == "https://a.example/%252f"


@given(user=st.text(st.characters(exclude_categories=()), max_size=20), page=st.text(max_size=20))
def test_no_value_leaves_its_place(user: str, page: str) -> None:
    try:
        url = fill_url(TEMPLATE, user=user, page=page)
    except InvalidInput:
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "api.example.com", "")
    segments = parts.path.split("/")
    assert (segments[:2], segments[3:]) == (["", "users"], ["notes"])
    assert unquote(segments[2]) == user
    assert ".." not in unquote(parts.path).split("/")
    assert parse_qs(parts.query, keep_blank_values=True) == {"page": [page], "order": ["asc"]}


@pytest.mark.parametrize(
    "user",
    ["", ".", "..", "../admin", "a/../b", "..\\admin", "%2e%2e", "..;", "a\0", "a\r\nHost: x", "a\x7f", "\ud800"],
)
def test_values_that_are_resolved_in_spite_of_their_encoding_are_refused(user: str) -> None:
    with pytest.raises(InvalidInput, match=r"^user "):
        fill_url(TEMPLATE, user=user, page=1)


@pytest.mark.parametrize(
    "template",
    [
        "https://{x}/",
        "https://api.{x}/",
        "https://{x}@api.example.com/",
        "https://api.example.com{x}",
        "https://api.example.com:{x}/",
        "{x}://api.example.com/",
        "{x}",
        "/users/{x}",
        "javascript:{x}",
        "https://api.example.com/{x}/{y}",
        "https://api.example.com/{x!r}",
        "https://api.example.com/{x.__class__}{x}",
        "https://api.example.com/{}",
        "https://api.example.com/",
    ],
)
def test_a_template_without_a_fixed_host_or_with_other_names_is_the_authors_mistake(template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the template"):
        fill_url(template, x="a")


def test_the_message_names_the_place_and_not_the_value() -> None:
    with pytest.raises(InvalidInput, match=r"^page is empty$"):
        fill_url("https://api.example.com/{user}/{page}", user="Ann", page="")
