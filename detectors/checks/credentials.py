"""Credentials of no known make: what stands behind ``password:``, ``api_key =``, ``Bearer``, or in an address."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from detectors.checks.base import BASE64, CONTEXT, DASHED, DIGITS, Check, Span, last, left, right, whole, words
from detectors.checks.tokens import PLACEHOLDER, decode_base64, entropy

MIN_ENTROPY: Final = 3.0
"""Bits per character. Words and names written together have 2.5 to 3.3, sixteen random hexadecimal digits 3.2 and more."""

MIN_CHANGES: Final = 3
"""Changes between letters and digits. Names have one or two (``key_v2``), sixteen random characters of base 62 about four."""

MIN_RUN: Final = 10
"""Characters without a joint. Names and paths are made of short words (``gpt-4-turbo-2024-04-09``), keys are not."""

_NAME: Final = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|passwort|kennwort|contrase[nñ]a|mot de passe|senha|wachtwoord|has[lł]o"
    r"|l[oö]senord|пароль|密码|密碼|パスワード|비밀번호)[\"'`\])*]*"
    r"(?P<link>\s*[:=：]{1,2}>?|\s(?:is|ist|est|es)\s|\s*[は是])[\s*]*(?P<quote>[\"'`]?)",
    re.IGNORECASE,
)
_ESCAPED_QUOTE: Final = re.compile(r"\\[\"']")
_KEY_NAME: Final = re.compile(r"(?::=|=>|[:=]|\bis\b)\s{0,3}[\"'`]?(?=[^\s:=>\"'`])")
_OTHER_KEY: Final = re.compile(
    r"(?:partition|primary|foreign|cache|idempotency|sort|row|range|public|object|storage|s3|dedup\w*|lookup|group|composite|unique"
    r"|page|continuation|restore|surrogate|media|routing|shard|join|translation|i18n)"
    r"[ _-]?\Z",
    re.IGNORECASE,
)
_NAME_REACH: Final = 16
_SCHEME: Final = re.compile(r"[A-Za-z]+\s+")
_BASIC: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}\Z")

_ENDS: Final = frozenset(" \t\r\n\"'`,;)]}>&|<”»。，、\\") | {""}
"""What may stand behind a value; the backslash where a quotation mark inside JSON is escaped."""

_ARROW: Final = re.compile("->[A-Za-z_]")
_TRAILING: Final = ".,;:!?)]}>”»。，、\\"
_AUTHORITY_ENDS: Final = frozenset("/?# \t\r\n\"'`<>")
_SYMBOLS: Final = frozenset("!#$%^&*+=~?@|;:,<>()[]{}/\\")
_INSIDE: Final = _SYMBOLS - frozenset("/|,")
_STOPS: Final = ".,;:?"
_MARKS: Final = "".join(_SYMBOLS)

_PROGRAM_NAME: Final = re.compile(
    r"[A-Za-z_]\w*(?:(?:\.|->|::)\w+)+(?:\(.*)?|[A-Za-z_]+|[A-Z_]{3,}\d*|\w+(?:Pwd|Passwd|Password)", re.ASCII
)
_MOUNT: Final = re.compile(r".{0,2}?\$(?:PWD|\(pwd\)):/")
"""What a shell's working directory is called where it is mounted into a container: ``-v $PWD:/src``."""

_WORKING_FOLDER: Final = re.compile(r"pwd=/[\w.-]*", re.IGNORECASE | re.ASCII)
"""Where a shell stands, among the variables of an environment: ``PWD=/app``, ``OLDPWD=/``."""

_TYPE: Final = re.compile(r"(?:\w+\.)+[A-Z]\w*(?:Key|Token|Secret|Credential|Cookie|Signature)s?", re.ASCII)
"""What a program's annotation says of a key: ``private_key: x25519.X25519PrivateKey``."""

_WORDS: Final = r"[a-z]+\d{0,4}(?:_(?:[a-z]+\d{0,4}|\d{1,4}))*"
_ATTRIBUTE: Final = re.compile(rf"_{{0,2}}{_WORDS}(?:\._{{0,2}}{_WORDS})+", re.ASCII)
"""A name that is taken out of another one, made of small words with a number behind them at most: ``settings.v2.api_key_2024``.
Tokens in several parts have capitals, too."""

_PATH: Final = re.compile(r"(?:~|\.{1,2})?/[\w.-]+/|https?:|[A-Za-z]:\\")
_NO_PASSWORD: Final = re.compile(
    r"(?:(?:my|the|db|root|admin|user|some|super|very|strong|secure|test|your|pass(?:word|wd|phrase|code)?|pwd|pw|secret|token"
    r"|key)[-_]?){1,4}\d?"
    r"|x{2,}|\*+|\.+|•+|_+|-+|#+|\?+|none|null|nil|undefined|true|false|empty|string|text|hidden|required|optional|masked"
    r"|todo|tbd|foo|bar|baz|foobar|username|host|port|value|abc"
    r"|(?:hmac[_-]?|scram[_-]?)?(?:sha[_-]?\d{1,3}|md[45])|argon2(?:id?|d)?|pbkdf2|base64|utf[_-]?8|oauth2?",
    re.IGNORECASE,
)
_FAVOURITES: Final = words(
    "letmein qwerty iloveyou welcome monkey dragon sunshine princess football baseball shadow superman batman trustno swordfish"
    " hunter master ninja azerty starwars whatever freedom hallo schatz marina soleil doudou contrasena"
)
"""Words without a digit that people do choose; from lists of the most common passwords."""

_REFERENCE: Final = re.compile(
    r"[$%{<\[(@&*]|[A-Za-z_]\w*[\[(]"
    r"|.*(?:\$\{|\{\{|\{[A-Za-z_.]*\}|<[A-Za-z_ -]+>|%[A-Z_]+%|\(\)|\([A-Za-z_\"']|process\.env|os\.environ)",
    re.DOTALL,
)
_JOINT: Final = re.compile(r"[./_~-]+")


def is_placeholder(value: str) -> bool:
    """Whether people or programs write this where a password belongs, and mean none."""
    return bool(_NO_PASSWORD.fullmatch(value) or _REFERENCE.match(value) or PLACEHOLDER.search(value))


def looks_random(value: str) -> bool:
    """Whether nobody would write this by hand: digits among the letters, and many different characters."""
    if len(value) < 12 or PLACEHOLDER.search(value) or _PATH.match(value) or _ATTRIBUTE.fullmatch(value):
        return False
    if max(map(len, _JOINT.split(value))) < MIN_RUN:
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(value))
    return changes >= MIN_CHANGES and any(map(str.isalpha, value)) and entropy(value) >= MIN_ENTROPY


def password(text: str, start: int, end: int) -> Span | None:
    """What a person would choose, behind "password:" or "password is", and a program would not write as a name."""
    found = last(_NAME, text, start, end)
    if found is None or not _is_over(text, end) or _MOUNT.match(text, max(0, found.start() - 2)):
        return None
    accept = _is_spoken if found.group("link").strip().isalpha() else _is_password
    span = _chosen(text, found.end(), end, found.group("quote"), accept)
    return None if span is None or _WORKING_FOLDER.fullmatch(text, found.start(), span[1]) else span


def _chosen(text: str, begin: int, end: int, quote: str, accept: Callable[[str], bool]) -> Span | None:
    if not _ends_outside(text, begin, end, quote):
        return None
    closed = quote != "" and text[end : end + 1] == quote
    stop = end if closed else begin + len(text[begin:end].rstrip(_TRAILING))
    return (begin, stop) if accept(text[begin:stop]) else None


def password_pair(text: str, start: int, end: int) -> Span | None:
    """The value in a pair of a name, which is a password's, and a value: ``name="password" value="..."``."""
    found = _VALUE.search(text, start, end)
    if found is None or not _is_over(text, end):
        return None
    return _chosen(text, found.end(), end, found["quote"], _is_shown if _SHOWN.search(left(text, start)) else _is_filled_in)


_SHOWN: Final = re.compile(
    r"(?:\b(?:type|field|id|label|title)|<(?:input|button)\s[^<>]*)[\"']?\s?[:=]\s?[\"']?[\w.-]*\Z", re.IGNORECASE
)
"""What names a part of a page, and not what a program is set to."""

_VALUE: Final = re.compile(r"[\s,][\"']?value[\"']?\s{0,3}[:=]\s{0,3}(?P<quote>[\"'`]?)", re.IGNORECASE)


def sql_password(text: str, start: int, end: int) -> Span | None:
    """The password of a user or role in SQL: quoted, or, as Oracle takes it, as a name."""
    found = _SQL.search(text, start, end)
    if found is None or text[end : end + 1] not in ({found["quote"]} if found["quote"] else _ENDS):
        return None
    return _chosen(text, found.end(), end, found["quote"], _is_password)


_SQL: Final = re.compile(
    r"(?:identified\s+(?:with\s+\S+\s+)?by\s+(?:password\s+)?|password\s*=?\s*\(?\s?)N?(?P<quote>[\"']?)", re.IGNORECASE
)


def password_cell(text: str, start: int, end: int) -> Span | None:
    """The password in a row of a Markdown table that has two cells, the first of which says what the second is."""
    begin = start + len(text[start:end].rpartition("|")[0]) + 1
    begin += len(text[begin:end]) - len(text[begin:end].lstrip(_CELL_MARKS))
    stop = begin + len(text[begin:end].rstrip(_CELL_MARKS))
    if left(text, start).rpartition("\n")[2].strip() or not _ROW_ENDS.match(right(text, end, 8)):
        return None
    return (begin, stop) if _is_shown(text[begin:stop]) else None


_CELL_MARKS: Final = " *_`\"'"
_ROW_ENDS: Final = re.compile(r"[ *_`]{0,4}\|[ \t]*(?:\Z|\r?\n(?!\|?[ :]?-))")


def element(accept: Callable[[str], bool], shown: Callable[[str], bool]) -> Check:
    """The check for the text of an element of XML or HTML, which ends the match with the ``</`` behind it.

    Args:
        accept: whether such a text is a real value, in an element of that name.
        shown: as ``accept``, in one that people may see.
    """

    def check(text: str, start: int, end: int) -> Span | None:
        tag = _KEY_WORD.search(text, start, end)
        if tag is not None and _OTHER_KEY.search(left(text, tag.start(), _NAME_REACH)):
            return None
        if _LABELLED.search(left(text, start) + text[start : start + 5].partition("=")[0]):
            return None
        found = _CONTENT.search(text, start, end)
        real = accept if text[start] == "<" else shown
        return found.span(1) if found is not None and real(html.unescape(found[1])) else None

    return check


_KEY_WORD: Final = re.compile(r"key|token|secret|credential", re.IGNORECASE)
_LABELLED: Final = re.compile(
    r"<(?:(?:a|button|label|legend|option)\s[^<>]*name|(?:a|button|dd|div|dt|h[1-6]|label|li|option|p|section|span|t[dhr])\s[^<>]*key)\Z"
)
"""Elements of HTML that are named for what their words are about, or have a key in a list of React."""

_CONTENT: Final = re.compile(r">\s{0,20}(?:<!\[CDATA\[)?([^<>]+?)(?:\]\]>)?</\Z")


def _ends_outside(text: str, begin: int, end: int, quote: str) -> bool:
    """Whether no escape of a quoted text is cut, and none is taken for a part of an unquoted one."""
    if not quote:
        return _ESCAPED_QUOTE.search(text, begin, end) is None
    backslashes = end - len(text[begin:end].rstrip("\\")) - begin
    return text[end : end + 1] != "\\" and not (backslashes % 2 and text[end : end + 1] == quote)


def _is_password(value: str) -> bool:
    if value.lower() in _FAVOURITES:
        return True
    if len(value) < 4 or is_placeholder(value) or _PROGRAM_NAME.fullmatch(value) or _PATH.match(value):
        return False
    if not any(map(str.isalpha, value)):
        return len(value) >= 6 and DIGITS.issuperset(value)
    return any(map(str.isdigit, value)) or any(char in _SYMBOLS for char in value)


def _is_spoken(value: str) -> bool:
    """As `_is_password`, in a sentence: there what follows may be another word of it."""
    known = value.lower() in _FAVOURITES
    return known or (len(value) > 5 and any(map(str.isdigit, value)) and _is_password(value))


def _is_filled_in(value: str, shown: bool = False) -> bool:
    """As `_is_password`, where names of things stand, too, and words for people where it is ``shown`` to them: ``Yes/No``,
    ``Password:``, ``Confirm!``. A sign that ends a word or stands between two makes no password of them."""
    word = value.rstrip(_TRAILING)
    signs = word.strip(_MARKS) if shown else value.rstrip(_STOPS)
    known = any(map(str.isdigit, word)) or any(char in _INSIDE for char in signs) or word.lower() in _FAVOURITES
    return known and _is_password(value) and not is_placeholder(word)


def _is_shown(value: str) -> bool:
    return _is_filled_in(value, shown=True)


def assigned_key(text: str, start: int, end: int) -> Span | None:
    """A random text behind "api_key =", "token:" and the like."""
    found = last(_KEY_NAME, text, start, end)
    if found is None or _OTHER_KEY.search(left(text, start, _NAME_REACH)):
        return None
    span = _random_up_to(text, found.end(), end)
    return None if span is None or _TYPE.fullmatch(text, *span) else span


def bearer(text: str, start: int, end: int) -> Span | None:
    """RFC 6750: the token behind ``Bearer``, and what stands behind other such schemes."""
    scheme = _SCHEME.match(text, start, end)
    return _random_up_to(text, start if scheme is None else scheme.end(), end)


def _is_over(text: str, end: int) -> bool:
    """Whether a value can end here; scripts without spaces go on behind it with their own characters."""
    if _ARROW.match(text, end - 1):
        return False
    after = text[end : end + 1]
    return after in _ENDS or after >= "\u2e80"


def _random_up_to(text: str, begin: int, end: int) -> Span | None:
    if not _is_over(text, end):
        return None
    stop = begin + len(text[begin:end].rstrip(_TRAILING))
    return (begin, stop) if looks_random(text[begin:stop]) else None


def basic_credentials(text: str, start: int, end: int) -> Span | None:
    """RFC 7617: base 64 of ``user:password``, both printable."""
    found = _BASIC.search(text, start, end)
    if found is None or not whole(text, found.start(), end, BASE64):
        return None
    decoded = decode_base64(found.group())
    if decoded is None or b":" not in decoded or not all(32 <= byte < 127 for byte in decoded):
        return None
    secret = decoded.partition(b":")[2].decode("ascii")
    return found.span() if len(secret) > 3 and not is_placeholder(secret) else None


def url_password(text: str, start: int, end: int) -> Span | None:
    """The password in ``scheme://user:password@host``: up to the last ``@`` of the authority (RFC 3986, 3.2.1)."""
    for char in text[end : end + CONTEXT]:
        if char == "@":
            return None  # the password holds an @ itself: the match that ends with the last one follows
        if char in _AUTHORITY_ENDS:
            break
    authority = text.index("://", start, end) + 3
    begin = text.index(":", authority, end) + 1
    secret = text[begin : end - 1]
    return (begin, end - 1) if len(secret) > 2 and not is_placeholder(secret) else None


def jwt(text: str, start: int, end: int) -> Span | None:
    """A JSON Web Token (RFC 7519), signed in three parts or encrypted in five, whose header names an algorithm."""
    after = text[end : end + 2]
    if after[:1] == "." and after[1:] in DASHED:
        return None  # more parts follow
    stop = start + len(text[start:end].rstrip("."))
    parts = text[start:stop].split(".")
    if len(parts) not in (3, 5) or not whole(text, start, stop, DASHED):
        return None
    try:
        fields = json.loads(decode_base64(parts[0]) or b"")
    except ValueError:
        return None
    return (start, stop) if isinstance(fields, dict) and "alg" in fields else None


def written_password(shape: str) -> Check:
    """The check for a password on a command line or in a file of logins: the last word of ``shape``."""
    expression = re.compile(shape + r"[\"']?(?P<secret>[!-~]+)\Z", re.ASCII)

    def check(text: str, start: int, end: int) -> Span | None:
        found = expression.search(text, start, end)
        if found is None or text[end : end + 1] not in _SHELL_ENDS:
            return None
        begin = found.start("secret")
        stop = begin + len(text[begin:end].rstrip("\"'"))
        return (begin, stop) if _is_password(text[begin:stop].rstrip(",;)")) else None

    return check


_SHELL_ENDS: Final = frozenset(" \t\r\n`") | {""}

CHECKS: Final[dict[str, Check]] = {
    "password": password,
    "password_pair": password_pair,
    "password_sql": sql_password,
    "password_cell": password_cell,
    "password_element": element(_is_filled_in, _is_shown),
    "key_element": element(looks_random, looks_random),
    "assigned_key": assigned_key,
    "bearer": bearer,
    "basic_credentials": basic_credentials,
    "url_password": url_password,
    "jwt": jwt,
    "password_option": written_password(r"(?:-p|pass|password)[ :=]{1,2}"),
    "curl_user": written_password(r"-u ?[\"']?[A-Za-z0-9._@-]{1,64}:"),
    "netrc_password": written_password(r"password\s+"),
}
