"""The coverage matrix is true: what it lists is what the wires list, and ``strict`` does not start where it could not hold."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import StartGateway
from gateways import CACHE_DIR, free_port, until
from test_wires_coverage import REPLIES, REQUESTS
from wires_support import BATCH, CHAT, EMBED, GENERATE, MESSAGES, RESPONSES, read, read_reply

from detectors.values import Origin
from gateway import live
from gateway.config.configuration import check
from gateway.config.settings import SettingsError
from gateway.keys import Role
from gateway.screening.coverage import ROUTES, Row, matrix
from gateway.screening.policy import Direction
from gateway.state import keystore
from gateway.wires import routes

FILE = {"type": "file", "file": {"filename": "a name", "file_data": "data:application/pdf;base64,aaaa"}}
RESULT = [{"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e"}]
DOCUMENT = {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
RAN = {"role": "model", "parts": [{"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "o"}}]}
MORE: dict[str, Any] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": [FILE]}]},
    GENERATE: {"contents": [{"role": "user", "parts": [{"text": "a"}]}], "systemInstruction": {"parts": [{"text": "s"}]}},
    BATCH: {"requests": [{"model": "models/m", "title": "t", "content": {"parts": [{"text": "a"}]}}]},
}
MORE_REPLIES: dict[str, Any] = {
    MESSAGES: {"type": "message", "role": "assistant", "content": [
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": RESULT},
        {"type": "code_execution_tool_result", "tool_use_id": "s",
         "content": {"type": "code_execution_result", "stdout": "o", "stderr": "", "return_code": 0, "content": []}},
    ]},
    GENERATE: {"candidates": [{"content": RAN}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return matrix(check({}, "test"))


def _listed(rows: list[Row], path: str, direction: Direction) -> set[str]:
    route = path.replace("gemini-2", "{model}")
    return {row.origin for row in rows if row.route == route and row.direction == direction.value and row.stages}


def test_every_path_that_carries_text_is_listed() -> None:
    wanted = {path.replace("MODEL", "{model}") for path in routes.SCREENED if not path.startswith(("/v1/models", "/v1alpha"))}
    assert {route.path for route in ROUTES} == wanted


@pytest.mark.parametrize("path", REQUESTS)
def test_what_may_stand_in_a_request_is_what_its_wire_lists(rows: list[Row], path: str) -> None:
    seen = {part.origin.value for doc in (REQUESTS[path], MORE.get(path, REQUESTS[path])) for part in read(path, doc).segments}
    assert seen <= _listed(rows, path, Direction.REQUEST)
    if path not in (GENERATE, EMBED):  # whose documents have no rich form of their own
        assert _listed(rows, path, Direction.REQUEST) == seen


@pytest.mark.parametrize("path", REPLIES)
def test_what_may_stand_in_a_reply_is_what_its_wire_lists(rows: list[Row], path: str) -> None:
    docs = (REPLIES[path], MORE_REPLIES.get(path, REPLIES[path]))
    seen = {part.origin.value for doc in docs for part in read_reply(path, doc).segments}
    assert seen <= _listed(rows, path, Direction.REPLY)
    if path != RESPONSES:
        assert _listed(rows, path, Direction.REPLY) == seen


def test_replies_to_a_system_prompt_are_compared_with_it(rows: list[Row]) -> None:
    for row in rows:
        asked = _listed(rows, row.route, Direction.REQUEST)
        if row.direction == Direction.REPLY.value and row.stages:
            assert ("leakage" in row.stages) is (Origin.SYSTEM.value in asked), row


def test_what_is_turned_on_is_told_and_what_is_turned_off_is_not() -> None:
    found = matrix(check({"policy": {"preset": "balanced", "links": ["a.example"]}, "detection": {"encoder": False}}, "test"))
    reply = next(row for row in found if row.streaming)
    assert reply.stages == ("canonical", "decode", "lexical", "fast", "leakage", "links")
    told, _, pace = reply.note.partition("; ")
    assert told == (
        "2 of data_exfiltration: flag in prose, block in tool calls, 9 of harmful_code: flag in prose, block in tool calls"
    )
    assert pace == "at most 1000 characters ahead of the model"
    unread = [row for row in found if not row.stages]
    assert {row.note for row in unread} == {"not read; each record lists it"}


def test_a_model_whose_files_are_missing_is_not_listed_as_a_stage(tmp_path: Path) -> None:
    found = matrix(check({"detection": {"models": str(tmp_path)}}, "test"))
    assert "fast" not in {stage for row in found for stage in row.stages}
    assert all("missing: encoder fast index" in row.note for row in found if row.stages)


def test_a_tenant_with_a_policy_of_its_own_has_rows_of_its_own() -> None:
    tenants = {"acme": {"policy": "monitor"}, "like": {"policy": "balanced"}}
    found = matrix(check({"policy": "balanced", "tenants": tenants}, "test"))
    assert {row.tenant for row in found} == {"", "acme"}
    assert all(row.note.startswith("reported only") for row in found if row.tenant and row.stages)


@pytest.mark.parametrize(
    ("detection", "why"),
    [
        ({"model": False}, "detection.model is false"),
        ({"encoder": False}, "detection.encoder is false"),
        ({"decode": False}, "detection.decode is false"),
        ({"models": "/nowhere"}, "the model's files are missing (detection.models)"),
    ],
)
def test_strict_is_refused_where_a_stage_could_not_act(detection: dict[str, Any], why: str) -> None:
    tenants = {"acme": {"policy": "strict"}}
    for where, policies in (("policy", {"policy": "strict"}), ("tenants.acme.policy", {"tenants": tenants})):
        with pytest.raises(SettingsError) as caught:
            live.check_policies(check({**policies, "detection": detection}, "test"))
        assert str(caught.value) == f"{where}: strict cannot be enforced: {why}; turn it on, or take balanced"


def test_an_alarm_is_refused_where_no_model_gives_a_score() -> None:
    with pytest.raises(SettingsError, match=r"^policy.alarm: 0.8 is a score of the model, and detection.model is false$"):
        live.check_policies(check({"policy": {"alarm": 0.8}, "detection": {"model": False}}, "test"))


def test_where_all_stages_act_strict_is_taken_and_the_others_always_are() -> None:
    live.check_policies(check({"policy": "strict"}, "test"))
    live.check_policies(check({"policy": "balanced", "detection": {"model": False}}, "test"))


@pytest.mark.parametrize("command", ["check", "serve"])
def test_the_refusal_ends_the_command_with_its_reason(tmp_path: Path, command: str) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text(f"policy: strict\ndetection: {{model: false}}\ndata_dir: {tmp_path}\nlisten: 127.0.0.1:{free_port()}\n")
    line = [sys.executable, "-m", "gateway", command, "--config", str(file)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "policy: strict cannot be enforced: detection.model is false" in ended.stderr


def test_a_key_whose_policy_cannot_be_enforced_is_told_so(start_gateway: StartGateway) -> None:
    gateway = start_gateway(detection={"model": False})
    with gateway.client() as client:
        for policy, why in (("strict", "detection.model is false"), ("nosuch", "is not known; wanted strict, balanced, monitor")):
            made = keystore.create(gateway.settings["state"], Role.APP, "acme", time.time(), policy=policy)
            body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}

            def post(body: object = body, token: str = made.token) -> httpx.Response:
                return client.post(CHAT, json=body, headers={"authorization": f"Bearer {token}"})

            until(lambda: post().status_code == 503)  # once the gateway knows of the key
            error = post().json()["error"]
            assert error["code"] == "policy_unenforceable"
            assert f"the key's policy is {policy}, and {why}" in error["message"]


def test_no_key_is_made_for_a_policy_that_cannot_be_enforced(start_gateway: StartGateway) -> None:
    gateway = start_gateway(detection={"model": False})
    with gateway.client() as client:
        got = client.post("/admin/v1/keys", json={"role": "app", "policy": "strict"})
        assert got.status_code == 422
        assert "policy: strict cannot be enforced: detection.model is false" in got.json()["detail"]
        got = client.post("/admin/v1/keys", json={"role": "app", "policy": "nosuch"})
        assert got.status_code == 422
        (fault,) = got.json()["detail"]
        assert (fault["loc"], fault["msg"]) == (["body", "policy"], "Input should be 'strict', 'balanced' or 'monitor'")
        assert client.get("/admin/v1/keys").json() == {"keys": []}
        assert client.post("/admin/v1/keys", json={"role": "app", "policy": "monitor"}).json()["policy"] == "monitor"


@pytest.mark.parametrize("policy", ["strict", "monitor"])
def test_no_key_is_made_on_the_command_line_for_a_policy_that_cannot_be_enforced(tmp_path: Path, policy: str) -> None:
    """It would answer every call with 503."""
    file = tmp_path / "portcullis.yaml"
    file.write_text(f"detection: {{model: false}}\ndata_dir: {tmp_path}\nstate: sqlite:{tmp_path / 'state.db'}\n")
    line = [sys.executable, "-m", "gateway", "keys", "create", "--config", str(file), "--policy", policy]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
    told = "--policy: strict cannot be enforced: detection.model is false; turn it on, or take balanced"
    assert (ended.returncode, told in ended.stderr) == ((2, True) if policy == "strict" else (0, False))
    made = [key.policy for key in keystore.every(f"sqlite:{tmp_path / 'state.db'}")]
    assert made == ([] if policy == "strict" else ["monitor"])


def test_a_preset_is_loaded_for_streams_when_a_key_names_it(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    built = live.build(check({"data_dir": str(tmp_path)}, "test"), 1, 0.0)
    assert set(built.presets) == {"strict", "balanced", "monitor"}
    strict = built.presets["strict"]
    assert built.presets["strict"] is strict, "it is bound once, for all keys that name it"
    assert "lenient" not in built.presets
    assert built.default.loaded
    assert built.presets["balanced"].loaded, "it is the configuration's"
    assert not strict.loaded
    live.prepare_streams(built, ["strict", "monitor"])
    assert strict.loaded
