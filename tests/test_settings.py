"""Settings: the file, the environment over it, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gateway import configuration
from gateway.metrics import FAIL_OPEN_STAGES
from gateway.settings import SettingsError, Stage


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstream: {}", "upstream: unknown key; did you mean 'upstreams'?"),
        ("policy: stirct", "policy.preset: Input should be 'strict', 'balanced' or 'monitor'; did you mean 'strict'?"),
        ("upstreams: {openia: {}}", "upstreams.openia.[key]: Input should be 'openai', 'anthropic' or 'gemini'; did you mean 'openai'?"),
        ("limits: {body_byte: 3}", "limits.body_byte: unknown key; did you mean 'body_bytes'?"),
        ("listen: 8080", "listen"),
        ("state: mysql://x", "state: wanted sqlite:PATH"),
        ("upstreams: {openai: {base_url: 'ftp://x'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x:99999'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x:y/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://a b/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://a:b@x/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x/v1?a=b'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ('upstreams: {openai: {base_url: "http://x", api_key: "a\\nb: c"}}', "upstreams.openai.api_key: wanted a key in visible ASCII"),
        ("upstreams: {openai: {base_url: 'https://x', ca_file: /dev/null}}", "upstreams.openai.ca_file: wanted a file of certificates"),
        ("upstreams: {openai: {base_url: 'http://x', api_key: k, fallbacks: [{base_url: 'http://y', api_key: caller}]}}",
         "upstreams.openai: a fallback's api_key may be caller where"),
        ("policy: {failure: {lexcal: open}}", "did you mean 'lexical'?"),
        ("upstreams: {openai: {base_url: 'http://x', api_key: 'env:NO_SUCH_NAME'}}", "NO_SUCH_NAME is not set"),
        ("policy: {rules: [{action: block, category: pii.nothing}]}", "unknown subcategory"),
        ("[1, 2]", "wanted a mapping"),
        ("a: [", "is not YAML: line"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        configuration.load(file, {})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "https://api.openai.com/v1/", "http://[::1]:8080", "https://bücher.example/a%20b", "echo:"]
)
def test_an_address_of_an_upstream(url: str) -> None:
    assert configuration.check({"upstreams": {"openai": {"base_url": url}}}, "x").upstreams["openai"].base_url == url.rstrip("/")


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text("limits: {body_bytes: 4096}\npolicy: balanced\n")
    environment = {
        "PORTCULLIS_LIMITS__BODY_BYTES": "2048",
        "PORTCULLIS_POLICY__PRESET": "strict",
        "PORTCULLIS_UPSTREAMS__OPENAI__BASE_URL": "http://127.0.0.1:1/v1",
        "OTHER": "x",
    }
    chosen = configuration.load(file, environment)
    assert chosen.limits.body_bytes == 2048
    assert chosen.policy.preset == "strict"
    assert chosen.upstreams["openai"].base_url == "http://127.0.0.1:1/v1"


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("very-secret-key\n")
    raw = {"upstreams": {"openai": {"base_url": "http://x/v1", "api_key": f"file:{key}"}}}
    chosen = configuration.check(raw, "test")
    api_key = chosen.upstreams["openai"].api_key
    assert api_key is not None
    assert api_key.get_secret_value() == "very-secret-key"
    assert "very-secret" not in repr(chosen) + str(chosen)


def test_every_key_is_documented() -> None:
    documented = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    assert documented == configuration.document()


def test_every_stage_that_may_be_left_open_is_counted_from_zero() -> None:
    assert get_args(Stage) == (*FAIL_OPEN_STAGES, "*")
