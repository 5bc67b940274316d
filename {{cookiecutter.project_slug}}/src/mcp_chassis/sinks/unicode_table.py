"""Sets of characters of Unicode 18.0 for regular expressions. Generated: do not edit."""

HIDDEN = (  # Shows nothing or moves the cursor; tab, LF and CR excepted
    "\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe-\uffff\U00013430-\U0001343f\U00013441-\U00013442\U00016fe4\U0001bca0-\U0001bca3\U0001d159"
    "\U0001d173-\U0001d17a\U0001fffe-\U0001ffff\U0002fffe-\U0002ffff\U0003fffe-\U0010ffff"
)
JOINING = (  # Scripts whose letters join or form conjuncts, and Hebrew
    "\u0591-\u061a\u061d-\u077f\u07c0-\u07ff\u0840-\u109f\u1700-\u1734\u1780-\u17b3\u17b6-\u180a\u1810-\u18aa"
    "\u19e0-\u19ff\u1a20-\u1aad\u1b00-\u1bff\u1cc0-\u1cc7\u2d30-\u2d7f\ua800-\ua82c\ua840-\ua8ff\ua930-\ua95f"
    "\ua980-\ua9cd\ua9d0-\ua9fe\uaa60-\uaa7f\uaae0-\uaaf6\uabc0-\uabf9\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010a58\U00010ac0-\U00010af6\U00010b80-\U00010baf\U00010d00-\U00010d39\U00010e60-\U00010e7e"
    "\U00010ec2-\U00010eff\U00010f30-\U00010fcb\U00011000-\U000110cd\U00011100-\U00011147\U00011180-\U00011241"
    "\U000112b0-\U000114d9\U00011580-\U00011746\U00011800-\U0001183b\U00011900-\U00011959\U000119a0-\U00011aa2"
    "\U00011b00-\U00011b0a\U00011b60-\U00011b67\U00011c00-\U00011c6c\U00011d00-\U00011da9\U00011df0-\U00011df1"
    "\U00011f00-\U00011f5a\U00011fc0-\U00011fff\U00016100-\U00016139\U0001e900-\U0001e95f\U0001ee00-\U0001eef1"
)
UNSPACED = (  # Scripts that put no spaces between words (UAX #14, SA)
    "\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109f\u1780-\u17b3\u17b6-\u17dd"
    "\u1950-\u19c9\u19de-\u19df\u1a20-\u1a7c\u1aa0-\u1aad\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaadf"
    "\U00011700-\U0001172b\U0001173a-\U00011746"
)
RIGHT_TO_LEFT = (  # Letters that run from right to left
    "\u05d0-\u05f2\u0620-\u064a\u066e-\u06ef\u06fa-\u07b1\u07ca-\u08c9\ufb1d-\ufdc7\ufdf0-\ufdfb\ufe70-\ufefc"
    "\U00010800-\U00010855\U00010860-\U00010876\U00010880-\U0001089e\U000108e0-\U000108f5\U00010900-\U00010915"
    "\U00010920-\U000109b7\U000109be-\U000109bf\U00010a00-\U00010a35\U00010a60-\U00010a7c\U00010a80-\U00010a9c"
    "\U00010ac0-\U00010ae4\U00010b00-\U00010b55\U00010b60-\U00010b72\U00010b80-\U00010b91\U00010c00-\U00010cf2"
    "\U00010d00-\U00010d23\U00010d4a-\U00010d85\U00010e80-\U00010f1c\U00010f27-\U00010f45\U00010f70-\U00010fc4"
    "\U00010fe0-\U00010ff6\U0001e800-\U0001e8c4\U0001e900-\U0001e94b\U0001ee00-\U0001eebb"
)
IDEOGRAPHS = (  # Unified_Ideograph
    "\u3400-\u9fff\ufa0e-\ufa0f\ufa11\ufa13-\ufa14\ufa1f\ufa21\ufa23-\ufa24\ufa27-\ufa29\U00020000-\U0002ee5d"
    "\U00030000-\U00033479"
)
PICTOGRAPHS = (  # Extended_Pictographic: emoji of today and to come
    "\xa9\xae\u203c-\u2049\u2122\u2139\u2194-\u21aa\u231a-\u2328\u23cf-\u23fa\u24c2\u25aa-\u2764\u2795-\u27bf"
    "\u2934-\u2935\u2b05-\u2b55\u3030\u303d\u3297-\u3299\U0001f004-\U0001f02f\U0001f094-\U0001f0ff"
    "\U0001f170-\U0001f6ff\U0001f7dc-\U0001f9ff\U0001fa58-\U0001faff\U0001fc00-\U0001fffd"
)
