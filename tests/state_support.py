"""What the tests of the state share: made-up decisions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from detectors.values import Finding, Opaque, Origin, Segment, Skipped
from gateway.records.decisions import AnyDecision, Decision, KeptTexts, Screened, Shadow, Text, Upstream, first_id, new_id

NOW = 1_700_000_000.0
ACTIONS = ("allow", "flag", "redact", "block")
TENANTS = ("default", "acme", "allow")
WIRES = ("openai.chat", "anthropic.messages")
THREATS = ("secret.cloud_key", "secret.ci_token", "pii.payment", "jailbreak.persona")


def decision(time: float = NOW, **fields: Any) -> AnyDecision:
    """An ordinary allowed request at ``time``; ``threats`` makes a finding of each."""
    threats = fields.pop("threats", ())
    segment = Segment("some text", "user", Origin.USER, 0, ("messages", 0, "content"))
    findings = [Finding("lexical", f"p.{threat}", threat, 0.9, 0, 2, 5) for threat in threats]
    request = Screened("allow", "nothing found", 0.0, [segment], [("lexical",)], findings=findings)
    made: dict[str, Any] = {
        "id": fields.get("id") or new_id(time), "time": time, "tenant": "default", "key": "",
        "wire": "openai.chat", "operation": "chat", "model": "m", "streaming": False, "action": "allow",
        "reason": "nothing found", "status": 200, "policy": "balanced", "version": "1", "generation": 1,
        "request": request,
    }  # fmt: skip
    return Decision(**{**made, **fields})


def texts(of: AnyDecision, expires_at: float, text: str = "kept") -> KeptTexts:
    return KeptTexts(of.id, expires_at, True, (Text("request", "messages[0].content", text),))


_text = st.text(max_size=20)
_whole = st.integers(0, 2**40)
_path = st.lists(st.sampled_from(["messages", "content", "a b*c"]) | st.integers(0, 9), max_size=5).map(tuple)
_id = st.integers(0, 2**128 - 1).map("{:032x}".format)
_score = st.floats(0, 1)
_origin = st.sampled_from(Origin)
_segment = st.builds(Segment, _text, _text, _origin, st.integers(0, 99), _path, st.booleans())


@st.composite
def screened(draw: st.DrawFn) -> Screened:
    segments = draw(st.lists(_segment, max_size=4))
    found = st.builds(
        Finding, _text, _text, st.sampled_from(THREATS), _score, st.integers(0, max(0, len(segments) - 1)), _whole, _whole
    )
    findings = draw(st.lists(found, max_size=3)) if segments else []
    return Screened(
        draw(st.sampled_from(ACTIONS)),
        draw(_text),
        draw(_score),
        segments,
        [draw(st.sampled_from([("canonical", "lexical"), ("cache",), ()])) for _ in segments],
        draw(st.lists(st.builds(Opaque, _origin, st.integers(0, 99), _path, _text), max_size=2)),
        findings,
        [draw(st.sampled_from(ACTIONS)) for _ in findings],
        draw(st.lists(st.builds(Skipped, _text, _text), max_size=2)),
        tuple(draw(st.lists(st.tuples(_text, _whole), max_size=3))),
    )


@st.composite
def findable_decisions(draw: st.DrawFn, times: st.SearchStrategy[float]) -> AnyDecision:
    """Decisions that differ in what is searched for."""
    time = draw(times)
    return decision(
        time,
        id=first_id(time)[:12] + draw(_id)[12:],
        action=draw(st.sampled_from(ACTIONS)),
        tenant=draw(st.sampled_from(TENANTS)),
        wire=draw(st.sampled_from(WIRES)),
        threats=draw(st.lists(st.sampled_from(THREATS), max_size=2)),
    )


@st.composite
def decisions(draw: st.DrawFn) -> AnyDecision:
    """Any decision at all."""
    return Decision(
        id=draw(_id),
        time=NOW,
        tenant=draw(st.sampled_from(TENANTS)),
        key=draw(_text),
        wire=draw(st.sampled_from(WIRES)),
        operation=draw(_text),
        model=draw(st.text(max_size=300)),
        streaming=draw(st.booleans()),
        action=draw(st.sampled_from(ACTIONS)),
        reason=draw(_text),
        status=draw(st.integers(0, 599)),
        policy=draw(_text),
        version=draw(_text),
        generation=draw(_whole),
        request=draw(screened()),
        reply=draw(st.none() | screened()),
        edits=tuple(draw(st.lists(st.tuples(_text, _whole), max_size=2))),
        shadow=draw(st.none() | st.builds(Shadow, _text, _text, _text, _text)),
        upstream=draw(st.none() | st.builds(Upstream, _text, st.integers(0, 599), _score, st.integers(0, 9))),
        bytes_in=draw(_whole),
        bytes_out=draw(_whole),
        seconds=draw(_score),
        client_gone=draw(st.booleans()),
    )
