"""Verification of a log: names every record that was removed, changed, put elsewhere or cut off. Pure: lines in, findings out.

What cannot be told is said as well: which records no signed root covers yet, which chains ended without closing (their
process was killed; what it had not acknowledged is lost), which records retention removed, and which the gateway gave up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit import chain as chains
from gateway.audit import records
from gateway.audit.chain import BadLine

CLOCK_BACK_SECONDS: Final = 5.0
"""Times of records beside each other may differ by a batch; a step back of more than this is a clock that was set."""

MAX_PROBLEMS: Final = 1_000
"""Problems that are listed of one chain; a file of random bytes would list every line."""

_NOT_RETENTION: Final = "no signed record says that this was retention"

Lines = Iterable[bytes]
Head = tuple[int, str]
"""A record by its number and hash."""

Gone = dict[str, dict[int, str]]
"""What retention is said to have removed: by chain, the number and hash of the last record of each file."""


class Problem(NamedTuple):
    """Something that is not as it was written: records ``first`` to ``last`` of a chain.

    ``kind``: ``changed``, ``removed``, ``inserted``, ``reordered``, ``truncated``, ``root`` (a signed root does not hold),
    ``signer`` (signed by a key that is not trusted), ``unreadable``, ``missing`` (a whole chain).
    """

    chain: str
    kind: str
    first: int
    last: int
    what: str


class Note(NamedTuple):
    """Something an auditor should know that is no alteration.

    ``kind``: ``killed``, ``torn``, ``unsigned``, ``lost``, ``removed`` (by retention), ``clock``.
    """

    chain: str
    kind: str
    what: str


@dataclass(slots=True)
class ChainReport:
    """What was read of one chain. Times are UNIX seconds; ``closed``: its process ended in order."""

    name: str
    host: str = ""
    pid: int = 0
    first: int = 0
    last: int = -1
    records: int = 0
    roots: int = 0
    signed_to: int = -1
    signers: set[str] = field(default_factory=set)
    began: float = 0.0
    ended: float = 0.0
    closed: bool = False
    head: str = ""


@dataclass(slots=True)
class Verification:
    """The outcome over a whole log; it is ``intact`` where there is no problem."""

    chains: list[ChainReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.problems

    @property
    def records(self) -> int:
        return sum(chain.records for chain in self.chains)


class Source(NamedTuple):
    """A chain's files: the number of the first record of the first file, and the lines of all, anew for each call."""

    first: int
    lines: Callable[[], Lines]


def verify(
    log: Mapping[str, Source],
    trusted: Sequence[Ed25519PublicKey] = (),
    witnessed: Mapping[str, Head] | None = None,
    live: frozenset[str] = frozenset(),
    see: Callable[[str, dict[str, Any]], None] | None = None,
    log_id: str | None = None,
) -> Verification:
    """Verify all chains of a log.

    Args:
        log: the chains by name.
        trusted: the keys whose signatures count; none trusts the keys that the log itself names, which proves only that the
            roots go together.
        witnessed: how far chains had come by the word of somebody else (the state, a SIEM).
        live: chains that a process writes right now, which need not be closed.
        see: called with the chain and each record that was read, in order.
        log_id: the log's name; none takes what the oldest chain says.
    """
    result = Verification()
    heads: dict[str, dict[int, tuple[str, str]]] = {}
    for name, (seq, digest) in (witnessed or {}).items():
        heads.setdefault(name, {})[seq] = (digest, "the state")
    said: Gone = {}
    gone: Gone = {}
    for name, source in sorted(log.items()):
        for record in _statements(source.lines):
            _learn(name, record, heads, said)
            log_id = log_id or _said_log(record)
    keys = {chains.key_id(key): key for key in trusted}
    for name, source in sorted(log.items()):
        reader = _Reader(name, heads.get(name, {}), keys, result, see, log_id, gone)
        reader.read(source, said.get(name, {}))
        reader.finish(name in live)
        result.chains.append(reader.report)
    for name in sorted({*log, *heads}):  # after all were read: a later chain may hold retention's signed word
        if name not in log:
            _judge_missing(name, heads[name], gone.get(name, {}), result)
        elif log[name].first:
            _judge_late(name, log[name].first, gone.get(name, {}), result)
    return result


def _statements(lines: Callable[[], Lines]) -> Iterator[dict[str, Any]]:
    """The records of a chain that speak of other chains."""
    try:
        for line in lines():
            if b'"kind":"open"' in line[:120] or b'"kind":"removed"' in line[:120]:
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(record, dict):
                    yield record
    except OSError:
        return  # the second reading names it


def _learn(name: str, record: dict[str, Any], heads: dict[str, dict[int, tuple[str, str]]], said: Gone) -> None:
    try:
        if record["kind"] == records.OPEN:
            for other, (seq, digest) in record["beside"].items():
                heads.setdefault(other, {})[int(seq)] = (str(digest), f"chain {name}")
        elif record["kind"] == records.REMOVED:
            _note_removed(record, said)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # a changed record, which the second reading names


def _note_removed(record: dict[str, Any], gone: Gone) -> None:
    with contextlib.suppress(KeyError, TypeError, ValueError):  # nothing that we wrote
        gone.setdefault(record["chain"], {})[int(record["last"])] = str(record["head"])


def _said_log(record: dict[str, Any]) -> str | None:
    """The log that a chain's opening says it belongs to."""
    said = record.get("log")
    return said if isinstance(said, str) else None


def _judge_missing(name: str, heads: dict[int, tuple[str, str]], gone: dict[int, str], result: Verification) -> None:
    last = max(heads)
    if gone and max(gone) >= last:
        result.notes.append(Note(name, "removed", f"all of it, records up to {max(gone)}, was removed by retention"))
    else:
        result.problems.append(
            Problem(
                name, "missing", 0, last,
                f"the whole chain is gone, and {_NOT_RETENTION}; {heads[last][1]} knew its records up to {last}",
            )
        )  # fmt: skip


def _judge_late(name: str, first: int, gone: dict[int, str], result: Verification) -> None:
    if first - 1 in gone:
        result.notes.append(Note(name, "removed", f"records 0 to {first - 1} were removed by retention"))
    else:
        what = f"{_numbers(0, first - 1)} not there, and {_NOT_RETENTION}"
        result.problems.append(Problem(name, "removed", 0, first - 1, what))


class _Reader:
    """Reads the lines of one chain in order."""

    def __init__(
        self,
        name: str,
        heads: dict[int, tuple[str, str]],
        trusted: Mapping[str, Ed25519PublicKey],
        result: Verification,
        see: Callable[[str, dict[str, Any]], None] | None,
        log_id: str | None,
        gone: Gone,
    ) -> None:
        """``gone`` takes what this chain says under a signature that holds."""
        self.report = ChainReport(name)
        self._name = name
        self._heads = heads
        self._trusted = trusted
        self._keys: dict[str, Ed25519PublicKey] = dict(trusted)
        self._result = result
        self._see = see
        self._log_id = log_id
        self._gone = gone
        self._removed: list[dict[str, Any]] = []  # records of this kind since the last root
        self._expected = 0
        self._before: bytes | None = chains.first_hash(name)
        self._missing: set[int] = set()
        self._leaves: list[bytes] = []
        self._first_leaf = 0
        self._sound = True  # nothing is wrong since the last root
        self._torn = 0
        self._problems = 0

    def read(self, source: Source, said: dict[int, str]) -> None:
        """``said``: what anybody says of this chain's removed files, signed or not; a wrong hash meets no root."""
        if source.first:
            self._begin_late(source.first, said.get(source.first - 1))
        self.report.first = source.first
        try:
            for line in source.lines():
                self._line(line)
        except OSError as error:
            self._problem("unreadable", self._expected, self._expected, f"record {self._expected} and what follows: {error}")

    def finish(self, live: bool) -> None:
        """Say what the end of the chain tells."""
        report = self.report
        for first, last in _ranges(self._missing):
            self._problem("removed", first, last, f"{_numbers(first, last)} not there")
        report.last = self._expected - 1
        beyond = [seq for seq in self._heads if seq > report.last]
        if beyond:
            last = max(beyond)
            self._problem(
                "truncated", report.last + 1, last,
                f"{_numbers(report.last + 1, last)} cut off; {self._heads[last][1]} knew of them",
            )  # fmt: skip
        if self._torn and not live:
            self._note("torn", f"{self._torn} bytes of a record begun after {report.last}: it was never acknowledged")
        if not report.closed and not live:
            after = f"after record {report.last}" if report.last >= 0 else "without any record"
            self._note(
                "killed",
                f"it ends without being closed, {after}: its process was killed, or its end was cut off; "
                "what was not acknowledged then is lost",
            )
        if report.signed_to < report.last and not (report.closed and report.last - report.signed_to <= 2):
            self._note("unsigned", f"{_numbers(report.signed_to + 1, report.last)} under no signed root yet")

    def _begin_late(self, first: int, head: str | None) -> None:
        self._expected, self._before, self._sound = first, None, False
        self._first_leaf = first - 1
        if head is None:
            return
        try:
            self._before = bytes.fromhex(head)
        except ValueError:
            return
        self._leaves, self._sound = [self._before], True  # a file ends with a root, which is the first that the next one covers

    def _line(self, line: bytes) -> None:
        if self._torn:
            self._problem("changed", self._expected, self._expected, f"record {self._expected} is broken off in mid-line")
            self._torn = 0
            self._step_over()
        if not line.endswith(b"\n"):
            self._torn = len(line)
            return
        try:
            covered, claimed = chains.split(line)
            record = orjson.loads(line)
            seq = record["seq"]
            if not isinstance(seq, int):
                raise BadLine("its number is none")
        except (ValueError, KeyError, TypeError):
            self._problem("changed", self._expected, self._expected, f"record {self._expected} is not a record any more")
            self._step_over()
            return
        if not self._in_place(seq):
            return
        self._check(seq, covered, claimed)
        self._take(seq, record, claimed)

    def _step_over(self) -> None:
        self._expected += 1
        self._before = None
        self._sound = False

    def _in_place(self, seq: int) -> bool:
        if seq == self._expected:
            return True
        self._sound = False
        if seq > self._expected:
            if seq - self._expected > 10**9:
                self._problem("changed", self._expected, self._expected, f"record {self._expected} has the number {seq}")
                self._step_over()
                return False
            self._missing.update(range(self._expected, min(seq, self._expected + 10**6)))
            self._expected, self._before = seq, None
            return True
        if seq in self._missing:
            self._missing.discard(seq)
            self._problem("reordered", seq, seq, f"record {seq} stands after record {self._expected - 1}")
        else:
            self._problem("inserted", seq, seq, f"a further record {seq} stands after record {self._expected - 1}")
        return False

    def _check(self, seq: int, covered: bytes, claimed: bytes) -> None:
        if self._before is not None and chains.next_hash(self._before, covered) != claimed:
            self._sound = False
            self._problem(
                "changed", seq, seq,
                f"record {seq} does not have the hash that it had" + (f" after record {seq - 1}" if seq else ""),
            )  # fmt: skip
        if self.report.closed:
            self._problem("inserted", seq, seq, f"record {seq} stands after the end of the chain")
        known = self._heads.get(seq)
        if known is not None and known[0] != claimed.hex():
            self._problem("changed", seq, seq, f"record {seq} or one before it is not what {known[1]} knew")

    def _take(self, seq: int, record: dict[str, Any], claimed: bytes) -> None:
        report = self.report
        kind = record.get("kind")
        if kind == records.ROOT:
            self._check_root(record)
        self._before = claimed
        self._leaves.append(claimed)
        self._expected = seq + 1
        report.records += 1
        report.head = claimed.hex()
        self._check_time(seq, record.get("time"))
        if kind in (records.OPEN, records.SEGMENT):
            self._meet(seq, record)
        elif kind == records.CLOSE:
            report.closed = True
        elif kind == records.REMOVED:
            self._removed.append(record)
        elif kind == records.LOST:
            self._note("lost", f"record {seq}: {record.get('records')} records could not be written and were given up "
                               f"between {record.get('since')} and {record.get('until')}")  # fmt: skip
        if self._see is not None:
            self._see(self._name, record)

    def _check_root(self, record: dict[str, Any]) -> None:
        first, last = self._first_leaf, self._expected - 1
        leaves, sound = self._leaves, self._sound and self._first_leaf + len(self._leaves) == self._expected
        removed, self._removed = self._removed, []
        self._leaves, self._first_leaf, self._sound = [], self._expected, True
        self.report.roots += 1
        signer = str(record.get("signer"))
        self.report.signers.add(signer)
        if not sound:
            return  # what is wrong with them was named record by record
        key = self._keys.get(signer)
        if self._trusted and signer not in self._trusted:
            self._problem("signer", first, last, f"{_numbers(first, last)} signed by {signer[:40]}, which is not trusted")
            return
        whole = record.get("first") == first and record.get("last") == last and bool(leaves)
        tree = chains.merkle_root(leaves)
        if key is None or not whole or not chains.signature_holds(key, self._name, record, leaves[-1], tree):
            self._problem("root", first, last, f"{_numbers(first, last)} not what was signed")
            return
        self.report.signed_to = last
        for one in removed:
            _note_removed(one, self._gone)

    def _check_time(self, seq: int, time: Any) -> None:
        if not isinstance(time, int | float):
            return
        report = self.report
        if report.ended and report.ended - time > CLOCK_BACK_SECONDS and time > 0:
            self._note("clock", f"at record {seq} the clock had gone back by {report.ended - time:.0f} s")
        report.began = report.began or float(time)
        report.ended = float(time)

    def _meet(self, seq: int, record: dict[str, Any]) -> None:
        if record.get("chain") != self._name:
            self._problem("changed", seq, seq, f"record {seq} belongs to chain {str(record.get('chain'))[:40]}")
        said = _said_log(record)
        if said and said != self._log_id:
            what = f"record {seq} begins a chain of log {said[:40]}, and this one is {self._log_id}"
            self._problem("inserted", seq, seq, what)
        self.report.host = self.report.host or str(record.get("host", ""))
        self.report.pid = self.report.pid or int(record.get("pid") or 0)
        if not self._trusted:
            try:
                key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(record["public_key"]))
            except (KeyError, ValueError, TypeError):
                return
            self._keys[chains.key_id(key)] = key

    def _problem(self, kind: str, first: int, last: int, what: str) -> None:
        self._problems += 1
        if self._problems <= MAX_PROBLEMS:
            self._result.problems.append(Problem(self._name, kind, first, last, what))

    def _note(self, kind: str, what: str) -> None:
        self._result.notes.append(Note(self._name, kind, what))


def _numbers(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def _ranges(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """The runs of consecutive numbers, in order."""
    first = last = None
    for number in sorted(numbers):
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last
