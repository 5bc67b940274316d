"""Attacks every tool, resource and prompt of the project, and checks what only a successful attack leaves behind.

The command `attack` and `tests/attacks/test_every_tool.py` run it. A new tool is attacked without an edit here. It
proves holes, never their absence; a tool of which no call succeeds proves nothing, and fails. Such a tool needs
`tests/attacks/fixture.py`: `prepare(directory)` makes the state to start from, in the directory that the attacked
server runs in; `SAMPLES = {"find_orders": [{"status": "open"}]}` are valid arguments; `UNPROVED = {"fetch_page": "no
internet"}` names the tools that cannot succeed.
"""
