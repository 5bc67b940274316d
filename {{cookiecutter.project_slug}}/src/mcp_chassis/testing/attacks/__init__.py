"""Attacks every tool, resource and prompt of the project, and watches what only a successful attack leaves behind.

`attack` on the command line runs it, and so does `tests/attacks/test_every_tool.py`. A tool that is added is attacked
from then on, without an edit here. It proves holes, never their absence.
"""
