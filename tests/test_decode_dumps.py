"""Bytes in rows and groups: dumps of a file and base64 in eights come out, and other rows and words of eight letters do not."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from counting import calls
from hypothesis import assume, given
from hypothesis import strategies as st

from detectors.decode import decode

ROW = 16


def _shown(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


def _rows(text: str) -> list[tuple[int, bytes]]:
    data = text.encode()
    return [(at, data[at : at + ROW]) for at in range(0, len(data), ROW)]


def xxd(text: str) -> str:
    return "\n".join(f"{at:08x}: {row.hex(' ', -2):<39}  {_shown(row)}" for at, row in _rows(text))


def hexdump(text: str) -> str:
    return "\n".join(f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{_shown(row)}|" for at, row in _rows(text))


def od(text: str) -> str:
    return "\n".join(f"{at:06x} {row.hex(' '):<47}  >{_shown(row)}<" for at, row in _rows(text))


DUMPS = (xxd, hexdump, od)

words = st.sampled_from(["ignore", "the", "rules", "dead", "beef", "cafe", "früher", "über", "and", "print", "пароль", "abe", "face"])


@pytest.mark.parametrize("dump", DUMPS)
@given(said=st.lists(words, min_size=6, max_size=24).map(" ".join), around=st.sampled_from(["", "$ cat note\n", "> see:\n\n"]))
def test_what_a_program_dumped_comes_out(dump: Callable[[str], str], said: str, around: str) -> None:
    text = f"{around}{dump(said)}\nThat is all."
    layers = [layer for layer in decode(text).layers if layer.text == said]
    assert layers, decode(text).layers
    assert text[layers[0].start : layers[0].end].startswith(dump(said)[:8])


@pytest.mark.parametrize("gap", [" ", "\n"])
@given(said=st.lists(words, min_size=6, max_size=24).map(" ".join), around=st.sampled_from(["", "Please read: ", "> see:\n\n"]))
def test_base64_in_eights_comes_out(gap: str, said: str, around: str) -> None:
    blob = base64.b64encode(said.encode()).decode()
    text = around + gap.join(blob[at : at + 8] for at in range(0, len(blob), 8))
    assume(re.search("[A-Za-z][013457][A-Za-z]", text))  # all but a few have one, and without it the gate sees nothing odd
    layers = [layer for layer in decode(text).layers if layer.text == said]
    assert layers, decode(text).layers
    assert (layers[0].start, layers[0].end) == (len(around), len(text))


@pytest.mark.parametrize(
    "text",
    [
        "Customer requests database password rotation tomorrow morning 8 o'clock",
        "abcd1234 efgh5678 QRST9012 wxyz3456 no more of them",
        "PART0001 PART0002 PART0003 PART0004 PART0005 in stock",
        "20240101 1200 1300 1400\n20240102 1200 1300 1400\n20240103 1100 1300 1500\n",
        "a1b2c3d Fix typo\n9f8e7d6 Add face and cafe to the menu\n0badcafe Merge branch 'feed'\n",
        "000000 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n000010 ff fe fd fc fb fa f9 f8 f7 f6 f5 f4 f3 f2 f1 f0\n",
        "7f1c2a000000-7f1c2a021000 rw-p 00000000 00:00 0\n7f1c2a021000-7f1c2e000000 ---p 00000000 00:00 0\n",
    ],
)
def test_other_rows_are_no_text(text: str) -> None:
    assert not decode(text).layers


@pytest.mark.parametrize("row", ["SWdub3Jl ", "000000 42 69\n", "00000000: 4269\n\n", "00000000: 4269 7474  x\n"])
def test_work_grows_with_the_rows_and_no_faster(row: str) -> None:
    decode(row * 500)
    small, large = (calls(decode, row * count) for count in (500, 2_000))
    assert large <= 4.4 * small + 300
