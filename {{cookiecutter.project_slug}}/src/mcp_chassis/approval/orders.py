"""Finds orders to the model in a text: what poisoned descriptions say and honest ones do not.

Honest descriptions give orders too: "you must call X first", "use this instead of Y", "ignore case". So each pattern is
of a form that has no other reading: secrecy, a false voice of authority, a rule over other tools, the way of data to a
stranger, or a file that holds secrets. `docs/tools.md` has what it finds of published attacks. What is worded like an
honest description passes: only a reviewer sees that.
"""

import html
import re
import unicodedata

from ..sinks.hidden import without_hidden

_PEOPLE = r"(users?|customers?|humans?|operator|sender|recipient|anyone|anybody)\b"
_SECRETS = (
    r"((~|/root|/home/\w+|\$HOME)/)?(\.(ssh|aws|cursor|config|gnupg|kube|docker|netrc|npmrc|pypirc|gitconfig"
    r"|(bash|zsh|shell)[ _]history|env)\b(?!\.\w)|/etc/(passwd|shadow)\b|\bid[ _](rsa|ed25519)\b|\bmcp\.json\b"
    r"|\bprocess\.env\b)"
)
_TO_ADDRESS = (
    r"\b((?!such\s+as|e\.?g|example|instance|\.\s).){0,80}?(\b[\w.+-]+@[\w-]+\.\w+|\bto\s+(\w+\s+){0,2}https?://)"
)
_TOOLS = r"\b((tool|command|operation|call|invocation)s?\b|(message|email|request|answer)s?\s+(that\s+)?you\b)"

_ORDERS = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # Other instructions are void.
        r"\b(ignore|disregard|override|forget|bypass)s?\s+"
        r"((all|any|the|your|every|these)\b.{0,30}\b(instructions?|guidelines?|training)\b|all\s+rules\b"
        r"|((all|any|the|every|these)\s+){0,2}(your|previous|prior|earlier|above|safety|system)\s+(\w+\s+)?"
        r"(instruction|prompt|rule|message|guideline|context|restriction|check|polic|training)s?\b)",
        r"\bdisregard\b.{0,40}\b(restriction|instruction|polic)|\bjailbreak\b.{0,20}\bmode\b",
        r"\b(supersedes?|overrides?|takes?\s+precedence\s+over)\s+(all|any)\s+(\w+\s+)?(instruction|polic|rule|prompt)",
        r"\bcannot\s+be\s+overridden\s+by\b.{0,30}\b(instruction|prompt|message)",
        r"\b(reveal|return|show|print|repeat|send|output|disregard|ignore|override|leak)\b"
        r".{0,20}\bsystem\s+prompt\b(?!\s+(of|template)\b)",
        r"\byou\s+are\s+now\s+(unrestricted|in\s+(\w+\s+)?mode)\b|\bpretend\s+(to\s+be|that\s+you)\b",
        r"\bignore\s+(all|any)\s+(other\s+)?(\w+\s+)?tools\b",
        # The user must not know.
        r"\b(do\s+not|don'?t|never|need\s+to|should\s+not)\s+(\w+ly\s+|ever\s+)?"
        r"(tell|mention|inform|reveal|notify|alert|show|disclose|report|present)\b(.{0,60}\bto)?(\s+(the|any|your))?\s+"
        + _PEOPLE,
        r"\bwithout\s+(\w+ly\s+|ever\s+)?(tell|mention|inform|reveal|notify|alert|show|disclos|report|present)\w*\b"
        r"(.{0,60}\bto)?\s+((the|your)\s+(user|human|operator)|any(one|body))\b",
        r"\b(do\s+not|don'?t|never)\s+(\w+ly\s+|ever\s+)?"
        r"((mention|disclose|report|reveal)\s+that\s+you|(mention|disclose|reveal)\s+(this|that|it)\s*([.,;:!]|$))",
        r"\b(must|should)\s+(never|not)\s+be\s+(mentioned|disclosed|revealed|reported|shown)\s+to\b",
        r"(^|[.:;,]\s+)without\s+(prompting|asking|telling)\s+the\s+" + _PEOPLE,
        r"\b(silently|secretly|quietly|covertly)\s+(\w+\s+)?"
        r"(cop(y|ies)|writes?|sends?|reads?|appends?|collects?|forwards?|uploads?|records?|logs?|includes?|adds?)\b",
        r"\b(happens|before\s+execution|the\s+\w+)\s+(silently|secretly)\b|\b(modify|change)\b.{0,40}\bsilently\b",
        r"\bas\s+(if|though)\s+(it|they|this)\b.{0,5}\bpart\s+of\b",
        r"\b(secret|covert|invisible)\s+(operation|step|instruction|mode|background)\b(?!\s+(code|colou?r)\b)",
        r"\bnot\s+for\s+display\b",
        r"\bthe\s+(user|human|operator)\s+(should|must)\s+(only\s+)?(see\s+only|only\s+see|not\s+(see|know|notice))",
        # A voice of authority: tags, and headings as of a system message.
        r"<\s*/?\s*(important|system|instructions?|secret|hidden|admin|assistant)\s*>|<\|(im[ _]start|system|user)\|?>",
        r"\[\s*/?(inst|([a-z]+\s+)?(system|hidden|background|passive|assistant)(\s+[a-z]+){0,2})\s*\]\s*([:.]|\s)",
        r"(^|\n|\s)#{2,}\s*(system|new)?\s*(instructions?|prompt)\s*:",
        r"<!--.{0,80}\b(system|always|ignore|instructions?|you\s+must|read|send|include)\b",
        r"(^|[.:\n*\]]\s*)(system|assistant|llm|agent)\s*"
        r"((\w+\s+){0,2}(note|notice|message|instruction|rule|override|policy)s?"
        r"\s*:.{0,80}|:)\s*\b(you|must|always|never|before|ignore|disregard|assistant|whenever)\b",
        r"\b(global|mandatory)\s+(\w+\s+){0,2}(policy|protocol|directive)\b.{0,90}\b(session|tools?|commands?)\b",
        # Other tools, and whatever happens in this conversation.
        r"\b(before|after|when|whenever)\s+(using|calling|invoking)\s+(any|the)\s+other\s+tools?\b"
        r".{0,40}\b(must|always|first|read|send|call)\b",
        r"\basks?\b.{0,60}\btool\b.{0,20}\bfirst\s+call\s+this\b|\binstead\s+of\s+using\b.{0,40}\btool\W+always\s+call",
        r"\bregardless\s+of\s+which\s+tool\b",
        r"\b(by|of|in|from)\s+any\s+(tool|server)'?s?\b.{0,60}\b(append|write|send|log|also)\b",
        r"\b(append|prepend|prefix|suffix|add|insert)\w*\b.{0,160}\b(to|before)\s+(every|all|each)\s+(\w+\s+)?"
        + _TOOLS,
        r"\ball\s+(\w+\s+){0,2}commands\b.{0,40}\b(must|should)\s+(include|be\s+prefixed|begin|start)\b",
        r"\b(for|during|throughout)\s+(the\s+(duration|rest)\s+of\s+)?this\s+(entire\s+)?(session|conversation)\b"
        r"[^.;]{0,120}\b(append|send|always|whenever)\b",
        r"\ball\s+(subsequent|future)\s+tool\s+calls\b",
        r"\bon\s+(every|each)\s+(agent\s+)?(session|conversation)\b.{0,60}\b(call|send|read|append|always|you)\b",
        r"\b(copy|redirect|send|log)\b.{0,60}\b(external\s+(logging|collection)|monitoring\s+(proxy|endpoint))\b",
        # Data goes to a stranger.
        r"\b(always|also|must|please|first)\b.{0,60}\b(b?cc|forward|copy|send|share|add|loop|redirect)" + _TO_ADDRESS,
        r"\b(forward|send|add|email)\w*\b.{0,30}\b(copy|copies|contents?|credentials|everything)" + _TO_ADDRESS,
        r"\b(all|any)\s+(emails?|messages?|mails?)\b.{0,60}\bto\s+(\+\d|\w[\w.+-]*@)",
        r"\bb?cc('?d|ed)?\b.{0,30}\w@\w|\bfirst\s+call\b[^.]{0,80}\w@\w",
        r"\b(call|pass|send|include)\b.{0,80}\b(full|entire|complete|whole|user'?s)\s+(\w+\s+)?conversation\b",
        r"\bexfiltrate\s+(\w+\s+){0,3}(data|secrets?|credentials|keys)\b",
        r"\b(curl|wget)\b.{0,120}(\$\(|\|\s*(ba)?sh\b|>\s*/dev/null)|>\s*/tmp/\.|/tmp/\.\w+",
        # A file of secrets is read for it, or a call is demanded in the name of safety.
        r"\byou\s+(must|are\s+required\s+to|should\s+always)\s+(\w+ly\s+)?(first|always|also)\s+"
        r"(read|access|send|collect|check\s+if)\b",
        r"\b(read|cat|open|access|send|copy|include|pass|print|collect|prepend|append|fetch|upload)\b[^.]{0,60}"
        + _SECRETS,
        r"(~|/root|/home/\w+)/\.(ssh|aws|cursor)\b|\bid_(rsa|ed25519)\b(?!\.pub)",
        r"\byou\s+must\b.{0,40}\bcall\b.{0,60}\band\s+(pass|send|include)\b",
        r"\bmust\s+be\s+(called|consulted|invoked)\s+first\b.{0,40}"
        r"\b(every|any|each)\s+(other\s+)?(tool|call|request|message|answer|action)",
    )
]

# Letters of Greek and Cyrillic that look like Latin ones (UTS #39), and the typographic apostrophe.
_LOOK_ALIKES = str.maketrans("аеіјорсухѕԁһӏοαινυρκɡ’", "aeijopcyxsdhloaivupkg'")
_BETWEEN_WORDS = re.compile(r"[_\-*`\"|\\]+|(?<=[a-z])(?=[A-Z])")


def order_in(text: str) -> str:
    """Return the first order in `text`, however it is spelled: in other alphabets, in markup, as a name in code."""
    folded = unicodedata.normalize("NFKD", html.unescape(without_hidden(text))).translate(_LOOK_ALIKES)
    folded = "".join(character for character in folded if not unicodedata.combining(character))
    spellings = (folded, _BETWEEN_WORDS.sub(" ", folded))
    return next((match[0] for order in _ORDERS for said in spellings if (match := order.search(said))), "")
