"""`python -m <package>` is the same command line as the installed script."""

from mcp_chassis.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
