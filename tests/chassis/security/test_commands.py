"""Programs without a shell: what they get, what comes back, and when they are ended."""

import asyncio
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcp_chassis.sinks import (
    CommandError,
    ConfigurationError,
    Finished,
    InvalidInput,
    Programs,
    options,
    run_argv,
)

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="POSIX programs")]

PYTHON = Programs({"python": sys.executable})


async def python(code: str, *values: str, programs: Programs = PYTHON) -> Finished:
    """Run a Python program with values as its arguments."""
    return await run_argv(["python", *options("-IS", "-c", code), *values], programs=programs)


async def test_a_program_gets_its_values_and_returns_what_it_wrote() -> None:
    code = "import sys; print(sys.argv[1:]); print('ä', file=sys.stderr); sys.exit(3)"
    finished = await python(code, "a b", "*", "$HOME", "é")
    assert finished == Finished(3, "['a b', '*', '$HOME', 'é']\n", "ä\n", truncated=False)


@pytest.mark.parametrize("name", ["PIPE", "XFSZ", "TERM", "KILL", "SEGV", "CHLD"])
async def test_a_signal_does_to_a_program_what_it_does_in_a_shell_and_is_reported(name: str) -> None:
    programs = Programs({"sh": "/bin/sh"})
    finished = await run_argv(["sh", *options("-c", f"kill -{name} $$; echo it went on")], programs=programs)
    expected = (0, "it went on\n") if name == "CHLD" else (-getattr(signal, f"SIG{name}"), "")
    assert (finished.code, finished.stdout) == expected


def test_it_works_in_a_loop_of_any_thread() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: asyncio.run(python(f"print({number})")).stdout, range(4)))
    assert found == ["0\n", "1\n", "2\n", "3\n"]


async def test_bytes_that_are_no_text_do_not_fail() -> None:
    assert (await python(r"import os; os.write(1, b'a\xffb')")).stdout == "a\ufffdb"


async def test_the_environment_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "canary")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    programs = Programs({"python": sys.executable}, environment={"GIVEN": "yes", "LANG": "de_DE.UTF-8"})
    environment = json.loads((await python(code, programs=programs)).stdout)
    assert environment.keys() <= {"PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "TEMP", "TMP", "GIVEN", "LC_CTYPE"}
    assert environment["GIVEN"] == "yes"
    assert environment["LANG"] == "de_DE.UTF-8"


async def test_the_working_directory_is_fresh_private_and_removed(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.listdir(), oct(os.stat('.').st_mode & 0o777)); os.makedirs('left/over')"
    programs = Programs({"python": sys.executable}, root=tmp_path)
    outputs = [(await python(code, programs=programs)).stdout.split() for _ in range(2)]
    assert outputs[0][0] != outputs[1][0]
    for directory, content, mode in outputs:
        assert Path(directory).parent == tmp_path
        assert (content, mode) == ("[]", "0o700")
    assert os.listdir(tmp_path) == []


async def test_standard_input_is_empty_and_no_other_descriptor_is_inherited(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = f"import os, sys; assert sys.stdin.read() == ''; os.fstat({file.fileno()})"
        finished = await python(code)
    assert "Bad file descriptor" in finished.stderr


async def test_an_endless_output_is_cut_and_its_program_ended() -> None:
    programs = Programs({"python": sys.executable}, max_output=1000, timeout=10)
    started = time.monotonic()
    finished = await python("while True: print('x' * 99)", programs=programs)
    assert time.monotonic() - started < 5
    assert finished.truncated
    assert finished.code < 0
    assert len(finished.stdout) == 1000


async def test_an_output_just_within_the_limit_is_whole() -> None:
    programs = Programs({"python": sys.executable}, max_output=300_000)
    code = "import sys; sys.stdout.write('x' * 300000); sys.stderr.write('y' * 300000)"
    finished = await python(code, programs=programs)
    assert finished == Finished(0, "x" * 300_000, "y" * 300_000, truncated=False)


async def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    programs = Programs({"python": sys.executable}, timeout=0.3, root=tmp_path)
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"python did not finish in 0\.3 seconds"):
        await python("import time; time.sleep(60)", programs=programs)
    assert time.monotonic() - started < 3
    assert os.listdir(tmp_path) == []


async def test_many_run_at_once() -> None:
    finished = await asyncio.gather(*(python(f"print({number})") for number in range(8)))
    assert [entry.stdout for entry in finished] == [f"{number}\n" for number in range(8)]


async def test_only_programs_of_the_list_are_started(tmp_path: Path) -> None:
    not_a_program = tmp_path / "text"
    not_a_program.write_text("x")
    programs = Programs({"gone": None, "text": str(not_a_program), "absent": str(tmp_path / "absent")})
    for name, message in {
        "git": "not among",
        "/bin/sh": "not among",
        "gone": "gone is not installed",
        "text": "could not be started: Permission denied",
        "absent": "could not be started: No such file",
    }.items():
        with pytest.raises(ConfigurationError, match=message) as refused:
            await run_argv([name], programs=programs)
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("path", ["git", "./git", "../bin/git", "~/bin/git"])
async def test_paths_of_programs_are_absolute(path: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        Programs({"git": path})


@pytest.mark.parametrize("path", ["/x/a.bat", "/x/a.CMD", "/x/a.bat.", "/x/a.cmd . "])
async def test_batch_files_are_refused_everywhere(path: str) -> None:
    with pytest.raises(ConfigurationError, match="batch"):
        Programs({"a": path})


@pytest.mark.parametrize("value", ["-x", "--", "–x", "a\nb", "a\0b", "\ud800", "e\u0301", "a" * 5000])
async def test_a_value_that_is_no_argument_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await python("print('ran')", value)
    assert value not in str(refused.value)
