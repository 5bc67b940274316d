"""What an attack achieved, and how to fix it."""

from dataclasses import dataclass

from .subjects import Subject

_ADVICE = {
    "path": "open files through SafeRoot(...).read_text / write_text, never open()",
    "url": "fetch with SafeFetcher, never with urlopen, requests or httpx",
    "shell": "start programs with run_argv([...]), without a shell; values cannot become options there",
    "code": "never eval, exec, unpickle or yaml.load a value: look it up in a table, or use ast.literal_eval",
    "template": "keep templates and format strings fixed and pass the value as a parameter",
    "sql": "bind SQL parameters: execute('... WHERE name = ?', (name,)), never an f-string",
    "xml": "parse XML with entities switched off, such as defusedxml does",
    "regex": "bound the input (max_length), without nested quantifiers such as (a+)+ or overlapping alternatives",
    "text": "declare the argument as Text or Name from mcp_chassis.sinks, so that hidden characters are refused",
    "types": "declare exact types and bounds; the guard then refuses the rest",
}
_SINKS = frozenset({"path", "url", "shell", "code", "template", "sql", "xml"})
_FIX = {
    "secret in the answer": "answer with what was asked for only; never with os.environ or settings",
    "internal text in the answer": 'raise ToolError("your own sentence") without the text of the exception',
    "hidden text in the answer": _ADVICE["text"],
    "data of another caller": "keep no caller's data in globals; store and look it up by get_principal().id",
    "answer over the size limit": "bound what is returned, in pages if need be",
    "server error": "catch what the function can raise, and raise ToolError with your own sentence",
    "server ended": "never call os._exit or native code on a value; start programs with run_argv",
    "not proved": "give a state and valid arguments in tests/attacks/fixture.py; mcp_chassis.testing.attacks says how",
    "not attacked": 'say what a valid value looks like: Field(examples=["..."])',
}


@dataclass(frozen=True)
class Finding:
    """What an attack achieved."""

    kind: str
    subject: Subject
    argument: str
    family: str
    payload: str
    evidence: str

    @property
    def safe_way(self) -> str:
        """How to write the tool instead."""
        if self.kind == "secret in the answer" and self.family in _SINKS:
            return _ADVICE[self.family]
        return _FIX.get(self.kind) or _ADVICE.get(self.family, "bound what the function does with this value")

    def __str__(self) -> str:
        where = f"argument {self.argument}" if self.argument else "any call"
        return (
            f"{self.subject}, {where}: {self.kind} ({self.family}): {self.evidence}\n"
            f"    payload: {self.payload}\n    safe way: {self.safe_way}"
        )
