"""Secrets: checksums of tokens and wallets, keys in armour, signed tokens, and what people write as a password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from detectors.checks import CHECKS
from detectors.checks.checksums import bech32
from detectors.checks.tokens import PLACEHOLDER, entropy

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
BASE58 = "".join(char for char in BASE62 if char not in "0OIl")
BODIES = st.text(BASE62, min_size=30, max_size=30).filter(lambda text: len(set(text[-14:])) > 8)


def whole(check: str, text: str) -> bool:
    return CHECKS[check](text, 0, len(text)) == (0, len(text))


def value(check: str, text: str) -> str | None:
    """What the check marks in ``text``, all of which is the match."""
    span = CHECKS[check](text, 0, len(text))
    return span and text[slice(*span)]


def changed(data: st.DataObject, text: str, first: int, alphabet: str) -> str:
    """``text`` with one other character at a place from ``first`` on."""
    place = data.draw(st.integers(first, len(text) - 1), label="place")
    other = data.draw(st.sampled_from([char for char in alphabet if char != text[place]]), label="character")
    return text[:place] + other + text[place + 1 :]


def base58check(payload: bytes) -> str:
    data = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


@given(data=st.data(), body=BODIES, prefix=st.sampled_from(["ghp_", "gho_", "npm_"]))
def test_a_token_with_a_crc(data: st.DataObject, body: str, prefix: str) -> None:
    crc = binascii.crc32(body.encode())
    check = "".join(BASE62[crc // 62**place % 62] for place in range(5, -1, -1))
    token = prefix + body + check
    assert whole("token_crc", token)
    assert not whole("token_without_crc", token)
    wrong = changed(data, token, 4, BASE62)
    assert not whole("token_crc", wrong)
    assume(PLACEHOLDER.search(wrong) is None)  # "12345678" is a note to the reader
    assert whole("token_without_crc", wrong)


def test_published_tokens_with_checksums() -> None:
    assert whole("token_crc", "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")
    assert whole("token_grafana", "glsa_yscW25imSKJIuav8zF37RZmnbiDvB05G_fcaaf58a")
    assert not whole("token_grafana", "glsa_yscW25imSKJIuav8zF37RZmnbiDvB05G_fcaaf58b")


@given(data=st.data(), key=st.binary(min_size=32, max_size=32), compressed=st.booleans())
def test_a_bitcoin_key(data: st.DataObject, key: bytes, compressed: bool) -> None:
    text = base58check(b"\x80" + key + (b"\x01" if compressed else b""))
    assert whole("wif", text)
    assert not whole("wif", changed(data, text, 1, BASE58))
    assert not whole("wif", base58check(b"\x00" + key))


@given(chain=st.binary(min_size=32, max_size=32), key=st.binary(min_size=32, max_size=32))
def test_an_extended_key_is_secret_only_where_it_is_private(chain: bytes, key: bytes) -> None:
    head = bytes.fromhex("0488ade4") + bytes(9) + chain
    assert whole("extended_key", base58check(head + b"\0" + key))
    assert not whole("extended_key", base58check(head + b"\2" + key))


# BIP 173, test vectors.
@pytest.mark.parametrize(
    "text",
    [
        "A12UEL5L",
        "a12uel5l",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
        "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
        "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
    ],
)
@given(data=st.data())
def test_bech32(text: str, data: st.DataObject) -> None:
    assert bech32(text)
    start = text.rindex("1") + 1
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    assert not bech32(changed(data, text, start, alphabet.upper() if text.isupper() else alphabet))


@pytest.mark.parametrize("text", ["pzry9x0s0muk", "1pzry9x0s0muk", "x1b4n0q5v", "A1G7SGD8", "10a06t8", "A12UEl5L"])
def test_not_bech32(text: str) -> None:
    assert not bech32(text)


@given(number=st.integers(10**16, 10**20 - 1))
def test_a_discord_token_begins_with_a_number(number: int) -> None:
    first = base64.b64encode(str(number).encode()).decode().rstrip("=")
    rest = ".M4d3Up.F0rPortcu11isT3stsM4d3UpF0rPortcu11"
    assert whole("token_discord", first + rest)
    assert not whole("token_discord", "MDabcdefghijklmnopqrstuv" + rest)


SEGMENT = st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=300)


def encoded(fields: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


@given(
    header=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
    parts=st.lists(SEGMENT, min_size=2, max_size=2),
)
def test_a_json_web_token(header: dict[str, str], parts: list[str]) -> None:
    token = ".".join([encoded({"alg": "HS256", **header}), *parts])
    assert value("jwt", token) == token
    assert value("jwt", token + ".") == token
    assert CHECKS["jwt"](token + ".more", 0, len(token)) is None
    assert CHECKS["jwt"](token + "x", 0, len(token)) is None
    assume("alg" not in header)
    assert value("jwt", ".".join([encoded(header), *parts])) is None


@pytest.mark.parametrize(
    "text", ["eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ.eyJ", encoded(["alg"]) + ".a.b", encoded({"alg": 1}) + ".a.b.c"]
)
def test_no_json_web_token(text: str) -> None:
    assert value("jwt", text) is None


def pem(kind: str, key: bytes, newline: str = "\n") -> str:
    text = base64.b64encode(key).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return newline.join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"])


KEYS = st.binary(min_size=90, max_size=600).filter(lambda key: len(set(key)) > 40)


@given(
    key=KEYS,
    kind=st.sampled_from(["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY"]),
    newline=st.sampled_from(["\n", "\r\n", "\\n"]),
)
def test_a_private_key_in_armour(key: bytes, kind: str, newline: str) -> None:
    block = pem(kind, key, newline)
    assert value("armoured_key", block) == block
    two = pem("PRIVATE KEY", key[::-1]) + "\nand\n" + block
    assert value("armoured_key", two) == block, "the first of two keys is a match of its own"


@given(key=KEYS)
def test_a_severed_key_ends_where_its_lines_end(key: bytes) -> None:
    lines = pem("PRIVATE KEY", key).splitlines()
    full = [line for line in lines[1:-1] if len(line) > 24]
    begun = "\n".join([lines[0], *full])
    assert value("severed_key", begun + "\nand then nothing more came") == begun
    assert CHECKS["severed_key"](begun + "\n-----END PRIVATE KEY-----", 0, len(begun) + 1) is None


@given(key=KEYS, kind=st.sampled_from(["PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE", "EC PRIVATE KEY"]))
def test_a_key_in_base64_of_its_armour(key: bytes, kind: str) -> None:
    text = base64.b64encode(pem(kind, key).encode()).decode()
    assert whole("encoded_key", text) == ("PRIVATE" in kind)


@given(user=st.text(string.ascii_lowercase, min_size=1), secret=st.text(string.ascii_letters + string.digits, min_size=6))
def test_basic_credentials(user: str, secret: str) -> None:
    assume(any(map(str.isdigit, secret)) and any(map(str.isalpha, secret)) and len(set(secret)) > 4)
    assume(not PLACEHOLDER.search(secret))
    text = base64.b64encode(f"{user}:q7{secret}".encode()).decode()
    assert value("basic_credentials", f"Basic {text}") == text
    assert value("basic_credentials", "Basic " + base64.b64encode(f"{user}q7{secret}".encode()).decode()) is None


# Without vowels: words that stand for no password ("example") are none.
@given(secret=st.text("bcdfghjkmqvwzBCDFGHJKMQVWZ" + string.digits + "@:!", min_size=4, max_size=20))
def test_a_password_in_an_address_ends_at_the_last_at(secret: str) -> None:
    secret = f"q7{secret}Z9"
    assume(len(set(secret)) > 5)
    text = f"postgres://shop:{secret}@db.internal/shop"
    ends = [at + 1 for at, char in enumerate(text) if char == "@"]
    spans = [CHECKS["url_password"](text, 0, end) for end in ends]
    assert spans[:-1] == [None] * (len(ends) - 1)
    assert spans[-1] is not None
    assert text[slice(*spans[-1])] == secret


PASSWORDS = [
    ("password: hunter2", "hunter2"),
    ("password=Tr0ub4dor&3,", "Tr0ub4dor&3"),
    ('"password": "p@ss,w0rd;"', "p@ss,w0rd;"),
    ("my password is swordfish42!", "swordfish42"),
    ("pwd: letmein", "letmein"),
    ("passcode: 482913", "482913"),
    ("DB_PASSWORD = Gat0Negro7", "Gat0Negro7"),
    ("password: MyValue=Xy12zz9", "MyValue=Xy12zz9"),
    ("password: Tr0ubvalue:abc", "Tr0ubvalue:abc"),
    ("密码：Ceshi2024!", "Ceshi2024"),
    (r'"password": "Tr0ub4dor\"&3xx"', r"Tr0ub4dor\"&3xx"),
    (r"password = 'it\'s-4-me'", r"it\'s-4-me"),
    (r'"password": "Tr0ub4dor\\"', r"Tr0ub4dor\\"),
    (r'"password": "Tr0ub4dor\"', None),  # it goes on behind an escaped quotation mark
    (r"password: hunter2\"},", None),  # the quotation mark around this text is none of the password's
    (r'"password": "Tr0ub4dor\\\"&3xx', r"Tr0ub4dor\\\"&3xx"),
    ("password: ********", None),
    ("password: <your password>", None),
    ("password: ${DB_PASSWORD}", None),
    ("password: {{ vault_password }}", None),
    ("password=os.environ['DB_PASSWORD']", None),
    ("password = get_password(user)", None),
    ("password: str", None),
    ("password: required", None),
    ("password=user.password2", None),
    ("<!-- password: Hunter2x-->", "Hunter2x--"),
    ("password = b64Pwd", None),
    ("password: changeme", None),
    ("password: my-secret-password1", None),
    ("password: /run/secrets/db", None),
    ("PWD=/app", None),
    ("OLDPWD=/", None),
    ("PWD=/Tr0ub4dor&3", "/Tr0ub4dor&3"),
    ("password=/Tr0ub4dor", "/Tr0ub4dor"),
    ("password: https://vault.internal", None),
    ("the password is 12", None),
    ("the password is case-sensitive", None),
]


def test_what_an_arrow_follows_is_no_password() -> None:
    text = "password = user1->password"
    assert CHECKS["password"](text, 0, text.index(">")) is None


@pytest.mark.parametrize(
    ("check", "text", "secret"),
    [
        ("password_element", "<password>Tr0ub4dor&amp;3</", "Tr0ub4dor&amp;3"),
        ("password_element", "<pwd> <![CDATA[Tr0ub4dor3]]></", "Tr0ub4dor3"),
        ("password_element", "<password>&lt;password1&gt;</", None),
        ("password_element", "<password>${db.password1}</", None),
        ("password_element", "<password>hunter2!</", "hunter2!"),
        ("password_element", "<password>Gatonegro!</", "Gatonegro!"),
        ("password_element", 'name="password">Confirm!</', None),
        ("password_element", "<password>Repeat:</", None),
        ("password_pair", 'password" value="MyValue=Xy12zz9', "MyValue=Xy12zz9"),
        ("password_pair", "PASSWORD\n  value: rock&roll", "rock&roll"),
        ("password_pair", "password value=Submit?", None),
        ("key_element", "<api-key>M4d3UpF0rPortcu11isT3stsM4d3Up</", "M4d3UpF0rPortcu11isT3stsM4d3Up"),
        ("key_element", "<api-key>settings.v2.clients3.primary_key_2024</", None),
        ("password_sql", "to bob identified by Tr0ub4dor3", "Tr0ub4dor3"),
        ("password_sql", "password ('Tr0ub4dor3", None),  # the quotation mark behind it is wanted
    ],
)
def test_passwords_and_keys_in_their_places(check: str, text: str, secret: str | None) -> None:
    assert value(check, text) == secret


@pytest.mark.parametrize(("text", "secret"), PASSWORDS)
def test_passwords(text: str, secret: str | None) -> None:
    end = len(text) - text.endswith(('"', "'"))  # an expression for passwords stops before a quotation mark
    span = CHECKS["password"](text, 0, end)
    assert (span and text[slice(*span)]) == secret


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("api_key=abcd1234efgh5678ijkl9012", "abcd1234efgh5678ijkl9012"),
        ("token: 8f14e45fceea167a5a36dedd4bea2543.", "8f14e45fceea167a5a36dedd4bea2543"),
        ("my key is 9f8e7d6c5b4a39281706f5e4d3c2b1a0", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
        ("secret => q1w2e3r4t5y6u7i8o9p0==", "q1w2e3r4t5y6u7i8o9p0=="),
        ("key: release/v2.0.0/status/2024", None),
        ("token=gpt-4-turbo-2024-04-09-preview", None),
        ("key=customer_account_identifier_2", None),
        ("token=YOUR_API_TOKEN_1234_abcd_5678", None),
        ("token: https://a1b2c3d4e5f6.example/k9", None),
        ("token=aaaa1aaaa1aaaa1aaaa1", None),
        ("private_key: x25519.X25519PrivateKey", None),
        ("key: hazmat.ed25519.Ed25519PrivateKey", None),
        ("api_key = config2024.credentials.api_key_v2_3", None),
        ("api_key = settings.v2.clients3.primary_key_2024", None),
        ("api_key = q1w2e3r4t5y6.u7i8o9p0a1s2", "q1w2e3r4t5y6.u7i8o9p0a1s2"),
        ("token=aBcDeFgHiJkL99.xYzAbCdEfGh77.qWeRtY55", "aBcDeFgHiJkL99.xYzAbCdEfGh77.qWeRtY55"),
        ("api_key = AbCdEfGh12.IjKlMnOp34.QrStUv56", "AbCdEfGh12.IjKlMnOp34.QrStUv56"),
        ("token: x25519.k9f8E7d6C5b4A39281706f5", "x25519.k9f8E7d6C5b4A39281706f5"),
    ],
)
def test_assigned_keys(text: str, secret: str | None) -> None:
    assert value("assigned_key", text) == secret


def test_a_key_of_a_table_is_no_secret() -> None:
    text = 'partitionKey": "9240cda7bbb74ad4aa9f971750a3dc71'
    assert CHECKS["assigned_key"](text, text.index("Key"), len(text)) is None
    assert CHECKS["assigned_key"](text, 0, len(text)) is not None, "only what stands before the match tells"


@pytest.mark.parametrize(("count", "fits"), [(11, False), (12, True), (13, False), (15, True), (24, True)])
def test_a_seed_phrase_has_a_certain_number_of_words(count: int, fits: bool) -> None:
    words = "legal winner thank year wave sausage worth useful cage absurd amount doctor acoustic avoid letter".split()
    phrase = " ".join((words * 2)[:count])
    assert whole("seed_phrase", phrase) == fits
    assert value("seed_phrase", f"seed phrase: {phrase}") == (phrase if fits else None)


def test_a_sentence_is_no_seed_phrase() -> None:
    assert value("seed_phrase", "when this winter ends you will find that the garden has its flowers again") is None


@given(text=st.text(min_size=1, max_size=40))
def test_entropy_lies_between_none_and_all_different(text: str) -> None:
    assert 0 <= entropy(text) <= (len(text) - 1).bit_length() + 1e-9
    assert entropy(text) == pytest.approx(entropy(text * 3))
    assert entropy(text[0] * 9) == 0
