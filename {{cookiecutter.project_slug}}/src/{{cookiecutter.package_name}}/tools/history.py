"""What git says about the directory that the server runs in: a program, started without a shell."""

import shutil
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.sinks import Argument, CommandError, Programs, options, run_argv

REPOSITORY = Path.cwd()
GIT = Programs(
    {"git": shutil.which("git")},
    # No Git settings: they can name programs to run. Nothing is asked, locked or fetched, no other repository found.
    environment={
        "GIT_CEILING_DIRECTORIES": str(REPOSITORY.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    },
)
# The repository's settings are read in any case; these override what in them would start a program.
_SETTINGS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat", "log.showSignature=false")
_LOG = ("--no-ext-diff", "--no-textconv", "--no-patch", "--no-color", "--date=short", "--format=%h %ad %an: %s")


@tool(title="Git log", read_only=True, open_world=False, max_concurrency=4)
async def git_log(
    ref: Annotated[Argument, Field(max_length=200, description="A branch, tag or commit")] = "HEAD",
    limit: Annotated[int, Field(ge=1, le=100, description="Most commits to list")] = 10,
) -> str:
    """List the latest commits of the server's own repository."""
    settings = [word for setting in (*_SETTINGS, f"safe.directory={REPOSITORY}") for word in ("-c", setting)]
    # After the first marker nothing is an option, after the second nothing is a revision.
    before = ["--no-pager", *settings, "-C", str(REPOSITORY), "log", *_LOG, f"-n{limit}", "--end-of-options"]
    try:
        finished = await run_argv(["git", *options(*before), ref, *options("--")], programs=GIT)
    except CommandError as error:
        raise ToolError(str(error)) from None
    if finished.code != 0 and not finished.truncated:
        raise ToolError("git knows no such branch, tag or commit here.")
    return finished.stdout
