"""Attacks every tool, resource and prompt of the project, and checks what only a successful attack leaves behind.

The command `attack` and `tests/attacks/test_every_tool.py` run it. A new tool is attacked without an edit here. It
proves holes, never their absence.
"""
