"""Make `.env` out of `.env.example`, with new secrets in it: `python scripts/create_env.py`.

This is the one command that completes a project generated with `--accept-hooks no`, and a fresh clone of your own
repository: `.env` is in neither. An existing `.env` is left alone. To change the key, see "Key rotation" in
docs/runbook.md.

They are the API key and, with replicas, what confirmations are sealed with: 256 random bits each. A server recognises
a key by its prefix, also after a rotation. The values are written to `.env` and nowhere else, and never printed.
Standard library only, so that it runs before anything is installed.
"""

import os
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PREFIXES = {"API_KEY=": "mcp_", "STATE_SECRET=": ""}
# Without O_BINARY Windows would write CRLF; a Windows without symbolic links has no O_NOFOLLOW.
CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def fill(example: str) -> str:
    """Return the text of `.env`.

    Raises:
        ValueError: if `example` has no line for the key, or several for a secret.
    """
    lines = example.splitlines()
    for empty in PREFIXES:
        if lines.count(empty) != 1 and (empty == "API_KEY=" or empty in lines):
            raise ValueError(f".env.example must have exactly one line that is {empty}. Put it back as it was.")
    filled = (line + PREFIXES[line] + secrets.token_urlsafe(32) if line in PREFIXES else line for line in lines)
    return "\n".join(filled) + "\n"


def write_private(path: Path, text: str) -> None:
    """Create `path`, readable by its owner only, and write all of `text` or leave no file.

    O_EXCL makes this one step: no other program can put a file, or a symbolic link to elsewhere, in between. The
    mode is right from the start: others could open a file that they may read until its mode is set, and keep it open.

    Raises:
        FileExistsError: if there is anything at `path`, a dangling link included.
    """
    descriptor = os.open(path, CREATE, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)  # a umask such as 0o777 would take the owner's rights as well
            file.write(text.encode())
    except BaseException:  # Ctrl-C too: half a file would be left alone next time
        path.unlink()
        raise


def judge_existing(path: Path) -> int:
    """Leave what is there, and fail if the server could not read it: then there is no key."""
    try:
        if not path.is_file():
            raise OSError(0, "it is not a file, or a link that leads to none. Remove it and try again.")
        path.read_bytes()
    except OSError as error:
        print(f".env is there but cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    print(".env exists already and was left as it is.")
    return 0


def main() -> int:
    """Make `.env`, or say why not."""
    try:
        example = (PROJECT / ".env.example").read_text(encoding="utf-8")
        write_private(PROJECT / ".env", fill(example))
    except FileExistsError:
        return judge_existing(PROJECT / ".env")
    except FileNotFoundError:
        print(".env.example is missing: restore it from the template or from git, and try again.", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f".env could not be made: {reason}", file=sys.stderr)
        return 1
    else:
        print("Made .env with a new API key in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
