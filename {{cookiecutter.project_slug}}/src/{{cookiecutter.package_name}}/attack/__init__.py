"""Attacks every tool, resource and prompt of the project, and watches what only a successful attack leaves behind.

Run it with `<project> attack`; `tests/attacks/test_every_tool.py` runs the same. A tool that is added is attacked from
then on, without an edit here. It proves holes, never their absence.
"""
