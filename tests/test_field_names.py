"""Values behind names as programs write them: what a label announces in a letter, a field's name announces in JSON."""

from __future__ import annotations

import re

import pytest
from gateways import CACHE_DIR

from detectors.lexical import Lexical
from detectors.values import Origin
from gateway import live
from patterns.schema import State

NAMES = [
    ("routing number", "021000021"),
    ("bank account number", "12345678"),
    ("account number", "12345678"),
    ("sort code", "608371"),
    ("ifsc code", "SBIN0005943"),
    ("clabe", "032180000118359719"),
    ("bsb", "484799"),
    ("nhs number", "9434765919"),
    ("medical record number", "A-778899"),
    ("npi", "1234567893"),
    ("ssn", "460899847"),
    ("tax id", "204395817"),
    ("ein", "204395817"),
    ("sin", "130692544"),
    ("cpf", "52998224725"),
    ("dni", "30123456"),
    ("national id", "F131104093"),
    ("my number", "123456789018"),
    ("nik", "3171234112900001"),
    ("tax file number", "876543210"),
    ("ird number", "136410132"),
    ("bsn", "111222333"),
    ("pesel", "44051401359"),
    ("nip", "1234563218"),
    ("cnp", "1800101221144"),
    ("oib", "69435151530"),
    ("cpr", "0101801234"),
    ("imei", "490154203237518"),
    ("vin", "WVWZZZ1JZXW000001"),
    ("license plate", "7ABC123"),
    ("cvv", "123"),
    ("student id", "S20471183"),
    ("employee number", "E-204711"),
    ("policy number", "KF-22841907"),
    ("claim number", "CL9920417"),
    ("date of birth", "1974-12-25"),
]
NO_NAMES = [
    '{"enrollment": 150000, "students": 4000}',
    '{"policy_id": "10023456", "effect": "deny"}',
    '{"account_id": "acct-778899"}',
    "assign_policy(20041)",
    "cos_sin_table[123456789]",
    '{"registration_number": "HRB 123456"}',
]


@pytest.fixture(scope="module")
def shipped() -> Lexical:
    return Lexical([one for one in live.load_patterns((), CACHE_DIR) if one.state is State.ACTIVE], CACHE_DIR)


def _values(oracle: Lexical, text: str) -> set[str]:
    return {text[one.start : one.end] for one in oracle.scan(text, Origin.TOOL_RESULT).matches}


@pytest.mark.parametrize(("label", "value"), NAMES)
def test_a_label_is_known_as_the_name_of_a_field(label: str, value: str, shipped: Lexical) -> None:
    snake = label.replace(" ", "_")
    camel = re.sub("_(.)", lambda found: found[1].upper(), snake)
    for name in (label, snake, snake.upper(), camel, label.replace(" ", "-"), f"customer_{snake}"):
        for text in (f'{{"{name}": "{value}", "n": 1}}', f"{name}={value}", f"<{name}>{value}</{name}>"):
            assert any(value in one for one in _values(shipped, text)), text


@pytest.mark.parametrize("text", NO_NAMES)
def test_other_fields_are_none(text: str, shipped: Lexical) -> None:
    assert _values(shipped, text) == set()
