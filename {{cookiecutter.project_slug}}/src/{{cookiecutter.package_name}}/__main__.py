"""The command line: the installed command, and `python -m <package>`."""

from mcp_chassis.cli import run

from .server import SERVER


def main() -> int:
    """Run one command and return its exit code."""
    return run(SERVER)


if __name__ == "__main__":
    raise SystemExit(main())
