"""Judge the answers before anything is generated.

All problems are printed at once, each with a value that would work, and the command that repeats the other answers.
Then nothing is generated. The limits are
there so that every file of the project can hold every answer: TOML, YAML, `.env`, Markdown, a path on any system.

It is one file because cookiecutter renders and runs every hook by itself. It runs on whichever Python runs
cookiecutter, with the standard library alone. Output is ASCII: a Windows console may not be able to print more.
"""

from __future__ import annotations

import ipaddress
import json
import keyword
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple  # noqa: UP035 - Python 3.8 knows no other Callable to call

MAX_NAME = 50
"""Kubernetes names end at 63 characters, and the manifests append to this one."""

_NO_TEXT = "is not a text to YAML: write it in quotes in your configuration"

KEPT_SUFFIX = ".kept-by-cookiecutter"

CHOICES = {
    "auth": ("api-key", "oauth", "none"),
    "rate_limit": ("memory", "redis", "none"),
    "request_logging": ("on", "off"),
    "log_level": ("INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL"),
    "audit_trail": ("no", "yes"),
    "observability": ("metrics", "metrics-and-traces", "none"),
    "evals": ("no", "yes"),
    "examples": ("yes", "no", "full"),
    "deployment": ("docker", "kubernetes", "none"),
    "ci": ("github", "github-and-pre-commit", "pre-commit", "none"),
    "license": ("MIT", "Apache-2.0", "Proprietary"),
}

# `type` and `match` are keywords only to newer Pythons than the one that may be running this.
KEYWORDS = {*map(str.lower, keyword.kwlist), "case", "match", "type"}

# The project may run on another Python than this one, and `sys.stdlib_module_names` is missing before 3.10.
STANDARD_LIBRARY = {
    *getattr(sys, "stdlib_module_names", ()),
    *"""
    abc aifc annotationlib antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb
    binascii bisect builtins bz2 calendar cgi cgitb chunk cmath cmd code codecs codeop collections colorsys
    compileall compression concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes curses
    dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum errno faulthandler
    fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass gettext glob graphlib
    grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect io ipaddress itertools json
    keyword lib2to3 linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib
    msvcrt multiprocessing netrc nis nntplib nt ntpath nturl2path numbers opcode operator optparse os ossaudiodev
    pathlib pdb pickle pickletools pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty
    pwd py_compile pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter
    runpy sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket socketserver
    spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep struct subprocess sunau
    symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios test textwrap this threading time timeit
    tkinter token tokenize tomllib trace traceback tracemalloc tty turtle turtledemo types typing unicodedata
    unittest urllib uu uuid venv warnings wave weakref webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp
    xxlimited xxlimited_35 xxsubtype zipfile zipimport zlib zoneinfo
    """.split(),
}

# What the project installs, on any system, by the name it is imported by and by the name it is installed by; and what
# those packages import if it is there.
DEPENDENCIES = set(
    """
    mcp_chassis
    annotated_doc annotated_types anyio ast_serialize async_timeout attr attrs certifi cffi charset_normalizer click
    colorama cryptography dotenv exceptiongroup google googleapis_common_protos h11 httpcore httpcore2 httptools
    httpx httpx2 httpx2_jsfetch hypothesis idna iniconfig jsonschema jsonschema_specifications
    jwt librt markdown_it markdown_it_py mcp mcp_types mdurl multipart mypy mypy_extensions mypyc opentelemetry
    opentelemetry_api opentelemetry_exporter_http_transport opentelemetry_exporter_otlp_common
    opentelemetry_exporter_otlp_proto_common opentelemetry_exporter_otlp_proto_http opentelemetry_proto
    opentelemetry_sdk opentelemetry_semantic_conventions packaging pathspec pip pkg_resources pluggy
    prometheus_client protobuf py pycparser pydantic pydantic_core pydantic_settings pygments pyjwt pytest
    python_dotenv python_multipart pyyaml redis referencing requests rich rpds rpds_py ruff setuptools shellingham
    shtab sniffio sortedcontainers sse_starlette starlette structlog throttled throttled_py tomli truststore typer
    types_pyyaml typing_extensions typing_inspection urllib3 uv uv_build uvicorn wheel yaml
    brotli brotlicffi email_validator h2 jinja2 orjson socksio trio uvloop watchfiles websockets wsproto zstandard
    pywin32 pythoncom pywin pywintypes win32 win32api win32com win32con win32event win32file win32job win32pipe
    win32process win32security winerror
    """.split()
)

DIRECTORIES = {"clients", "deploy", "docs", "notes", "scripts", "src", "tests"}
COMMANDS = {"activate", "deactivate", "python", "python3", "uvx"}
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(device + str(n) for device in ("com", "lpt") for n in range(1, 10))}

RESERVED = {
    "a keyword of Python": KEYWORDS,
    "a module of the standard library": STANDARD_LIBRARY,
    "a package that the server depends on": DEPENDENCIES,
    "a directory of every project": DIRECTORIES,
    "a command of every virtual environment": COMMANDS,
    "a module that Python or pytest runs at its start": {"conftest", "sitecustomize", "usercustomize"},
    "a device on Windows, where no file can have its name": WINDOWS_DEVICES,
}

HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address, short of the backtick.
EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


class Question(NamedTuple):
    """How to judge one answer.

    `fault` says what is wrong with an answer (an empty string: nothing), `suggested` makes the nearest answer it can
    think of, and `fallback` is a good answer for when that one is at fault as well.
    """

    name: str
    fault: Callable[[str], str]
    suggested: Callable[[str], str]
    fallback: str


class Problem(NamedTuple):
    """An answer that cannot be used: what is wrong, and `question=answer` that would work."""

    question: str
    answer: str
    fault: str
    works: str

    def __str__(self) -> str:
        answer = "" if self.question == "trusted_origins" else f"{shown(self.answer)} "  # its fault names each origin
        return f"{self.question}: {answer}{self.fault}.\n    This would work: {self.works}"


# Names -------------------------------------------------------------------------------------------------------------


def name_fault(name: str, separator: str) -> str:
    """Judge a slug (words joined by `-`) or a package name (words joined by `_`)."""
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    if not re.fullmatch(rf"[a-z][a-z0-9]*({separator}[a-z0-9]+)*", name):
        return f"must be words of a-z and 0-9 joined by single '{separator}', beginning with a letter"
    for what, names in RESERVED.items():
        if name.replace("-", "_") in names:
            return f"is {what}"
    return ""


def suggested_name(name: str, separator: str) -> str:
    """Return the nearest name in lower-case ASCII that is not taken."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", ascii_name) or ["secure", "mcp", "server"]
    if words[0][0].isdigit():
        words.insert(0, "mcp")
    suggested = separator.join(words)[: MAX_NAME - len("_server")].rstrip(separator)
    return f"{suggested}{separator}server" if name_fault(suggested, separator) else suggested


# Numbers -----------------------------------------------------------------------------------------------------------


def number_fault(text: str, highest: int) -> str:
    """Judge a whole number from 1 to `highest`. A leading zero means octal to some readers of YAML."""
    plain = re.fullmatch("[1-9][0-9]*", text) and len(text) <= len(str(highest))
    return "" if plain and int(text) <= highest else f"is not a whole number from 1 to {highest}"


def suggested_number(text: str, highest: int) -> str:
    """Return the number that was probably meant: without spaces, signs, separators and leading zeros."""
    digits = re.sub("[^0-9]", "", text)[:20].lstrip("0")
    return str(min(int(digits), highest)) if digits else ""


# Text --------------------------------------------------------------------------------------------------------------


def unprintable(text: str) -> str:
    """Return the first character that cannot be seen, or that may end a line, or an empty string.

    Such characters break files and let text say something else than it shows (CVE-2021-42574), to people and to
    models. The joiners are text where they stand between two other letters, as in Persian, Hindi and many emoji.
    """
    for position, character in enumerate(text):
        category = unicodedata.category(character)
        if character in "\u200c\u200d":
            neighbours = (text[position - 1 : position], text[position + 1 : position + 2])
            if all(neighbour > "\x7f" for neighbour in neighbours):
                continue
        elif character == " " or category[0] in "LMNPS":
            continue
        elif category == "Cn" and ord(character) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(character) <= 0xFDEF:
            continue  # a character that is younger than this Python, such as a new emoji
        return character
    return ""


def jinja_in(text: str) -> str:
    """Return the first delimiter of a template in `text`, or an empty string."""
    found = re.search(r"\{[%#{]", text) or re.match("#%", text)
    return found.group() if found else ""


def text_fault(text: str, longest: int) -> str:
    """Judge a line of free text, in any language."""
    if not text.strip():
        return "is empty"
    if len(text) > longest:
        return f"is longer than {longest} characters"
    if text != text.strip():
        return "begins or ends with a space"
    if character := unprintable(text):
        return f"holds U+{ord(character):04X}, a character that cannot be printed"
    if delimiter := jinja_in(text):
        return f"holds {shown(delimiter)}, which a later update would read as a template"
    return ""


def suggested_text(text: str, longest: int) -> str:
    """Return `text` on one line, without what cannot be printed and without a template."""
    text = "".join(" " if unprintable(character) else character for character in text)
    text = re.sub(r"(\{)(?=[%#{])", r"\1 ", re.sub("^#%", "# %", " ".join(text.split())))
    return text[:longest].strip()


def email_fault(address: str) -> str:
    """Judge the shape of an e-mail address, as a browser does."""
    if len(address) > 254 or not EMAIL.fullmatch(address):
        return "is not an e-mail address"
    return "holds a template" if jinja_in(address) else ""


# Origins -----------------------------------------------------------------------------------------------------------


def split_origins(origins: str) -> list[str]:
    """Return the parts of a comma-separated list. The server ignores empty ones, so they are ignored here."""
    return [origin.strip(" ") for origin in origins.split(",") if origin.strip(" ")]


def origins_fault(origins: str) -> str:
    """Judge a comma-separated list of origins, which may be empty. Every wrong origin is named."""
    faults = ((origin, origin_fault(origin)) for origin in split_origins(origins))
    return "; ".join(f"{shown(origin)} {fault}" for origin, fault in faults if fault)


def origin_fault(origin: str) -> str:
    """Judge one origin (RFC 6454): scheme, host, optional port. One slash at the end is tolerated."""
    if "*" in origin:
        return "would trust sites that you do not know: write every origin out"
    if origin.lower() == "null":
        return "is what sandboxed and local pages of anyone send: it identifies no one"
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "must begin with https:// or http://"
    authority = rest[:-1] if rest.endswith("/") else rest
    if "@" in authority:
        return "holds a user name, which no browser sends in an origin"
    if re.search(r"[/?#\\]", authority):
        return "must end after the host and port, without a path, a query or a fragment"
    host, port = split_port(authority)
    if not host.isascii():
        return f"must have its host as browsers send it: {shown(punycode(host))}"
    if not is_host(host.lower()):
        return "has no valid host"
    return number_fault(port, 65535) and "has no valid port" if port is not None else ""


def split_port(authority: str) -> tuple[str, str | None]:
    """Split `host:port`. An IPv6 address keeps its brackets, and its colons."""
    host, separator, port = authority.rpartition(":")
    return (host, port) if separator and not port.endswith("]") else (authority, None)


def is_host(host: str) -> bool:
    """Whether `host` is a name in lower case, an IPv4 address, or an IPv6 address in brackets."""
    if host.startswith("["):
        return host.endswith("]") and "%" not in host and is_address(host[1:-1], ipaddress.IPv6Address)
    labels = host.split(".")
    if labels[-1].isdigit():
        # Browsers take any host that ends in a number for an IPv4 address.
        return is_address(host, ipaddress.IPv4Address)
    return len(host) <= 253 and all(HOST_LABEL.fullmatch(label) for label in labels)


def is_address(text: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> bool:
    """Whether `text` is an address of that kind."""
    try:
        kind(text)
    except ValueError:
        return False
    return True


def punycode(host: str) -> str:
    """Return `host` in ASCII, as browsers do: a sharp s stays a letter of its own (UTS 46), unlike in IDNA 2003."""
    labels = unicodedata.normalize("NFKC", host.lower()).replace("\u3002", ".").split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def suggested_origins(origins: str) -> str:
    """Return the origins that can be saved."""
    suggested = (origin if not origin_fault(origin) else suggested_origin(origin) for origin in split_origins(origins))
    return ",".join(origin for origin in suggested if not origin_fault(origin))


def suggested_origin(origin: str) -> str:
    """Return the origin of a URL, or of a host name that lacks its scheme."""
    scheme, separator, rest = origin.rpartition("://")
    if rest.lower() == "null":
        return ""  # no host that was meant
    authority = re.split(r"[/?#\\]", rest)[0].rpartition("@")[2]
    host, port = split_port(authority)
    suggested = f"{scheme.lower() if separator else 'https'}://{punycode(host)}"
    return suggested if port is None or number_fault(port, 65535) else f"{suggested}:{port}"


# Everything --------------------------------------------------------------------------------------------------------


def text_question(name: str, longest: int, fallback: str) -> Question:
    """Return how to judge a line of free text."""
    return Question(name, lambda text: text_fault(text, longest), lambda text: suggested_text(text, longest), fallback)


def choice_question(name: str) -> Question:
    """Return how to judge a choice. Cookiecutter refuses most unknown ones itself, but not those of a replay file."""
    choices = CHOICES[name]
    fault = f"is not one of {', '.join(choices)}"
    spelled = {choice.lower(): choice for choice in choices}
    return Question(
        name,
        lambda answer: "" if answer in choices else fault,
        lambda answer: spelled.get(answer.strip().lower(), ""),
        choices[0],
    )


QUESTIONS = (
    text_question("project_name", 80, "Secure MCP Server"),
    Question("project_slug", lambda n: name_fault(n, "-"), lambda n: suggested_name(n, "-"), "secure-mcp-server"),
    Question("package_name", lambda n: name_fault(n, "_"), lambda n: suggested_name(n, "_"), "secure_mcp_server"),
    text_question("description", 300, "An MCP server"),
    text_question("author_name", 100, "Your Name"),
    Question("author_email", email_fault, lambda address: "".join(address.split()), "you@example.com"),
    Question("port", lambda n: number_fault(n, 65535), lambda n: suggested_number(n, 65535), "8080"),
    Question("trusted_origins", origins_fault, suggested_origins, "https://app.example.com"),
    choice_question("auth"),
    choice_question("rate_limit"),
    Question(
        "max_requests_per_minute",
        lambda n: number_fault(n, 1_000_000),
        lambda n: suggested_number(n, 1_000_000),
        "100",
    ),
    choice_question("request_logging"),
    choice_question("log_level"),
    choice_question("audit_trail"),
    choice_question("observability"),
    choice_question("evals"),
    choice_question("examples"),
    choice_question("deployment"),
    choice_question("ci"),
    choice_question("license"),
)


def judge(answers: Mapping[str, Any]) -> list[Problem]:
    """Return every problem with the answers, in the order of the questions."""
    found = []
    for name, fault_of, suggested, fallback in QUESTIONS:
        given = answers.get(name, "")
        answer = str(given)
        # YAML reads yes, no, on, off, true, false and nothing as values that are no text.
        if fault := _NO_TEXT if given is None or isinstance(given, bool) else fault_of(answer):
            candidate = suggested(answer)
            good = candidate if candidate and not fault_of(candidate) else fallback
            found.append(Problem(name, answer, fault, f"{name}={good if good.isascii() else ascii(good)}"))
    return found + contradictions(answers)


def contradictions(answers: Mapping[str, Any]) -> list[Problem]:
    """Return the answers that are fine by themselves but not together."""
    deployment = answers.get("deployment")
    if answers.get("auth") != "none" or deployment not in ("docker", "kubernetes"):
        return []
    fault = (
        f"does not go with deployment={deployment}: a container listens on the network, "
        "where the server refuses to start without authentication"
    )
    return [Problem("auth", "none", fault, "auth=api-key, or deployment=none")]


def problems(answers: Mapping[str, Any]) -> list[str]:
    """Return every problem with the answers as text: what is wrong, and a value that would work."""
    return [str(problem) for problem in judge(answers)]


def shown(text: str) -> str:
    """Return `text` quoted, in ASCII and shortened: any console can print it, and no character in it can hide.

    A user name or password in a URL is left out.
    """
    text = re.sub(r"://[^/]*@", "://...@", text)
    return ascii(text if len(text) <= 100 else text[:100] + "...")


# The command that asks only for the rest -----------------------------------------------------------------------------


def command(answers: Mapping[str, Any], wrong: set[str], quoted: Callable[[str, str], str]) -> str:
    """Return a command with the answers that are right; those that are wrong are left to fill in, at its end.

    Args:
        answers: all of them.
        wrong: the questions whose answers are not to be repeated.
        quoted: quotes a text that follows a plain one, for a shell.
    """
    # A URL may hold a token, before its host or in its query; git asks for it again.
    template = re.sub(r"(?<=://)[^/]*@", "", str(answers.get("_template") or "TEMPLATE"))
    template = re.sub(r"(://[^?#]*).*", r"\1", template, flags=re.DOTALL)
    options = [("--checkout=", answers.get("_checkout")), ("--output-dir=", output_directory(answers))]
    words = ["cookiecutter --no-input", *(quoted(option, str(value)) for option, value in options if value)]
    words.append(quoted("", template))
    names = [question.name for question in QUESTIONS]
    words += [quoted(f"{name}=", str(answers.get(name, ""))) for name in names if name not in wrong]
    return " ".join([*words, *(f"{name}=" for name in names if name in wrong)])


def output_directory(answers: Mapping[str, Any]) -> str:
    """Return the directory to generate into, if it is not the one that the shell is in."""
    directory, here = str(answers.get("_output_dir") or ""), os.environ.get("PWD", "")
    return directory if here and directory and os.path.realpath(directory) != os.path.realpath(here) else ""


def is_plain(text: str) -> bool:
    """Whether no shell finds anything special in `text`, wherever it stands in a word."""
    return bool(re.fullmatch("[A-Za-z0-9_./:+-]*", text))


def quoted_for_sh(before: str, text: str) -> str:
    """Quote for any POSIX shell, in ASCII."""
    if is_plain(text):
        return before + text
    if text.isascii():
        return before + "'" + text.replace("'", "'\\''") + "'"
    # A dash at the start would be an option of printf; `!` is the history of an interactive shell, also in "...".
    special = "'\\%!" + ("-" if text.startswith("-") else "")
    octal = "".join(chr(b) if 32 <= b < 127 and chr(b) not in special else f"\\{b:03o}" for b in text.encode())
    return f"{before}\"$(printf '{octal}')\""


def quoted_for_powershell(before: str, text: str) -> str:
    """Quote for PowerShell, in ASCII. Before 7.3 it loses double quotes on the way to a program."""
    if is_plain(text):
        return before + text
    if text.isascii():
        return before + "'" + text.replace("'", "''") + "'"
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    escaped = "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes).replace("'", "''")
    return f"\"{before}$([regex]::Unescape('{escaped}'))\""


def commands(answers: Mapping[str, Any], wrong: set[str]) -> list[str]:
    """Return the command for every shell; one line, if all shells read it alike."""
    posix, power = (command(answers, wrong, quoted) for quoted in (quoted_for_sh, quoted_for_powershell))
    return [posix] if posix == power else [f"sh:         {posix}", f"PowerShell: {power}"]


# The project directory ---------------------------------------------------------------------------------------------


def set_aside(project: Path, answers: Mapping[str, Any]) -> None:
    """Move files out of the way that are in the project already and that the answers do not ask for.

    With `-f` the template writes over the files it knows, and the post_gen hook then removes those not asked for. A
    `Dockerfile` that was there before, with deployment=none, is not the template's to remove: the hook moves it back.
    """
    for row in answers["__optional_files"]:
        if answers[row["question"]] in row["answers"]:
            continue
        for name in row.get("files", ()):
            path, kept = project / name, project / (name + KEPT_SUFFIX)
            if os.path.lexists(path) and not os.path.lexists(kept):
                path.rename(kept)


def read_answers() -> dict[str, Any]:
    """Return what cookiecutter writes into this file: JSON, so that no answer can be code.

    In JSON a backslash always comes with the character it escapes, so nothing in it ends the raw string.
    """
    answers: dict[str, Any] = json.loads(r"""{{ cookiecutter | tojson }}""")
    return answers


def main() -> int:
    """Judge the answers, and print the problems."""
    answers = read_answers()
    # A slug that is a path would lead cookiecutter to directories of the user, which it removes when a hook fails. So
    # `__safe_slug` in cookiecutter.json has replaced it before anything was made; here the answer itself is judged.
    answers["project_slug"] = answers.get("__asked_slug", answers["project_slug"])
    found = judge(answers)
    if not found:
        set_aside(Path.cwd(), answers)
        return 0
    print("Nothing was generated: these answers need another look.\n", file=sys.stderr)
    for problem in found:
        print(f"  {problem}", file=sys.stderr)
    print("\nThis repeats the answers that are right. Complete the rest, at its end:\n", file=sys.stderr)
    for line in commands(answers, {problem.question for problem in found}):
        print(f"  {line}", file=sys.stderr)
    print("\nWhat Cookiecutter adds below about a failed hook says no more than that.\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
