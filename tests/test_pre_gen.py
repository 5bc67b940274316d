"""The pre_gen hook: every question's good and bad answers, and what a refusal looks like and leaves behind."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
import sysconfig
import tomllib
import unicodedata
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from baking import QUESTIONS, ROOT, bake, cookiecutter_command, files, load_hook
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cookiecutter.utils import create_env_with_context
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pre_gen = load_hook("pre_gen_project")
Answers = dict[str, str]
QUESTIONS_ASKED = tuple(name for name in QUESTIONS if not name.startswith("_"))

RTL = "\u05e9\u05e8\u05ea \u05de\u05d0\u05d5\u05d1\u05d8\u05d7"  # Hebrew
JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # Persian, with a zero-width non-joiner
CODER = "\U0001f469\u200d\U0001f4bb"  # one emoji made of two, with a zero-width joiner
MARKUP = "<b>&amp;</b> [x](y)"

GOOD = {
    "project_name": ["x", "Server #1, 100 %", 'Q "quoted" \\ back', "'''three''' \"\"\"three\"\"\"", "{a} }}", MARKUP]
    + [RTL, JOINED, CODER, "\u2764\ufe0f\u200d\U0001f525", "\u670d\u52a1\u5668"],
    "project_slug": ["a", "secure-mcp-server", "s3", "a-1", "weather-mcp", "x" * 50],
    "package_name": ["a", "secure_mcp_server", "s3", "a_1", "weather_mcp", "x" * 50],
    "description": ["d" * 300, "ends with a backslash \\", "a: b # c", "- [x] *md* `code` | t", "$HOME ${HOME} %PATH%"],
    "author_name": ["Acme, Inc.", "Zo\u00eb O'Hara", 'A "B" C'],
    "author_email": ["a@b", "first.last+tag@example.co.uk", "o'hara@xn--strae-oqa.de"],
    "port": ["1", "80", "8080", "65535"],
    "trusted_origins": """
        https://app.example.com http://localhost:3000 http://127.0.0.1:5173/ http://[::1]:8080 https://[2001:db8::1]
        https://APP.example https://xn--strae-oqa.de https://a.example:443 https://a.example,https://b.example:8443
        https://a.example,
    """.split()
    + ["", "https://a.example, https://b.example"],
    "max_requests_per_minute": ["1", "100", "1000000"],
}

BAD = {
    "project_name": ["", "   ", " x", "x ", "x" * 81, "{{ 7 * 7 }}", "{% raw %}", "{# note #}", "#% if"]
    + ["a\nb", "a\rb", "a\tb", "nul\x00", "escape\x1b[31m", "delete\x7f", "c1\x85", "line\u2028", "paragraph\u2029"]
    + ["no\u00a0break", "mark\ufeff", "surrogate\udc80", "override\u202e", "isolate\u2066", "joiner in a\u200dscii"]
    + ["\u0645\u200cx", "x\u200d\u0645", "\u0645\u200c", "\u200d\u0645"]
    + ["zero\u200bwidth", "tag\U000e0041", "private\uf8ff", "none\uffff", "none\ufdd0"],
    "project_slug": """
        Secure my_server 3d-tools -a a- a--b a/b .. a\\b class match type json tomllib mcp pydantic-settings
        python-dotenv redis tests scripts con com1 python activate
    """.split()
    + ["", "my server", "\u00e9t\u00e9", "\u0661", "x" * 51, "a\n"],
    "package_name": """
        Secure my-server my.server 3d _a a_ a__b class lambda true none async match case type json asyncio distutils
        annotationlib mcp mcp_types starlette uvicorn h11 httptools anyio pydantic pydantic_settings structlog throttled
        prometheus_client httpx2 httpcore2 jwt cryptography redis opentelemetry dotenv pytest hypothesis ruff mypy click
        typing_extensions sse_starlette multipart src tests scripts con prn aux nul com1 lpt9
    """.split()
    + ["", "a b", "\u00e9t\u00e9", "x" * 51],
    "description": ["", "two\nlines", "d" * 301, "vertical\x0btab", "{{cookiecutter}}"],
    "author_name": ["", "a\nb", "n" * 101],
    "author_email": ["no-at-sign", "a@", "@b", 'a"b@c', "a\\b@c", "{{x@y", "{%x@y", "", "a b@c", "a@b c", "a@b\n"]
    + ["\u00e9@example.com", "x" * 250 + "@example.com"],
    "port": ["", "0", "65536", "99999", "-1", "+80", "8080.0", "08080", "0x50", "8_080", "http", " 8080", "80\n"]
    + ["\u0668\u0660", "9" * 5000],
    "trusted_origins": """
        * https://* https://*.example.com null app.example.com ftp://a.example javascript:alert(1) https://
        https://a.example/path https://a.example// https://a.example?q https://a.example#f https://u@a.example
        https://u:p@a.example https://a.example: https://a.example:0 https://a.example:65536 https://a:b:c
        https://a.example:8o https://-a.example https://a..example https://a.example. https://a_b.example
        https://1.2.3 https://256.1.1.1 https://[::g] https://[fe80::1%eth0] https://::1 https:\\\\a.example
        https://good.example,bad https://a.example;https://b.example https://a.example\\@b.example
    """.split()
    + ["https://" + "a23456789." * 25 + "test", "https://stra\u00dfe.de", "https://a b.example", "https://a.example\n"],
    "max_requests_per_minute": ["", "0", "-5", "1000001", "1e3", "100.5", "ten", "1,000", "007", "\u0661\u0660"],
    **{name: ["", "maybe", choices[0].swapcase()] for name, choices in pre_gen.CHOICES.items()},
}


def cases(table: dict[str, list[str]]) -> list[Any]:
    return [pytest.param(name, answer, id=f"{name}-{answer!a:.40}") for name in table for answer in table[name]]


def suggestion(problem: Any) -> Answers:
    """Read a suggestion as the user would: `question=answer`, or `question='answer'` with escapes if not ASCII."""
    name, _, answer = problem.works.partition("=")
    return {name: ast.literal_eval(answer) if re.match(r"(['\"]).*\\[xuU].*\1$", answer) else answer}


def test_the_defaults_have_no_problems(default_answers: Answers) -> None:
    assert pre_gen.problems(default_answers) == []


@pytest.mark.parametrize(("name", "answer"), cases(GOOD))
def test_good_answers_are_accepted(default_answers: Answers, name: str, answer: str) -> None:
    assert pre_gen.problems({**default_answers, name: answer}) == []


@pytest.mark.parametrize(("name", "answer"), cases(BAD))
def test_bad_answers_are_refused_with_a_value_that_works(default_answers: Answers, name: str, answer: str) -> None:
    (problem,) = pre_gen.judge({**default_answers, name: answer})

    assert problem.question == name
    assert pre_gen.problems({**default_answers, **suggestion(problem)}) == []
    assert str(problem).isascii()
    assert len(str(problem)) < 1000
    assert str(problem).isprintable() or str(problem).count("\n") == 1  # nothing of the answer ends a line


@pytest.mark.parametrize(
    ("name", "answer", "better"),
    [
        ("project_slug", "My Server", "my-server"),
        ("project_slug", "3d-tools", "mcp-3d-tools"),
        ("project_slug", "redis", "redis-server"),
        ("package_name", "my-server", "my_server"),
        ("package_name", "Caf\u00e9", "cafe"),
        ("port", " 8081", "8081"),
        ("port", "99999", "65535"),
        ("trusted_origins", "https://app.example.com/login?next=/", "https://app.example.com"),
        ("trusted_origins", "app.example.com", "https://app.example.com"),
        ("trusted_origins", "https://a.example,*", "https://a.example"),
        ("trusted_origins", "https://a.example,null", "https://a.example"),
        ("trusted_origins", "Null", "https://app.example.com"),
        ("trusted_origins", "https://stra\u00dfe.de:8443", "https://xn--strae-oqa.de:8443"),
        ("description", "two\nlines", "two lines"),
        ("max_requests_per_minute", "1,000", "1000"),
        ("log_level", "debug", "DEBUG"),
    ],
)
def test_the_suggestion_is_close_to_what_was_meant(
    default_answers: Answers, name: str, answer: str, better: str
) -> None:
    (problem,) = pre_gen.judge({**default_answers, name: answer})
    assert suggestion(problem) == {name: better}


@given(st.text(), st.sampled_from(sorted(BAD)))
def test_any_refusal_suggests_a_value_that_works(answer: str, name: str) -> None:
    for problem in pre_gen.judge({**{q.name: q.fallback for q in pre_gen.QUESTIONS}, name: answer}):
        assert problem.question == name
        rule = next(question for question in pre_gen.QUESTIONS if question.name == name)
        assert not rule.fault(suggestion(problem)[name])


def test_text_that_passes_can_stand_in_one_quoted_line() -> None:
    every = (chr(point) for point in range(sys.maxunicode + 1))
    passed = [character for character in every if not pre_gen.unprintable(character)]

    assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for character in passed)
    assert len(passed) > 100_000
    assert len("".join(passed).splitlines()) == 1


def test_all_problems_are_named_at_once(default_answers: Answers) -> None:
    bad = {name: answers[-1] for name, answers in BAD.items()}
    assert [problem.question for problem in pre_gen.judge({**default_answers, **bad})] == list(QUESTIONS_ASKED)


@pytest.mark.parametrize("deployment", ["docker", "kubernetes"])
def test_no_authentication_in_a_container_is_refused_and_says_what_to_change(
    default_answers: Answers, deployment: str
) -> None:
    (problem,) = pre_gen.problems({**default_answers, "auth": "none", "deployment": deployment})
    assert "auth=api-key" in problem
    assert "deployment=none" in problem


def test_no_authentication_without_a_container_is_accepted(default_answers: Answers) -> None:
    assert pre_gen.problems({**default_answers, "auth": "none", "deployment": "none"}) == []


def test_every_question_is_judged_and_has_its_default_and_a_prompt() -> None:
    assert {question.name for question in pre_gen.QUESTIONS} == set(QUESTIONS_ASKED) == set(QUESTIONS["__prompts__"])
    for name, choices in pre_gen.CHOICES.items():
        if {"yes", "on"} & set(choices):  # words of YAML: a list of Cookiecutter's would refuse them as booleans
            assert QUESTIONS[name] == choices[0]
            assert all(re.search(rf"\b{choice}\b", QUESTIONS["__prompts__"][name]) for choice in choices)
            continue
        assert tuple(QUESTIONS[name]) == choices
        if name != "log_level":  # its choices speak for themselves
            assert {"__prompt__", *choices} == set(QUESTIONS["__prompts__"][name])


def plain_names(names: Iterable[str]) -> set[str]:
    """Return those of `names`, in lower case, that a package name could be."""
    plain = {name.lower().replace("-", "_") for name in names}
    return {name for name in plain if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)}


def required_by(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that these requirements need on some system, as far as they are installed here."""
    found, left = set[str](), [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        markers = [{"extra": extra} for extra in ("", *requirement.extras)]
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        try:
            needed = [Requirement(text) for text in distribution(name).requires or ()]
        except PackageNotFoundError:  # of another system, such as pywin32
            continue
        optional = [each for each in needed if each.marker is not None and "extra ==" in str(each.marker)]
        left += [each for each in needed if each not in optional]
        left += [each for each in optional if any(each.marker.evaluate(extra) for extra in markers)]  # type: ignore[union-attr]
    return found


def test_no_installed_module_of_a_dependency_can_be_the_name_of_a_project(tmp_path: Path) -> None:
    """Every distribution that a project needs, by its own name, and by those of its modules if it is installed here."""
    project = bake(tmp_path, auth="oauth", rate_limit="redis", observability="metrics-and-traces")
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    needs = metadata["project"]
    extras = [requirement for extra in needs["optional-dependencies"].values() for requirement in extra]
    required = required_by([*needs["dependencies"], *extras, *metadata["build-system"]["requires"]])
    assert {"pydantic-core", "rpds-py", "cffi"} <= required, "dependencies of dependencies"
    modules = {
        module for module, owners in packages_distributions().items() if required & set(map(canonicalize_name, owners))
    }
    names = plain_names(required | modules)
    assert len(names) > 60
    assert {name for name in names if not pre_gen.name_fault(name, "_")} == set()


def test_no_module_of_this_pythons_standard_library_can_be_the_name_of_a_project() -> None:
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("DESTSHARED")]
    there = {module.name for module in pkgutil.iter_modules([path for path in paths if path])}
    every = there | set(sys.stdlib_module_names) | set(sys.builtin_module_names)
    names = plain_names(name for name in every if name.islower())
    assert {"test", "tomllib", "turtledemo"} <= names
    source = set((ROOT / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8").split())
    assert {name for name in names if not pre_gen.name_fault(name, "_")} == set()
    assert names - pre_gen.KEYWORDS <= source, "also for a Python that cannot list it"


@pytest.mark.parametrize("name", ["arrow", "git", "noter", "testing", "script", "mcp_server", "sqlite", "json_tools"])
def test_a_name_that_no_project_can_import_from_elsewhere_is_accepted(name: str) -> None:
    assert pre_gen.name_fault(name, "_") == ""


@pytest.mark.parametrize("name", ["test", "tests", "scripts", "mcp_chassis", "conftest", "sitecustomize", "win32api"])
def test_a_name_of_every_project_or_of_another_system_is_refused(name: str) -> None:
    assert pre_gen.name_fault(name, "_") != ""


@pytest.mark.parametrize("hook", ["pre_gen_project", "post_gen_project"])
def test_hooks_run_on_old_pythons_with_the_standard_library_alone_and_print_ascii(hook: str) -> None:
    source = (ROOT / "hooks" / f"{hook}.py").read_bytes()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        (alias.name if isinstance(node, ast.Import) else str(node.module)).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names
    assert source.isascii()


texts = st.text(st.one_of(st.characters(), st.sampled_from("\"'\\{}%#\n<&")), max_size=30)


@pytest.mark.parametrize("hook", ["pre_gen_project", "post_gen_project"])
@given(answer=texts)
def test_answers_reach_the_hooks_as_data_whatever_they_hold(hook: str, answer: str) -> None:
    context = {"cookiecutter": {"description": answer, "_jinja2_env_vars": QUESTIONS["_jinja2_env_vars"]}}
    source = (ROOT / "hooks" / f"{hook}.py").read_text(encoding="utf-8")
    rendered = create_env_with_context(context).from_string(source).render(**context)

    namespace: dict[str, Any] = {"__name__": hook}
    tree = ast.parse(rendered)
    reader = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "read_answers"]
    future = ast.parse("from __future__ import annotations\nimport json").body
    exec(compile(ast.Module([*future, *reader], []), hook, "exec"), namespace)  # noqa: S102 - the hook is what is tested
    assert namespace["read_answers"]() == context["cookiecutter"]


def test_a_refusal_prints_every_problem_and_leaves_nothing(tmp_path: Path) -> None:
    done = cookiecutter_command(tmp_path, project_slug="Caf\u00e9", port="0", auth="none", license="MIT")

    assert done.returncode == 1
    for name in ("project_slug", "package_name", "port", "auth"):
        assert f"  {name}: " in done.stderr
    assert done.stderr.partition("Traceback")[0].isascii()
    assert list(tmp_path.iterdir()) == []


def fields(line: str, shell: str) -> list[str]:
    """Return the words of a command as a shell reads it."""
    if shell == "sh":
        script = f"cookiecutter() {{ printf '%s\\0' \"$@\"; }}; {line}"
        done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
        return done.stdout.decode().split("\0")[:-1]
    words = []
    for word in re.findall(r"""(?:"(?:\$\((?:'(?:[^']|'')*'|[^')])*\)|[^"$])*"|'(?:[^']|'')*'|[^\s'"])+""", line)[1:]:
        if match := re.fullmatch(r"""\"([^$]*)\$\(\[regex\]::Unescape\('(.*)'\)\)\"""", word):
            text = re.sub(r"\\(u[0-9a-f]{4}|\\)", lambda m: m[0] if m[1] != "\\" else "\\", match[2].replace("''", "'"))
            units = re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text)
            words.append(match[1] + units.encode("utf-16-be", "surrogatepass").decode("utf-16-be"))
        else:
            words.append(re.sub(r"'((?:[^']|'')*)'", lambda m: m[1].replace("''", "'"), word))
    return words


RIGHT = ["plain", "two words", "O'Hara & Söhne", "$HOME `id` $(id)", "100 %s", "a,b;c|d>e", "\u670d\u52a1\u5668", CODER]
DASHED = ["\\d+ 'x' \u00e9", "-\u00e9", "--no-\u00e9!", "-v"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
@pytest.mark.parametrize("shell", ["sh", "PowerShell"])
@pytest.mark.parametrize("name", [*RIGHT, *(f"{text}'s" for text in RIGHT), *DASHED])
def test_the_command_repeats_the_right_answers_in_every_shell(default_answers: Answers, name: str, shell: str) -> None:
    quoted = {"sh": pre_gen.quoted_for_sh, "PowerShell": pre_gen.quoted_for_powershell}[shell]
    answers = {**default_answers, "project_name": name, "port": "0", "_template": "gh:org/a b"}
    line = pre_gen.command(answers, {"port"}, quoted)
    assert line.isascii()
    assert fields(line, shell) == [
        "--no-input",
        "gh:org/a b",
        *(f"{question}={answers[question]}" for question in QUESTIONS_ASKED if question != "port"),
        "port=",
    ]


def test_the_command_repeats_no_secret(default_answers: Answers) -> None:
    secret = "ghp_" + "x" * 20
    answers = {
        **default_answers,
        "_template": f"https://me:{secret}@git.example.com/t.git",
        "trusted_origins": f"https://me:{secret}@a.example",
    }
    found = pre_gen.judge(answers)
    lines = pre_gen.commands(answers, {problem.question for problem in found})
    assert secret not in "\n".join([*map(str, found), *lines])
    assert "https://git.example.com/t.git" in lines[0]
    assert lines[0].endswith(" trusted_origins=")
    for template in (
        f"https://git.example.com/t.zip?token={secret}",
        f"https://me:x@git.example.com/t.zip?a=b&t={secret}#c",
        f"https://git.example.com/t.zip#{secret}",
        f"https://git.example.com/t.zip?mail=a@{secret}",
        f"https://me:x?{secret}@git.example.com/t.zip",
    ):
        lines = pre_gen.commands({**answers, "_template": template}, {"trusted_origins"})
        assert secret not in "\n".join(lines)
        assert "git.example.com/t.zip" in lines[0] or "x?" in template


def test_no_answer_is_the_history_of_an_interactive_shell() -> None:
    """It looks into double quotes, too."""
    assert pre_gen.quoted_for_sh("description=", "\u00e9!!") == "description=\"$(printf '\\303\\251\\041\\041')\""


@pytest.mark.parametrize(("name", "answer"), cases(BAD))
def test_no_value_is_twice_in_a_sentence(default_answers: Answers, name: str, answer: str) -> None:
    for problem in pre_gen.judge({**default_answers, name: answer}):
        sentence = str(problem).partition("\n")[0]
        quoted = pre_gen.shown(answer)
        assert len(quoted) < 8 or sentence.count(quoted) <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_the_command_that_is_printed_makes_the_project_once_it_is_completed(tmp_path: Path) -> None:
    done = cookiecutter_command(tmp_path, project_name="O'Hara & S\u00f6hne", project_slug="order-desk", port="0")
    (line,) = re.findall(r"^  sh: +(cookiecutter .* port=)$", done.stderr, re.MULTILINE)
    user = tmp_path / "user.yaml"
    user.write_text(json.dumps({"replay_dir": str(tmp_path), "cookiecutters_dir": str(tmp_path)}))
    script = f'cookiecutter() {{ "{sys.executable}" -m cookiecutter --config-file "{user}" "$@"; }}; {line}8081'
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert "PORT=8081" in (tmp_path / "order-desk" / ".env").read_text(encoding="utf-8")
    assert "# O'Hara & S\u00f6hne\n" in (tmp_path / "order-desk" / "README.md").read_text(encoding="utf-8")


PATHS = ["team/server", "x/../team", "x/..", "../out", ".", "..", "/", "C:\\x", "~", "\u00e9"]


@pytest.mark.parametrize("slug", PATHS)
@pytest.mark.parametrize("options", [[], ["-f"]], ids=["once", "overwrite"])
def test_a_slug_that_is_a_path_leaves_and_removes_nothing(tmp_path: Path, slug: str, options: list[str]) -> None:
    out = tmp_path / "out"
    (out / "empty" / "too").mkdir(parents=True)
    (out / "team").mkdir()
    (out / "team" / "notes.txt").write_text("mine")
    before = set(tmp_path.rglob("*"))

    done = cookiecutter_command(out, *options, project_slug=slug, package_name="server")

    assert done.returncode == 1
    assert "project_slug=" in done.stderr
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("slug", ["secure-mcp-server", *GOOD["project_slug"]])
def test_the_directory_is_called_as_the_slug_says(slug: str) -> None:
    context: dict[str, Any] = {"cookiecutter": {"project_slug": slug}}
    create_env_with_context(context).from_string(QUESTIONS["__safe_slug"]).render(**context)
    assert context["cookiecutter"]["project_slug"] == slug


def test_a_refusal_changes_nothing_in_an_existing_project(tmp_path: Path) -> None:
    project = bake(tmp_path)
    (project / "mine.txt").write_text("mine")
    before = {name: (project / name).read_bytes() for name in files(project)}

    done = cookiecutter_command(tmp_path, "-f", port="none of them", deployment="none", ci="none")

    assert done.returncode == 1
    assert {name: (project / name).read_bytes() for name in files(project)} == before


def test_an_unknown_choice_is_refused_even_from_a_replay_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cookiecutter_command(tmp_path / "first", user_dir=tmp_path / "user")
    (replay,) = (tmp_path / "user" / "replay").iterdir()
    stored = json.loads(replay.read_text(encoding="utf-8"))
    stored["cookiecutter"]["auth"] = "maybe"
    replay.write_text(json.dumps(stored), encoding="utf-8")

    with pytest.raises(FailedHookException):
        cookiecutter(str(ROOT), replay=str(replay), output_dir=str(tmp_path / "second"))

    assert "auth=api-key" in capfd.readouterr().err
    assert list((tmp_path / "second").iterdir()) == []
