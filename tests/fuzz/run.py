#!/usr/bin/env python3
"""Fuzz the readers of untrusted bytes: `python dev.py fuzz [--seconds S] [TARGET ...]`.

Where atheris is installed, coverage guides it. Elsewhere the inputs of the corpus are changed at random. An input that
raises is printed, as the line to add to `corpus.json` once the fault is fixed.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent), str(ROOT), str(ROOT / "{{cookiecutter.project_slug}}" / "src")]
WORDS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"%", b"%2e", b"..", b"/", b"\\", b"@", b"#", b"?"),
    *(b'"', b"{", b"}", b"[", b"]", b"NaN", b"1e999", b"-0", b"\\u0000", b"\\ud800", b"null", b"true", b"\xff"),
    *(b"\xef\xbb\xbf", b"\xef\xbc\x8e", b"\xe2\x80\xa5", b"\xe2\x80\x8b", b"=", b"Content-Length: 1\r\n", b"0\r\n\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"chunked", b"https://", b"127.0.0.1", b"[::1]", b"Bearer "),
    *(b"9" * 20, b"9" * 5000, b"[" * 70, b"a" * 300, b"con", b'"a": 1, ', b'"crit": [], ', b'"kid": "k", '),
]
"""What means something to one of the readers."""
_FAULT = "fault:\n"


def changed(order: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return an input of the corpus with a few changes."""
    data = order.choice(seeds)
    for _ in range(order.choice((1, 1, 2, 3, 6))):
        start, end = sorted(order.randint(0, len(data)) for _ in range(2))
        kind = order.randrange(6)
        if kind == 0:
            data = data[:start] + order.choice(WORDS) + data[start:]
        elif kind == 1:
            data = data[:start] + order.choice(WORDS) + data[end:]
        elif kind == 2:
            data = data[:start] + data[min(end, start + order.choice((1, 4, 40))) :]
        elif kind == 3:
            data = data[:end] + data[start:]  # what is between stands twice
        elif kind == 4:
            data = data[:start] + bytes([order.randrange(256)]) + data[start + 1 :]
        else:
            other = order.choice(seeds)
            data = data[:start] + other[order.randint(0, len(other)) :]
    return data


def try_one(check: Callable[[bytes], None], name: str, data: bytes) -> None:
    """Check one input.

    Raises:
        SystemExit: if it finds a fault, with the input and where it happened.
    """
    try:
        check(data)
    except Exception:
        line = json.dumps(data.decode("latin-1"))
        raise SystemExit(f"{traceback.format_exc()}\n{name}: fails for this input (of corpus.json):\n{line}") from None


def fuzz(name: str, seconds: float) -> tuple[int, str]:
    """Fuzz one target for some time; return how many inputs were tried, and the fault that was found."""
    from fuzz.targets import TARGETS, corpus

    order, seeds, ends, tried = random.Random(), corpus(name), time.monotonic() + seconds, 0  # noqa: S311
    try:
        while time.monotonic() < ends:
            try_one(TARGETS[name], name, changed(order, seeds))
            tried += 1
    except SystemExit as fault:
        return tried, str(fault)
    return tried, ""


def fuzz_by_coverage(name: str, seconds: float) -> None:
    """Fuzz one target with atheris, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mcp_chassis"]):
        from fuzz.targets import TARGETS, corpus
    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(corpus(name)):
            Path(directory, str(number)).write_bytes(seed)

        def check(data: bytes) -> None:
            try:
                try_one(TARGETS[name], name, data)
            except SystemExit as fault:
                sys.stdout.write(f"{_FAULT}{fault}\n")
                sys.stdout.flush()
                os._exit(1)

        atheris.Setup([sys.argv[0], directory, f"-max_total_time={seconds:.0f}", "-max_len=4096"], check)
        atheris.Fuzz()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a fault was found."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    options = parser.parse_args(words)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}: choose from {', '.join(TARGETS)}")
    try:
        import atheris  # noqa: F401

        guided = True
    except ImportError:
        guided = False
    failed = False
    for name in options.targets or TARGETS:
        if guided:
            # A process of its own for each: atheris instruments imports, and ends the process.
            command = [sys.executable, "-c", f"from fuzz import run; run.fuzz_by_coverage({name!r}, {options.seconds})"]
            done = subprocess.run(
                command, cwd=HERE.parent, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            inputs = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
            tried, fault = int(inputs[-1]) if inputs else 0, ""
            if done.returncode:
                fault = done.stdout.partition(_FAULT)[2] or done.stderr
        else:
            tried, fault = fuzz(name, options.seconds)
        sys.stdout.write(f"{name}: {tried} inputs{' by coverage' if guided else ''}, {fault or 'no fault'}\n")
        sys.stdout.flush()
        failed |= bool(fault)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
