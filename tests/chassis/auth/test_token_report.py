"""`check --token` with what people put into a file in place of a token: each gets a sentence, and none is printed."""

import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_chassis import cli
from secure_mcp_server.server import SERVER

from ..support.running import new_secret

OAUTH = {"AUTH_MODE": "oauth", "OAUTH_ISSUER": "https://login.example.com"}
INTROSPECTION = {
    "OAUTH_INTROSPECTION_URL": "https://login.example.com/introspect",
    "OAUTH_CLIENT_ID": "mcp",
    "OAUTH_CLIENT_SECRET": "s" * 32,
}


class Report:
    """Runs `check --token` and returns the exit code and what it prints."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._file = directory / "token"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(directory)

    def __call__(self, content: str | bytes, *arguments: str, **settings: str) -> tuple[int, str]:
        self._file.write_bytes(content if isinstance(content, bytes) else content.encode())
        for name, value in settings.items():
            self._monkeypatch.setenv(name, value)
        code = cli.run(SERVER, ["check", "--token", *(arguments or [str(self._file)])])
        said = self._capsys.readouterr()
        assert said.err == ""
        return code, said.out


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    return Report(tmp_path, monkeypatch, capsys)


def signed(claims: dict[str, Any], **header: Any) -> str:
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=header)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "It is not one bearer token"),
        ("two tokens", "It is not one bearer token"),
        ('"quoted"', "It is not one bearer token"),
        ("x" * 9000, "It is not one bearer token"),
        (b"\xff\xfe", "The file cannot be read, or is no token"),
        ("mcp_" + "a" * 43, "It has the form of an API key"),
        (
            "hunter2hunter2",
            "refused (unknown): It is not a signed JWT. Have the provider issue JWTs, or set OAUTH_INTRO",
        ),
        ("a.b.c.d.e", "refused (unknown): It is not a signed JWT."),
        ("e30.W10.AA", "refused (claims): Its claims cannot be read."),
        ("eyJiNjQiOmZhbHNlfQ..AA", "refused ("),
    ],
)
def test_what_is_no_token_gets_a_sentence(report: Report, content: str | bytes, sentence: str) -> None:
    code, said = report(content, **OAUTH)
    assert code == 1
    assert sentence in said
    assert "hunter2" not in said


def test_every_broken_rule_is_named_and_values_cannot_control_the_terminal(report: Report) -> None:
    token = signed({"iss": "https://evil\x1b[2J", "aud": "\u202e", "exp": 1, "iat": 0, "sub": ""}, typ="logout+jwt")
    code, said = report(f"Bearer {token}\n", **OAUTH)
    assert code == 1
    reasons = [line.partition("(")[2].partition(")")[0] for line in said.splitlines()]
    assert reasons == ["header", "issuer", "audience", "expired", "subject"]
    assert said.isascii()
    assert "\x1b" not in said


def test_a_token_from_standard_input(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = tmp_path / "pasted"
    pasted.write_text(f"{signed({'iss': 'https://other'})}\n")
    with pasted.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, said = report("", "-", **OAUTH)
    assert (code, "refused (issuer)" in said) == (1, True)


def test_a_missing_file_a_wrong_key_set_and_no_oauth(report: Report, tmp_path: Path) -> None:
    token = signed({"iss": "https://other"})
    assert "No access tokens are accepted. Set AUTH_MODE=oauth" in report(token, API_KEY=new_secret())[1]
    assert "The file cannot be read" in report(token, "missing", **OAUTH)[1]
    for content in ("no JSON", "[]", "{}", '{"keys": 7}'):
        (tmp_path / "keys").write_text(content)
        code, said = report(token, str(tmp_path / "token"), "--jwks", str(tmp_path / "keys"))
        assert (code, "is no token or no key set" in said) == (1, True), content


def test_of_an_opaque_token_only_the_issuer_knows(report: Report) -> None:
    code, said = report("opaque-token-of-someone", API_KEY=new_secret(), **OAUTH, **INTROSPECTION)
    assert (code, "this check asks no one" in said) == (0, True)
    key = new_secret()
    code, said = report(key.removeprefix("mcp_"), API_KEY=key)
    assert (code, "refused (key_form)" in said) == (1, True)


def test_check_names_what_is_expected_of_tokens(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"OAUTH_PROVIDER": "cognito", "OAUTH_ISSUER": "https://cognito.example.com/eu-central-1_A1"}
    report("x", **{**OAUTH, **settings}, OAUTH_ALLOWED_CLIENTS="web1", OAUTH_PROXY="http://me:hunter2@proxy:3128")
    cli.run(SERVER, ["check"])
    said = capsys.readouterr().out
    assert "https://cognito.example.com/eu-central-1_A1 (cognito), keys from https://cognito.example.com" in said
    assert "through a proxy, which resolves its name" in said
    assert "in aud or client_id; clients: web1" in said
    assert "clients ask for http://127.0.0.1:8080/mcp/<scope>" in said
    assert "hunter2" not in said
