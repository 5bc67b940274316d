"""The text profiles: what people write passes unchanged, what machines act upon does not."""

import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from faker import Faker
from faker.config import AVAILABLE_LOCALES
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mcp_chassis.sinks import (
    Argument,
    ConfigurationError,
    Identifier,
    InvalidInput,
    Name,
    Text,
    check_argument,
    check_identifier,
    check_name,
    check_text,
    sanitize_input,
    validate_file_path,
    validate_url,
)

CHECKS: list[Callable[..., str]] = [check_name, check_text, check_identifier, check_argument]

PLAIN = ["Hello World", "O'Brien & Sons (UK)", "rm -rf explained", "AT&T", "C++", "R&D #3", "anna@example.org"]

EVERYDAY = [
    *("Viana / RO", "Stjuard / stjuardesa", "ব্রডকাস্টিং/ফিল্ম", "安全／衛生", "C/ Mayor, 5", "c/o Müller", "5/2"),
    *("5 €", "€5", "£20", "100 % cotton", "50% off", "Save 20%!", "2 × 3 m", "100 m²", "Café®"),
    *("C#", "C# & .NET", "C++ & Java", "Smith & Sons", "Bros. & Co", "(UK) & Co.", "Q&A: how?", "M&M's", "H&M"),
    *("Marks & Spencer plc", "Johnson & Johnson", "Tom & Jerry", "Smith&Sons", "Иванов & сыновья", "मोहन & पुत्र"),
    *(
        "Klein & de Jager",
        "Huijbrechts & van 't Hof",
        "Ridder & van den Berg",
        "Meier & von der Heide",
        "Abt & zu Rhein",
    ),
    *("Ruud & co.", "Dupont & fils", "Smith & sons, London", "Olsen & sønner", "Rossi & figli (Roma)"),
    *("瑪麗‧居禮", "丸の内1−9−1", "1 − 2", "٥٠٪", "٣٫٥ كم", "١٬٠٠٠", "㈱東京", "株式会社㈲", "①番", "100㎡", "5㎏"),
    *("25℃", "CO₂", "H₂O", "⅔", "ᠮᠣᠩᠭᠣᠯ᠂ ᠤᠯᠤᠰ᠃", "‚Zitat‘"),
    *("Qu'est-ce que c'est ?", "Attention\u202f! Vraiment\u00a0?!", "Question : laquelle ?", "5%-10%", "5 %–10 %"),
    *("እንዴት፧", "価格：500円", "【新】《红楼梦》", "100〜200円", "100％", "50％オフ"),
    *("Great 👍", "👍", "👩‍👩‍👧 🧑🏽‍💻 🇩🇪 🤷🏻‍♀️", "❤️ ★★★", "✓ done"),
    *("Happy birthday!", "Yahoo! Japan", "What is this?", "Really?!", "¿Qué?", "¡Hola!", "Me (really!)"),
]

# A name and an address of each, as people write them there.
LANGUAGES = {
    "Amharic": ["ኃይለ ገብረሥላሴ", "ቦሌ መንገድ፣ አዲስ አበባ"],
    "Arabic": ["محمد بن عبد الله", "شارع التحرير، القاهرة ١١٥١١"],
    "Armenian": ["Արամ Խաչատրյան", "Մաշտոցի պող. 12, Երևան"],
    "Bengali": ["রবীন্দ্রনাথ ঠাকুর", "৬/৪ দ্বারকানাথ ঠাকুর লেন, কলকাতা"],
    "Bulgarian": ["Христо Ботев", "бул. „Витоша“ № 15, София"],
    "Burmese": ["အောင်ဆန်းစုကြည်", "ဗိုလ်ချုပ်လမ်း၊ ရန်ကုန်မြို့။"],
    "Catalan": ["Gal·la Plana i Col·lell", "C/ de l'Om, 5, 2n 1a, 08001 L'Hospitalet"],
    "Chinese": ["孙中山", "上海市黄浦区南京东路100号（3楼）", "二〇〇八"],
    "Czech": ["Antonín Dvořák", "nám. Míru 820/9, 120 00 Praha 2"],
    "French": ["Jean-François d’Ormesson", "12 bis, rue de l'Église, N° 4"],
    "Georgian": ["შოთა რუსთაველი", "რუსთაველის გამზ. 8, თბილისი"],
    "German": ["Jürgen Groß-Weißmüller", "c/o Müller, Gasthaus „Zum Löwen“, Königsstr. 5/2"],
    "Greek": ["Νίκος Καζαντζάκης", "Λεωφ. Αλεξάνδρας 12, Αθήνα"],
    "Gujarati": ["મોહનદાસ ગાંધી", "૧૨, આશ્રમ રોડ, અમદાવાદ"],
    "Hawaiian": ["Kalaniʻōpuʻu", "47-388 Hui ʻIwa St, Kāneʻohe"],
    "Hebrew": ["דוד בן־גוריון", "רח' הרצל 5, ת\"א", "חז״ל"],
    "Hindi": ["श्रीमती इंदिरा गाँधी", "डॉ॰ राजेंद्र प्रसाद रोड, नई दिल्ली ११०००१"],
    "Hungarian": ["Erdős Pál", "Fő utca 3. II/5, 1011 Budapest"],
    "Icelandic": ["Þórður Ægisson", "Laugavegur 22, 101 Reykjavík"],
    "Irish": ["Seán Ó Súilleabháin", "Sráid Uí Chonaill, B.Á.C. 1"],
    "Italian": ["Nicolò D'Angelo", "Via dell'Orso, 5/A, 20121 Milano"],
    "Japanese": ["高橋・ジョン", "東京都千代田区丸の内1-2-3「本館」", "葛\U000e0100城市"],
    "Khmer": ["នរោត្តម សីហនុ", "ផ្លូវព្រះនរោត្តម ភ្នំពេញ។"],
    "Korean": ["김대중", "서울특별시 종로구 세종대로 209 (세종로)"],
    "Malayalam": ["നാരായണ ഗുരു", "എം.ജി. റോഡ്, കൊച്ചി", "അവന്\u200dറെ"],
    "Maori": ["Te Rangi Hīroa", "Whare Wānanga, Tāmaki Makaurau"],
    "Mongolian": ["Чингис хаан", "ᠴᠢᠩᠭᠢᠰ ᠬᠠᠭ\u180eᠠᠨ"],
    "Persian": ["فردوسی", "خیابان ولی\u200cعصر، کوچهٔ ۵، تهران"],
    "Polish": ["Łukasz Żółć", "ul. Świętego Józefa 7/9, 00-950 Łódź"],
    "Portuguese": ["João Gonçalves d'Ávila", "Av. São João, nº 120, 3.º andar"],
    "Russian": ["Пётр Ильич Чайковский", "ООО «Ромашка», ул. Ленина, д. 5, кв. 12"],
    "Sinhala": ["ශ්\u200dරී ලංකා", "ගාලු පාර, කොළඹ 03"],
    "Spanish": ["María del Carmen Núñez-Ibáñez", "C/ Mayor, 5, 3.º B, 28013 Madrid"],
    "Swedish": ["Åsa Öberg", "Södra vägen 12 B, 412 54 Göteborg"],
    "Tamil": ["சி. சுப்பிரமணிய பாரதி", "12, காந்தி சாலை, சென்னை"],
    "Thai": ["สมเด็จพระนเรศวร", "ถ. สุขุมวิท กรุงเทพฯ ๑๐๑๑๐"],
    "Tibetan": ["བསྟན་འཛིན་རྒྱ་མཚོ།", "ལྷ་ས་གྲོང་ཁྱེར།"],
    "Turkish": ["Işıl İğdecioğlu", "Atatürk Cd. No:5/3, Beyoğlu"],
    "Urdu": ["علامہ محمد اقبال", "مال روڈ، لاہور۔"],
    "Vietnamese": ["Nguyễn Thị Thuỳ Dương", "12/5 Đường Lê Lợi, Q.1, TP. Hồ Chí Minh"],
    "Yoruba": ["Wọlé Ṣóyínká", "Òpópónà Ọ̀ṣun, Ìbàdàn"],
}

ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"

PROSE = [
    "Two lines\n\tand a tab; $5 | 100% `code` <b> \\ ~ ^ *",
    "👩‍👩‍👧 ❤️‍🔥 👁️‍🗨️ 🏴‍☠️ 🧑🏽‍💻 🐦‍⬛ 🙂‍↔️ 1️⃣ ℹ️ ‼️ ©️ 🇩🇪",
    ENGLAND + " against " + SCOTLAND,
    "می\u200cخواهم کتاب\u200cها را بخوانم.",
    "क्\u200dष, र्\u200dय और क\u200cक",
    "র\u200d্যাব",
    "שלום\u200f! C++\u200e (123)",
    "۱۴۳۳ ه\u200d",
    "ภาษา\u200bไทย",
    "葛\U000e0100飾区",
    "ᠮᠣᠩᠭᠣᠯ\u180eᠠ ᠪᠠ\u180b",
    "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים",
    "∀x ∈ ℝ: ⌈x⌉ = −⌊−x⌋, 𝕏 ≠ ∅",
    "",
]


@pytest.mark.parametrize("text", PLAIN + EVERYDAY + [text for texts in LANGUAGES.values() for text in texts])
def test_names_and_addresses_pass_unchanged(text: str) -> None:
    assert len(LANGUAGES) >= 35
    for check in (sanitize_input, check_text, check_argument):
        assert check(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("text", PROSE + [text for texts in LANGUAGES.values() for text in texts])
def test_prose_in_any_script_passes_unchanged(text: str) -> None:
    assert check_text(text) == unicodedata.normalize("NFC", text)


def generated(seed: int) -> Iterator[str]:
    """Yield names, companies and addresses of every locale that Faker knows."""
    for locale in sorted(AVAILABLE_LOCALES):
        with warnings.catch_warnings(action="ignore"):  # some locales are old names of others
            fake: Any = Faker(locale)
        fake.seed_instance(seed)
        for make in (fake.name, fake.company, fake.address):
            yield from (make().replace("\n", ", ") for _ in range(100))


def test_of_generated_names_and_addresses_at_most_one_in_a_thousand_is_refused() -> None:
    seed = int(datetime.now(UTC).strftime("%Y%m%d"))
    refused, number = [], 0
    for text in generated(seed):
        number += 1
        try:
            check_name(text)
        except InvalidInput as error:
            refused.append(f"{text}: {error}")
    assert number > 30_000
    assert len(refused) <= number / 1000, (seed, refused)


NO_NAMES = ["Anna\nMaria", "a%b", "a;b", "a|b", "a`b", "a*b", "a<b", "a\\b", "a\tb", "→", "a?b", "τί;", "τί\u037e"]


@pytest.mark.parametrize("text", NO_NAMES)
def test_a_name_is_no_prose(text: str) -> None:
    assert check_text(text) == unicodedata.normalize("NFC", text)
    with pytest.raises(InvalidInput):
        check_name(text)


@pytest.mark.parametrize("text", ["user_1", "a-b", "_x", "42", "9f86d081-884c-4d65-9a2f-eaa0c55ad015", "a" * 64])
def test_identifiers(text: str) -> None:
    assert check_identifier(text) == text


@pytest.mark.parametrize("text", ["", "-x", "a b", "a.b", "../x", "naïve", "а", "１", "a\n", "a" * 65, "a;b"])
def test_what_is_no_identifier(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_identifier(text)


@pytest.mark.parametrize(
    "text", ["v1.0^{commit}", "$HOME is not expanded; nor is *", "a b", "@alice", "C:\\x", "ключ=значение"]
)
def test_an_argument_is_anything_on_one_line(text: str) -> None:
    assert check_argument(text) == text


@pytest.mark.parametrize(
    "text", ["-x", "--output=/etc/passwd", "–x", "—x", "−x", "－x", "﹣x", "a\nb", "a\0b", "a\tb", "\x1b[2J"]
)
def test_what_is_no_argument(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_argument(text)


def test_nfc_in_and_out() -> None:
    assert sanitize_input("Ame\u0301lie") == "Amélie"


@pytest.mark.parametrize("check", CHECKS)
@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
def test_every_text_is_refused_or_returned_as_it_was(check: Callable[[str], str], text: str) -> None:
    message = ""
    try:
        checked = check(text)
    except InvalidInput as error:
        message = str(error)
    else:
        assert checked == unicodedata.normalize("NFC", text)
        assert check(checked) == checked
        checked.encode("utf-8")
        assert not any(unicodedata.category(character) == "Cc" for character in checked if character not in "\n\t")
    assert len(text) < 8 or text not in message


@given(text=st.text(st.sampled_from("ab -&#;|$`\\<>(){}[]*?!~^%\"'/\n"), max_size=30))
def test_a_name_holds_nothing_that_shells_and_markup_begin_with(text: str) -> None:
    try:
        checked = check_name(text)
    except InvalidInput:
        return
    assert not set(checked) & set(';|$`\\<>{}[]*~^"\n')
    assert not checked.startswith(("-", "&", "/", "!", "?", "%"))
    assert not checked.endswith(("&", "/"))
    for pair in ("&&", "//", "!!", "%%", "&#", "--", " /b", "!b", "?b", "%b"):
        assert pair not in checked


@pytest.mark.parametrize(
    "text",
    [
        *(" ?", "a  ?", "a ?b", "a !b", "a !ls", "a !!", "- ?", "5%-d", "5%-", "5%–s", "％41", "5％41", "a％"),
        *("٪41", "٪PATH٪", "٪s", "a −−b", "a -−b", "a−−", "Smith & Rscript -e q()", "A & B (-x"),
        *("a & du b", "a & le b", "a & vans b", "a & van", "a&de b", "a &de b", "x & de & id", "a & de `b`"),
        *("a & co b", "a & co", "a & co.sh b", "a & sons.sh", "a & fils/x", "a & sonsx", "a & hijos-x"),
        *("a│b", "a❘b", "a¦b", "a；b", "a～b", "a←b", "👍;", "a\u200d👍 $x", "👍\u200d"),
    ],
)
def test_what_looks_like_spelling_is_still_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_name(text)


def test_the_message_gives_rule_and_position_but_not_the_value() -> None:
    with pytest.raises(InvalidInput, match=r"^character 5 \(U\+0024\) is not allowed there in a name$"):
        sanitize_input("abcd$secret")
    with pytest.raises(InvalidInput, match=r"^it is longer than 3 characters$"):
        sanitize_input("secret", max_length=3)
    with pytest.raises(InvalidInput, match=r"^it is longer than 3 characters$"):
        sanitize_input("secret", 3)


@pytest.mark.parametrize("annotated", [Name, Text, Identifier, Argument])
def test_the_published_schema_of_a_type_has_bounds(annotated: Any) -> None:
    assert TypeAdapter(annotated).json_schema()["maxLength"] <= 10_000


def test_a_type_checks_and_can_be_narrowed() -> None:
    class Model(BaseModel):
        name: Annotated[Name, Field(max_length=5)]

    assert Model(name="Ame\u0301l").name == "Amél"
    for refused in ("a;b", "Amelie"):
        with pytest.raises(ValidationError):
            Model(name=refused)
    assert Model.model_json_schema()["properties"]["name"]["maxLength"] == 5


@pytest.mark.parametrize("unit", ["\u0301\u0316", "a\u0301", "\u200d", "ना", "&", "\U000e0067", "🏴", "-", "\u0f77"])
def test_the_time_is_linear(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        started = time.perf_counter()
        for check in CHECKS:
            with suppress(InvalidInput):
                check(text, max_length=10 * length)
        return time.perf_counter() - started

    # NFC alone needs 10 s for 100,000 marks.
    assert seconds(100_000) < 2


def test_an_endless_text_is_refused_before_it_is_looked_at() -> None:
    text = "\u0301\u0316" * 5_000_000
    started = time.perf_counter()
    for check in CHECKS:
        with pytest.raises(InvalidInput, match="longer"):
            check(text)
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("check", [*CHECKS, validate_file_path, validate_url])
def test_a_length_that_nothing_has_is_the_authors_mistake(check: Callable[..., object]) -> None:
    """Not a ValueError: a validator of pydantic would blame the caller."""
    for max_length in (0, -1):
        with pytest.raises(ConfigurationError):
            check("a", max_length=max_length)
    assert not issubclass(ConfigurationError, ValueError)
