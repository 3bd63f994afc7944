"""What a store keeps for us: it can neither read it, nor test a guess, nor change it unseen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction.sealing import STEP, Sealer

SECRET = b"a secret of the configuration"
OURS = Sealer(SECRET, "verdict")

_part = st.text(max_size=30) | st.binary(max_size=30)


@given(st.binary(max_size=3 * STEP), st.lists(_part, max_size=4))
def test_what_was_sealed_opens_under_its_name_and_for_nobody_else(value: bytes, parts: list[str | bytes]) -> None:
    name = OURS.name(*parts)
    sealed = OURS.seal(name, value)
    assert Sealer(SECRET, "verdict").open(name, sealed) == value
    assert OURS.open(OURS.name(*parts, "x"), sealed) is None
    assert Sealer(b"another", "verdict").open(name, sealed) is None
    assert Sealer(SECRET, "values").open(name, sealed) is None
    assert len(value) < 8 or value not in sealed
    assert (len(sealed) - 28) % STEP == 0


@given(st.binary(max_size=40), st.data())
def test_what_was_altered_or_made_up_does_not_open(value: bytes, data: st.DataObject) -> None:
    name = OURS.name("n")
    sealed = bytearray(OURS.seal(name, value))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    assert OURS.open(name, bytes(sealed)) is None
    assert OURS.open(name, bytes(sealed[:at])) is None
    assert OURS.open(name, data.draw(st.binary(max_size=600))) is None


@given(st.lists(_part, max_size=4), st.lists(_part, max_size=4))
def test_names_differ_where_their_parts_do(one: list[str | bytes], other: list[str | bytes]) -> None:
    def parts(names: list[str | bytes]) -> list[bytes]:
        return [name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name for name in names]

    assert (OURS.name(*one) == OURS.name(*other)) == (parts(one) == parts(other))
    assert OURS.name(*one) != Sealer(b"another", "verdict").name(*one)
