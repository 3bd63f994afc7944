"""One pass in C stands before the probes: where it sees no sign, they find nothing."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detectors import canonical
from detectors._signs import CONTROLS, ESCAPES, GAPS, MARKS, ODD, signs
from detectors.decode import gate
from detectors.decode.codes import RADIO_WORDS
from detectors.probe import Probe

PROBES = {CONTROLS: canonical._has_controls, GAPS: canonical._has_gaps, ODD: gate._odd, ESCAPES: gate._escapes, MARKS: gate._marks}
PIECES = st.sampled_from(
    [*RADIO_WORDS.split(), *RADIO_WORDS.upper().split(), "ay", "AY", "pay ", "igpay ", "atinlay", "U+", "u+0041", "=3D", "=\n", "=\r\n", "?q=", "&a_b=", " _4", "4_ ", "__a", "a__", "+", "e+5", "%4", "\\",
     '\\"', '" + "', "' . '", '"||"', '"a', 'a"', "&amp;", "&#", "amp;", "-", "--- ", ".- ", ". ", "* ", "  ", "\t", "\n", " ", ", ",
     "; ", "/", "|", "chr(105)", "CHAR( 0x69 )", "$(5", "'i'", '"g"', ",", "YQ== ", "dGhl ", "aWY=,", "begin 6", "begin 644 a", "begin", "696e ", "7468650a ", "_", "1", "4", "0", "7", "$", "a", "I ", "b ", "word", "3,", "12", "**", "*a* ", "_b_", "<b>", "</b>", "<br>", "<!-- -->", "`", "``c", "(d) ", "[", "](e)", "\\textbf{", "}", "| ", "'f', ", "'g ", '"h" ', '", "', '": "', "1. ", ") 2", "'of me'\n", "s += ", "10h ", "$3", "#6", "&9", "A" * 15, "z" * 24, "!" * 24, "\x0b", "\x00"]
)  # fmt: skip
ASCII = st.text(st.characters(max_codepoint=127))
BUSY = st.lists(PIECES | st.text(string.printable, max_size=2), max_size=40).map("".join)


@given(ASCII | BUSY)
@example("Abegin 000")
def test_without_a_sign_no_probe_finds_anything(text: str) -> None:
    seen = signs(text)
    for sign, probe in PROBES.items():
        assert seen & sign or not probe(text.encode()), (sign, text)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("a\x07bell", CONTROLS), ("two  blanks", GAPS), ("i g n o r e", GAPS), ("A" * 16, ODD), ("!" * 25, ODD), ("1, 2", ODD),
        ("h3llo", ODD), (". . . . . . . .", ODD), ("100%20", ESCAPES), ("&lt;", ESCAPES), ("\\u0041", ESCAPES), ("U+0041", ESCAPES),
        ("=3D=3D", ESCAPES), ("a=\nb", ESCAPES), ("?q=a+b", ESCAPES), ("so _4 111 111_.", ESCAPES), ("'ig' + 'nore'", ESCAPES), ("chr(105)+", ESCAPES), ('["i", "g"]', ESCAPES), ("aWY= YQ==", ESCAPES), ("begin 644 x", ESCAPES), ("xalpha bravo charlie,", ESCAPES), ("**a** *b* <i>c</i> (d)", MARKS), ("'a' 'b' 'c' 'd'", MARKS), ("a'5'b'5'c'5'd'5'e", MARKS), ("I<!-- -->t<!-- -->i<!-- -->s<!-- -->a", MARKS), ("ayday, ayway isay", ESCAPES),
        ("1. a\n2. b\n3. c\n4. d\n5. e\n6. f\n7. g", MARKS), ("s += 'a b'\ns += 'c d'\ns += 'e f'\ns += 'g'", MARKS),
    ],
)  # fmt: skip
def test_what_is_a_sign(text: str, sign: int) -> None:
    assert signs(text) & sign


def test_ordinary_prose_has_none() -> None:
    text = "Don't worry: the \"small\" release is on Monday (at 9), and I'll say so. We may ask 3 people - perhaps more...\nYours, Ann"
    assert signs(text) == 0


def test_beyond_ascii_all_are_asked() -> None:
    assert signs("caf\u00e9") == CONTROLS | GAPS | ODD | ESCAPES | MARKS


def test_only_texts_are_read() -> None:
    with pytest.raises(TypeError, match="wanted str, not bytes"):
        signs(b"bytes")  # type: ignore[arg-type]


def test_probes_are_what_is_stood_before() -> None:
    assert all(isinstance(probe, Probe) for probe in PROBES.values())
