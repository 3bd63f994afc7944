"""Decision records: what is recorded, how it is encoded and explained, and that none is lost in silence."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from state_support import NOW, THREATS, decision, decisions, texts

from detectors.values import Finding, Key, Opaque, Origin, Segment, Skipped
from gateway.records import recorder as recording
from gateway.records.decision_records import MAX_LISTED, decode, encode, explain, labels, settle, summarise
from gateway.records.decisions import (
    MAX_NAME,
    AnyDecision,
    Decision,
    Found,
    Gap,
    Part,
    Screened,
    Screening,
    Shadow,
    Text,
    Upstream,
    first_id,
    is_id,
    new_id,
)
from gateway.records.recorder import LARGE, Recorder
from gateway.state.base import State
from gateway.state.opening import open_state

# Ids


@given(st.floats(0, 2**38), st.floats(0, 2**38))
def test_ids_sort_by_time(one: float, two: float) -> None:
    first, second = new_id(one), new_id(two)
    assert is_id(first)
    assert first_id(one) <= first
    if int(one * 1000) < int(two * 1000):
        assert first < first_id(two) <= second
    assert new_id(one) != first


@pytest.mark.parametrize("time", [-1e308, -1e9, -0.001, 2e14, 1e300, 1e308])
def test_any_time_has_a_first_id(time: float) -> None:
    assert is_id(first_id(time))


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "A" * 32, "0" * 31 + "\n", "0" * 32 + "\n", "٠" * 32])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


# Records


@given(decisions())
def test_a_record_survives_encoding(one: AnyDecision) -> None:
    record = settle(one)
    assert decode(encode(one)) == record
    assert decode(encode(record)) == record
    assert settle(record) == record
    assert labels(one) == labels(record)


def test_what_is_recorded_of_one_direction() -> None:
    path = ("messages", 1, "content")
    side = Screened(
        "block",
        "why",
        0.9,
        [Segment("four", "user", Origin.USER, 1, path), Segment("käse!", "tool", Origin.TOOL_RESULT, 2, ("a", Key("b c")))],
        [("canonical", "lexical"), ("cache",)],
        [Opaque(Origin.USER, 1, (*path, 0), "image")],
        [Finding("lexical", "p.1", "jailbreak.persona", 0.8, 1, 2, 5)],
        ["block"],
        [Skipped("semantic", "late")],
        [("lexical", 12)],
    )
    assert settle(decision(request=side)).request == Screening(
        "block",
        "why",
        0.9,
        (Part("messages[1].content", "user", 1, 4, ("canonical", "lexical")), Part("a#*", "tool_result", 2, 5, ("cache",))),
        (Gap("messages[1].content[0]", "user", 1, "image"),),
        (Found("lexical", "p.1", "jailbreak.persona", 0.8, "a#*", 2, 5, "block"),),
        (("semantic", "late"),),
        (("lexical", 12),),
        0,
    )


def test_a_models_name_is_cut() -> None:
    one = decision(model="m" * (MAX_NAME + 1))
    assert settle(one).model == decode(encode(one)).model == "m" * MAX_NAME


def test_a_record_holds_no_text() -> None:
    one = decision(threats=["secret.cloud_key"], reply=decision().request)
    assert b"some text" in orjson.dumps(one.request.segments[0].text)  # type: ignore[union-attr]
    assert b"some text" not in encode(one)


def test_a_crowded_record_lists_what_matters_and_counts_the_rest() -> None:
    segments = [Segment("x", "user", Origin.USER, i, (i,)) for i in range(MAX_LISTED + 7)]
    weak = [Finding("lexical", "w", "pii.payment", 0.1, MAX_LISTED + 3, 0, 1)] * (MAX_LISTED + 5)
    rare = Finding("lexical", "r", "pii.bank", 0.01, 0, 0, 1)
    strong = Finding("lexical", "s", "pii.payment", 0.9, 0, 0, 1)
    opaque = [Opaque(Origin.USER, i, (i,), "image") for i in range(MAX_LISTED + 1)]
    side = Screened("flag", "", 0.9, segments, [("lexical",)] * len(segments), opaque, [*weak, rare, strong])
    found = settle(decision(request=side)).request
    assert [part.path for part in found.parts] == [f"[{i}]" for i in range(MAX_LISTED)]
    assert len(found.gaps) == len(found.findings) == MAX_LISTED
    assert found.findings[:2] == (
        Found("lexical", "s", "pii.payment", 0.9, "[0]", 0, 1),
        Found("lexical", "r", "pii.bank", 0.01, "[0]", 0, 1),
    )
    assert found.findings[2].path == f"[{MAX_LISTED + 3}]"
    assert found.unlisted == 7 + 1 + 7


def test_parts_without_stages_are_a_mistake() -> None:
    side = Screened("allow", "", 0.0, [Segment("x", "user", Origin.USER, 0, ())], [])
    with pytest.raises(ValueError, match="1 segments with stages for 0"):
        encode(decision(request=side))


def test_what_is_no_text_is_replaced_one_for_one() -> None:
    assert decode(encode(decision(model="a\ud800\udc00b", edits=(("\udfff", 1),)))).model == "a\ufffd\ufffdb"


def test_a_later_format_is_refused_and_later_fields_are_left_out() -> None:
    row = orjson.loads(encode(decision()))
    row[15].append("new")
    assert decode(orjson.dumps([*row, "new"])) == settle(decision(id=row[1]))
    with pytest.raises(ValueError, match="format 2"):
        decode(orjson.dumps([2, *row[1:]]))


def test_a_record_is_explained_by_name() -> None:
    one = decision(
        threats=["pii.payment", "secret.ci_token"],
        edits=(("pii.payment", 2),),
        shadow=Shadow("strict", "1", "block", "worse"),
        upstream=Upstream("openai", 200, 0.5, 1),
        action="redact",
    )
    doc = explain(settle(one))
    assert set(doc) == {*Decision._fields, "categories"}
    assert doc["request"]["parts"] == [
        {"path": "messages[0].content", "origin": "user", "turn": 0, "length": 9, "stages": ("lexical",), "channel": "prose"}
    ]
    assert doc["request"]["findings"][0]["category"] == "pii.payment"
    assert doc["reply"] is None
    assert doc["categories"] == ["pii", "pii.payment", "secret", "secret.ci_token"]
    assert doc["edits"] == {"pii.payment": 2}
    assert doc["shadow"] == {"policy": "strict", "version": "1", "action": "block", "reason": "worse"}
    assert doc["upstream"] == {"name": "openai", "status": 200, "seconds": 0.5, "retries": 1}
    orjson.dumps(doc)


@given(decisions())
def test_every_record_can_be_shown(one: AnyDecision) -> None:
    record = settle(one)
    orjson.dumps(explain(record))
    line = summarise(record)
    assert line["complete"] == (not record.request.skipped and not (record.reply and record.reply.skipped))
    assert line["id"] == record.id
    orjson.dumps(line)


def test_kept_text_is_not_shown() -> None:
    kept = texts(decision(), NOW, "private")
    assert "private" not in repr(kept) + str(kept) + repr(kept.texts)
    assert repr(Text("reply", "a", "private")) == "Text('reply', 'a', 7 code points)"


# The recorder


def record(url: str, story: Callable[[State, Recorder], Awaitable[None]]) -> None:
    async def run() -> None:
        state = open_state(url)
        await story(state, Recorder(state))
        await state.close()

    asyncio.run(run())


def store_that_is_gone(folder: Path) -> tuple[str, Callable[[], None]]:
    """A store's URL, and what brings it back."""
    (folder / "var").write_text("a file where the folder should be")
    return f"sqlite:{folder}/var/state.db", (folder / "var").unlink


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_what_is_added_is_stored() -> None:
    made = [decision(NOW + i, threats=THREATS) for i in range(recording.MAX_FRESH + 10)]

    async def story(state: State, recorder: Recorder) -> None:
        for one in made:
            recorder.add(one, texts(one, NOW + 1e9))
        assert recorder.stats.queued == len(made)
        assert await recorder.flush()
        assert recorder.stats == (0, len(made), 0, 0, 0, "")
        for one in (made[0], made[-1]):
            assert await state.decision(one.id) == settle(one)
            assert await state.kept_texts(one.id, NOW) is not None

    record("sqlite::memory:", story)


@pytest.mark.parametrize("count", [1, recording.BATCH + 1])
def test_a_started_recorder_stores_by_itself(count: int) -> None:
    async def story(state: State, recorder: Recorder) -> None:
        assert not recorder.healthy
        recorder.start()
        assert recorder.healthy
        for _ in range(count):
            recorder.add(decision())
        await until(lambda: recorder.stats.written == count)
        await recorder.close(5)

    record("sqlite::memory:", story)


def test_closing_stores_what_is_left() -> None:
    made = decision()

    async def story(state: State, recorder: Recorder) -> None:
        recorder.start()
        recorder.add(made)
        await recorder.close(5)
        assert await state.decision(made.id) is not None
        assert not recorder.healthy

    record("sqlite::memory:", story)


def test_records_wait_for_a_store_that_is_gone(tmp_path: Path) -> None:
    url, bring_back = store_that_is_gone(tmp_path)
    made = [decision() for _ in range(5)]

    async def story(state: State, recorder: Recorder) -> None:
        recorder.start()
        recorder.add(made[0], texts(made[0], NOW + 1e9))
        assert not await recorder.flush()
        for one in made[1:]:
            recorder.add(one)
        assert not await recorder.flush()
        assert not recorder.healthy
        stats = recorder.stats
        assert (stats.queued, stats.written, stats.dropped, stats.write_errors) == (5, 0, 0, 2)
        assert str(tmp_path) in stats.last_error
        bring_back()
        await until(lambda: recorder.stats.written == 5)
        assert recorder.healthy
        assert await state.kept_texts(made[0].id, NOW) is not None
        assert [each.id for each in (await state.decisions()).decisions] == sorted((each.id for each in made), reverse=True)
        await recorder.close(5)

    record(url, story)


def test_too_many_that_wait_are_dropped_oldest_first_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, bring_back = store_that_is_gone(tmp_path)
    monkeypatch.setattr(recording, "BATCH", 4)
    monkeypatch.setattr(recording, "MAX_FRESH", 8)
    monkeypatch.setattr(recording, "MAX_WAITING", 9 * 10)  # ten ordinary records
    monkeypatch.setattr(recording, "MAX_TEXTS", 30)
    made = [decision(NOW + i) for i in range(40)]

    async def story(state: State, recorder: Recorder) -> None:
        for one in made:
            recorder.add(one, texts(one, NOW + 1e9, "ten points"))
            assert not await recorder.flush()
        stats = recorder.stats
        assert (stats.queued, stats.dropped, stats.texts_dropped) == (18, 22, 37)
        bring_back()
        assert await recorder.flush()
        assert [each.id for each in (await state.decisions()).decisions] == [one.id for one in reversed(made[22:])]
        kept = [await state.kept_texts(one.id, NOW) is not None for one in made]
        assert kept == [False] * 37 + [True] * 3
        assert recorder.stats.written + recorder.stats.dropped == len(made)

    record(url, story)


def test_records_that_outrun_the_store_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_FRESH", 8)
    monkeypatch.setattr(recording, "BATCH", 4)
    monkeypatch.setattr(recording, "MAX_WAITING", 9 * 10)
    made = [decision(NOW + i) for i in range(100)]

    async def story(state: State, recorder: Recorder) -> None:
        recorder.start()
        for one in made:
            recorder.add(one)
        assert not recorder.healthy
        assert recorder.stats.dropped == 100 - 8 - 10
        assert await recorder.flush()
        assert [each.id for each in (await state.decisions()).decisions] == [one.id for one in reversed(made[82:])]
        assert recorder.healthy
        await recorder.close(5)

    record("sqlite::memory:", story)


def test_closing_gives_up_on_a_store_that_is_gone(tmp_path: Path) -> None:
    url, _ = store_that_is_gone(tmp_path)

    async def story(state: State, recorder: Recorder) -> None:
        recorder.start()
        for _ in range(3):
            recorder.add(decision(), texts(decision(), NOW))
        await recorder.close(0.05)
        stats = recorder.stats
        assert (stats.queued, stats.written, stats.dropped, stats.texts_dropped) == (0, 0, 3, 3)

    record(url, story)


def test_a_record_that_cannot_be_stored_does_not_hold_up_the_others() -> None:
    wrong, right = decision(id="not an id"), decision()

    async def story(state: State, recorder: Recorder) -> None:
        recorder.add(wrong)
        assert await recorder.flush()
        recorder.add(right)
        assert await recorder.flush()
        stats = recorder.stats
        assert (stats.written, stats.dropped, stats.write_errors) == (1, 1, 1)
        assert stats.last_error == "ValueError in a batch of 1"

    record("sqlite::memory:", story)


class Segments(list[Segment]):
    """A list whose end can be seen."""


def watched(**fields: Any) -> tuple[AnyDecision, weakref.ref[Segments]]:
    segments = Segments([Segment("text", "user", Origin.USER, 0, ())])
    return decision(request=Screened("allow", "", 0.0, segments, [()]), **fields), weakref.ref(segments)


@pytest.mark.parametrize("field", ["bytes_in", "bytes_out"])
def test_large_requests_do_not_wait_with_their_text(field: str) -> None:
    async def story(state: State, recorder: Recorder) -> None:
        one, text = watched(**{field: LARGE})
        recorder.add(one)
        del one
        gc.collect()
        assert text() is None
        assert recorder.stats.queued == 1
        recorder.start()
        assert recorder.healthy
        await recorder.close(5)
        assert recorder.stats.written == 1

    record("sqlite::memory:", story)


def test_records_that_wait_for_a_lost_store_hold_no_text(tmp_path: Path) -> None:
    async def story(state: State, recorder: Recorder) -> None:
        one, text = watched()
        recorder.add(one)
        del one
        assert text() is not None
        assert not await recorder.flush()
        await asyncio.sleep(0)  # the loop lets go of the failed call, and with it of its frames
        gc.collect()
        assert text() is None
        assert recorder.stats.queued == 1

    record(store_that_is_gone(tmp_path)[0], story)
