"""A project with every example, made once for each process that runs tests: the chassis has to serve something."""

import atexit
import shutil
import tempfile
from pathlib import Path

from baking import TEMPLATE, bake

import dev

CHASSIS = TEMPLATE / "src"
"""The directory to import `mcp_chassis` from."""

_DIRECTORY = tempfile.mkdtemp(prefix="default-project-")
atexit.register(shutil.rmtree, _DIRECTORY, ignore_errors=True)

PROJECT = bake(Path(_DIRECTORY), overwrite=False, hooks=True, **dev.EVERY_ROOM, examples="full")
PACKAGE = "secure_mcp_server"
