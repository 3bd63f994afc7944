"""The audit log's chain: whatever is done to it afterwards is found, and named."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import chain as chains
from gateway.audit import files, records
from gateway.audit.chain import Chain, merkle_root
from gateway.audit.reading import records_of, verify_folder
from gateway.audit.retention import Keep, tidy
from gateway.audit.verify import Source, Verification, verify
from gateway.audit.writer import Rules, Writer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NAME = "20261101T000000-00000000"


def opening(key: Ed25519PrivateKey = KEY) -> bytes:
    public = chains.public_bytes(key.public_key()).hex()
    return records.body(records.OPEN, 1.0, {"format": 1, "chain": NAME, "public_key": public, "beside": {}})


def written(count: int, every: int = 5, key: Ed25519PrivateKey = KEY) -> list[bytes]:
    """A closed chain: an opening, ``count`` records with a root after each ``every``, a root, the close."""
    chain = Chain(NAME, key)
    lines = [chain.add([opening(key)])]
    for number in range(count):
        lines.append(chain.add([records.body("decision", 2.0 + number, {"id": f"d{number}"})]))
        if number % every == every - 1:
            lines.append(chain.root(3.0 + number))
    lines.append(chain.root(1e3))
    lines.append(chain.add([records.body(records.CLOSE, 1e3, {})]))
    return lines


def checked(lines: Sequence[bytes], **options: object) -> Verification:
    return verify({NAME: Source(0, lambda: lines)}, **options)  # type: ignore[arg-type]


def named(result: Verification) -> list[tuple[str, int, int]]:
    return [(problem.kind, problem.first, problem.last) for problem in result.problems]


def remade(lines: Sequence[bytes], change: Callable[[dict[str, object]], None], at: int) -> list[bytes]:
    """The lines with one record changed and all hashes from there on made anew, as one who knows the format would."""
    before = chains.first_hash(NAME)
    out = []
    for index, line in enumerate(lines):
        covered = chains.split(line).covered
        if index == at:
            record = orjson.loads(line)
            del record["hash"]
            change(record)
            covered = orjson.dumps(record)[:-1]
        before = chains.next_hash(before, covered)
        out.append(b'%b,"hash":"%b"}\n' % (covered, before.hex().encode()))
    return out


class TestMerkle:
    def test_the_vectors_of_rfc_6962(self) -> None:
        # The hash of the empty tree, and of one leaf that is the empty string (RFC 6962's reference tests).
        assert merkle_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert merkle_root([b""]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
        root = merkle_root([bytes.fromhex(one) for one in inputs])
        assert root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


class TestTampering:
    def test_a_chain_as_it_was_written_is_intact(self) -> None:
        result = checked(written(12))
        assert result.intact
        assert not result.notes
        (chain,) = result.chains
        assert (chain.first, chain.last, chain.closed) == (0, 16, True)

    @given(st.data())
    def test_a_changed_byte_is_found_where_it_is(self, data: st.DataObject) -> None:
        lines = written(12)
        index = data.draw(st.integers(0, len(lines) - 1))
        line = bytearray(lines[index])
        place = data.draw(st.integers(0, len(line) - 2))
        line[place] ^= data.draw(st.integers(1, 255))
        lines[index] = bytes(line)
        result = checked(lines)
        assert not result.intact
        # A byte of the hash itself is told by the next record, which no longer follows from it.
        assert any(problem.first - 1 <= index <= problem.last + 1 for problem in result.problems)

    @given(st.integers(0, 15), st.integers(1, 4))
    def test_removed_records_are_named(self, first: int, count: int) -> None:
        lines = written(12)
        last = min(first + count, 16) - 1
        assert ("removed", first, last) in named(checked(lines[:first] + lines[last + 1 :]))

    @given(st.integers(1, 14))
    def test_records_that_changed_places_are_named(self, first: int) -> None:
        lines = written(12)
        lines[first], lines[first + 1] = lines[first + 1], lines[first]
        assert ("reordered", first, first) in named(checked(lines))

    @given(st.integers(0, 15))
    def test_a_record_twice_is_named(self, index: int) -> None:
        lines = written(12)
        lines.insert(index + 1, lines[index])
        assert ("inserted", index, index) in named(checked(lines))

    def test_a_record_put_in_with_a_number_of_its_own(self) -> None:
        lines = written(12)
        lines.append(lines[-1].replace(b'"seq":16', b'"seq":17'))
        assert ("inserted", 17, 17) in named(checked(lines))

    @pytest.mark.parametrize("index", [1, 4, 9])
    def test_one_who_makes_all_hashes_anew_fails_at_the_signature(self, index: int) -> None:
        lines = remade(written(12), lambda record: record.update(id="another"), index)
        first, *rest = checked(lines).problems
        assert first.first <= index <= first.last
        assert {problem.kind for problem in (first, *rest)} == {"root"}

    def test_one_who_signs_anew_fails_where_the_key_is_known(self) -> None:
        lines = written(12, key=OTHER)
        assert checked(lines).intact, "by itself it is consistent"
        kinds = {problem.kind for problem in checked(lines, trusted=[KEY.public_key()]).problems}
        assert kinds == {"signer"}
        assert checked(written(12), trusted=[KEY.public_key(), OTHER.public_key()]).intact

    def test_a_cut_end_is_named_by_whoever_knew_of_it(self) -> None:
        lines = written(12)
        known = {NAME: (16, chains.split(lines[-1]).hash.hex())}
        assert checked(lines, witnessed=known).intact
        assert named(checked(lines[:-4], witnessed=known)) == [("truncated", 13, 16)]
        cut = checked(lines[:-4])
        assert cut.intact
        assert [note.kind for note in cut.notes] == ["killed", "unsigned"]

    def test_a_whole_chain_made_anew_is_not_what_the_witness_knew(self) -> None:
        known = {NAME: (8, chains.split(written(12)[8]).hash.hex())}
        assert ("changed", 8, 8) in named(checked(written(13, every=7), witnessed=known))

    def test_a_chain_that_is_gone(self) -> None:
        result = verify({}, witnessed={NAME: (5, "00" * 32)})
        assert named(result) == [("missing", 0, 5)]

    def test_a_torn_last_line_is_noted_and_a_torn_line_between_is_named(self) -> None:
        lines = written(12)
        torn = checked([*lines[:-1], lines[-1][:40]])
        assert torn.intact
        assert "torn" in {note.kind for note in torn.notes}
        assert ("changed", 3, 3) in named(checked([*lines[:3], lines[3][:40], *lines[4:]]))

    def test_a_clock_that_was_set_back_is_noted(self) -> None:
        chain = Chain(NAME, KEY)
        lines = [chain.add([one]) for one in (opening(), records.body("x", 1000.0, {}), records.body("x", 900.0, {}))]
        assert "the clock had gone back by 100 s" in checked(lines).notes[0].what

    @given(st.lists(st.binary(max_size=200)))
    def test_garbage_is_no_crash(self, lines: list[bytes]) -> None:
        checked([line + b"\n" for line in lines])


def filled(folder: Path, count: int = 40, rotate: int = 2_000, close: bool = True) -> str:
    writer = Writer(folder, KEY, Rules(1e9, rotate, 1e9))
    for number in range(count):
        assert writer.append([records.body("decision", 2.0 + number, {"id": f"d{number}", "pad": "x" * 100})])
        assert writer.tick()
    name = writer.name
    if close:
        assert writer.close()
    else:
        writer.abandon()
    return name


def forge(folder: Path, key: Ed25519PrivateKey | None, of: str, last: int, head: str) -> None:
    """Put in a chain by whose word retention removed another's records, signed with ``key`` if there is one."""
    chain = Chain(files.new_chain(2.0), key or OTHER)
    public = chains.public_bytes((key or KEY).public_key()).hex()
    fields = {"format": 1, "chain": chain.name, "log": files.log_id(folder), "public_key": public, "beside": {}}
    removed = {"chain": of, "file": "000000000000.jsonl", "first": 0, "last": last, "head": head}
    lines = chain.add([records.body(records.OPEN, 2.0, fields), records.body(records.REMOVED, 2.0, removed)])
    (folder / chain.name).mkdir()
    files.path_of(folder, chain.name, 0).write_bytes(lines + (chain.root(2.0) if key else b""))


class TestFiles:
    def test_rotation_and_compression_leave_a_chain_whole(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        assert len(files.segments(tmp_path, name)) > 3
        tidy(tmp_path, Keep(1e9, 2**40, True), 1e9, lambda fields: None)
        assert all(segment.compressed for segment in files.segments(tmp_path, name))
        result = verify_folder(tmp_path, [KEY.public_key()])
        assert result.intact
        assert result.records > 40

    def test_a_removed_file_is_named_and_one_that_retention_removed_is_noted(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        first, second, third = files.segments(tmp_path, name)[:3]
        saved = first.path.read_bytes()
        first.path.unlink()
        assert named(verify_folder(tmp_path)) == [("removed", 0, second.first - 1)]
        first.path.write_bytes(saved)
        second.path.unlink()
        assert named(verify_folder(tmp_path)) == [("removed", second.first, third.first - 1)]

    def test_retention_takes_the_oldest_and_writes_it_down_first(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        keeper = Writer(tmp_path, KEY, Rules(1e9, 2**20, 1e9))
        before = len(files.segments(tmp_path, name))

        def write_down(fields: dict[str, object]) -> None:
            assert files.path_of(tmp_path, str(fields["chain"]), int(str(fields["first"]))).exists()
            assert keeper.record(records.REMOVED, fields)
            assert keeper.root()

        tidy(tmp_path, Keep(1e18, 6_000, False), 1e9, write_down)
        assert 0 < len(files.segments(tmp_path, name)) < before
        result = verify_folder(tmp_path)
        assert result.intact
        assert "removed" in {note.kind for note in result.notes}
        tidy(tmp_path, Keep(1e18, 0, False), 1e9, write_down)
        assert not (tmp_path / name).exists()
        assert len(files.segments(tmp_path, keeper.name)) == 1, "what is being written stays"
        assert verify_folder(tmp_path).intact
        keeper.close()

    @pytest.mark.parametrize("key", [None, OTHER])
    def test_who_says_without_the_key_that_retention_removed_something_is_not_believed(
        self, tmp_path: Path, key: Ed25519PrivateKey | None
    ) -> None:
        name, other = filled(tmp_path), filled(tmp_path, 3)
        first, second = files.segments(tmp_path, name)[:2]
        line = files.last_line(first)
        assert line is not None
        forge(tmp_path, key, name, second.first - 1, chains.split(line).hash.hex())
        first.path.unlink()
        result = verify_folder(tmp_path, [KEY.public_key()])
        assert (name, "removed", 0, second.first - 1) in [problem[:4] for problem in result.problems]
        (opened,) = [one for chain, _, one in records_of(tmp_path) if chain == other and one["kind"] == "open"]
        last, head = opened["beside"][name]
        forge(tmp_path, key, name, last, head)
        shutil.rmtree(tmp_path / name)
        result = verify_folder(tmp_path, [KEY.public_key()])
        assert (name, "missing", 0, last) in [problem[:4] for problem in result.problems]
        assert not [note for note in result.notes if note.kind == "removed"]

    def test_a_word_of_retention_that_was_changed_is_not_believed(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        keeper = Writer(tmp_path, KEY, Rules(1e9, 2**20, 1e9))
        first, second = files.segments(tmp_path, name)[:2]
        assert keeper.record(records.REMOVED, {"chain": "another", "first": 0, "last": second.first - 1, "head": "00" * 32})
        assert keeper.close()
        (segment,) = files.segments(tmp_path, keeper.name)
        segment.path.write_bytes(segment.path.read_bytes().replace(b'"another"', b'"%b"' % name.encode()))
        first.path.unlink()
        problems = [problem[:4] for problem in verify_folder(tmp_path).problems]
        assert (name, "removed", 0, second.first - 1) in problems
        assert (keeper.name, "changed", 1, 1) in problems

    def test_a_later_chain_knows_where_an_earlier_one_ended(self, tmp_path: Path) -> None:
        name = filled(tmp_path, close=False)
        filled(tmp_path, 3)
        assert verify_folder(tmp_path).intact
        last = files.segments(tmp_path, name)[-1]
        lines = last.path.read_bytes().splitlines(keepends=True)
        last.path.write_bytes(b"".join(lines[:-1]))
        (problem,) = verify_folder(tmp_path).problems
        assert (problem.kind, problem.chain) == ("truncated", name)

    def test_a_chain_of_another_log_is_named(self, tmp_path: Path) -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        own, other = filled(ours), filled(theirs)
        assert verify_folder(ours).intact
        (theirs / other).rename(ours / other)
        result = verify_folder(ours)
        assert [(p.chain, p.kind) for p in result.problems] == [(other, "inserted")]
        assert files.log_id(theirs) in result.problems[0].what
        (ours / "log-id").unlink()  # the oldest chain says which log it is
        assert [p.chain for p in verify_folder(ours).problems] == [max(own, other)]

    def test_another_name_of_the_log_is_named(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        (tmp_path / "log-id").write_text("0123456789abcdef\n")  # under it the state knows of nothing
        assert [(p.chain, p.kind) for p in verify_folder(tmp_path).problems] == [(name, "inserted")]

    def test_a_damaged_compressed_file_is_named(self, tmp_path: Path) -> None:
        name = filled(tmp_path)
        tidy(tmp_path, Keep(1e9, 2**40, True), 1e9, lambda fields: None)
        segment = files.segments(tmp_path, name)[1]
        whole = segment.path.read_bytes()
        segment.path.write_bytes(whole[: len(whole) // 2])
        assert "unreadable" in {problem.kind for problem in verify_folder(tmp_path).problems}
        segment.path.write_bytes(gzip.compress(gzip.decompress(whole).replace(b"xxx", b"xyx", 1)))
        assert named(verify_folder(tmp_path)) == [("changed", segment.first, segment.first)] or not verify_folder(tmp_path).intact

    def test_a_file_that_vanishes_under_the_writer(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path, KEY, Rules(1e9, 2**20, 1e9))
        first = writer.name
        files.segments(tmp_path, first)[0].path.unlink()
        assert writer.tick()
        assert writer.errors == 1
        assert writer.name != first
        assert writer.record("x", {})
        writer.close()
        assert files.segments(tmp_path, writer.name)
