"""The chassis's own tests. They run against the chassis where it lies, and serve the default project's tools."""

import sys

from .support.project import CHASSIS, PROJECT

# The chassis of the checkout goes first: the default project has a copy of it.
sys.path[:0] = [str(CHASSIS), str(PROJECT / "src")]
