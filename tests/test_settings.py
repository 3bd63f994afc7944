"""Settings: the file, the environment over it, and errors that name the key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from gateway.config import configuration
from gateway.config.settings import SettingsError, Stage
from gateway.telemetry.metrics import FAIL_OPEN_STAGES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstream: {}", "upstream: unknown key; did you mean 'upstreams'?"),
        ("policy: stirct", "policy.preset: Input should be 'strict', 'balanced' or 'monitor'; did you mean 'strict'?"),
        ("upstreams: {openia: {}}", "upstreams.openia.[key]: Input should be 'openai', 'anthropic' or 'gemini'; did you mean 'openai'?"),
        ("limits: {body_byte: 3}", "limits.body_byte: unknown key; did you mean 'body_bytes'?"),
        ("listen: 8080", "listen"),
        ("open: maybe", "open: wanted true or false"),
        ("limits: {in_flight: many}", "limits.in_flight: wanted a whole number"),
        ("limits: {in_flight: 1.5}", "limits.in_flight: wanted a whole number"),
        ("limits: {drain_seconds: long}", "limits.drain_seconds: wanted a number"),
        ("state: mysql://x", "state: wanted sqlite:PATH"),
        ("upstreams: {openai: {base_url: 'ftp://x'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x:99999'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x:y/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://a b/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://a:b@x/v1'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x/v1?a=b'}}", "upstreams.openai.base_url: wanted http(s)://"),
        ("upstreams: {openai: {base_url: 'http://x..example/v1'}}", "upstreams.openai.base_url: wanted a host's name"),
        ('upstreams: {openai: {base_url: "http://x", api_key: "a\\nb: c"}}', "upstreams.openai.api_key: wanted a key in visible ASCII"),
        ("upstreams: {openai: {base_url: 'https://x', ca_file: /dev/null}}", "upstreams.openai.ca_file: wanted a file of certificates"),
        ("upstreams: {openai: {base_url: 'http://x', api_key: k, fallbacks: [{base_url: 'http://y', api_key: caller}]}}",
         "upstreams.openai: a fallback's api_key may be caller where"),
        ("policy: {failure: {lexcal: open}}", "did you mean 'lexical'?"),
        ("upstreams: {openai: {base_url: 'http://x', api_key: 'env:NO_SUCH_NAME'}}", "NO_SUCH_NAME is not set"),
        ("upstreams: {openai: {base_url: 'http://x', api_key: $OPENAI_API_KEY}}",
         "upstreams.openai.api_key: no shell reads this; did you mean env:OPENAI_API_KEY?"),
        ("upstreams: {openai: {base_url: 'http://x', fallbacks: [{base_url: 'http://y', api_key: '${OTHER}'}]}}",
         "upstreams.openai.fallbacks.0.api_key: no shell reads this; did you mean env:OTHER?"),
        ("policy: {rules: [{action: block, category: pii.nothing}]}", "unknown subcategory"),
        ("[1, 2]", "wanted a mapping"),
        ("a: [", "is not YAML: line"),
        ("open: true\nlisten: 2026-99-99", "is not YAML: line 2, column 9: this is not what it looks like or is marked as"),
        (f"limits: {{drain_seconds: 1{':00' * 400}.5}}", "is not YAML: line 1, column 25: this is not what it looks like"),
        ("limits: {in_flight: 0x_}", "is not YAML: line 1, column 21: this is not what it looks like"),
        (f"limits: {{in_flight: {'9' * 5000}}}", "is not YAML: line 1, column 21: this is not what it looks like"),
        ('limits: {in_flight: !!int ""}', "is not YAML: line 1, column 21: this is not what it looks like"),
        ("open: !!bool perhaps", "is not YAML: line 1, column 7: this is not what it looks like"),
        ("listen: !!timestamp now", "is not YAML: line 1, column 9: this is not what it looks like"),
        ("listen: " + "[" * 900, "is not YAML: it is nested too deeply"),
        ("policy: strict\nopen: true\npolicy: monitor", "is not YAML: line 3, column 1: the key 'policy' stands twice"),
        ("policy: {consensus: {replica: 3}}", "policy.consensus.replica: unknown key; did you mean 'replicas'?"),
        ("tenants: {shop: strict}", "tenants.shop: wanted a mapping; its keys: key_rate_limits, policy, rate_limits"),
        ("tenants: {'My Shop': {}}", "tenants.My Shop.[key]: tenant: got 'My Shop'; wanted 1 to 63 of a-z"),
        ("patterns: my.yaml", "patterns: wanted a list"),
        ("listen: '::1:8080'", "listen: wanted host:port, for example 127.0.0.1:8080 or [::]:8080"),
        ("listen: 'http://127.0.0.1:80'", "listen: wanted host:port"),
        ("listen: '[::1'", "listen: wanted host:port"),
        ("secret: ''", "secret: wanted a secret, and this is empty"),
        ("secret: 'file:/dev/null'", "secret: the file is empty"),
        ("secret: 'file:/nowhere'", "secret: the file /nowhere cannot be read: No such file or directory"),
        ("secret: hunter2", "secret: wanted at least 16 characters that nobody can guess"),
        ("state: 'rediss://a?ssl_ca_certs=/nowhere'", "state: ssl_ca_certs: wanted a file of certificates (PEM) that can be read"),
        ("state: 'rediss://a?ssl_ca_certs=/dev/null'", "state: ssl_ca_certs: wanted a file of certificates"),
        ("state: 'rediss://a?ssl_certfile=/nowhere'", "state: ssl_certfile, ssl_keyfile: wanted a certificate and its key"),
        ("state: 'rediss://a?ssl_keyfile=/nowhere'", "state: ssl_keyfile: the certificate is missing"),
        ("allowed_hosts: ['gateway.example:8080']", "allowed_hosts.0: wanted a host's name without a port"),
        ("audit: {exports: [{name: a, to: 'file:/x'}, {name: a, to: 'file:/y'}]}", "audit: two exports are named 'a'"),
        ("audit: {enabled: false, exports: [{name: a, to: 'file:/x'}]}", "audit: exports send what the log holds"),
        ("audit: {exports: [{name: a, to: 'tls://x:1', ca_file: /nowhere}]}", "audit.exports.0.ca_file: wanted a file of certificates"),
        ("learning: {feeds: [{name: a, source: 'file:/x'}, {name: a, source: 'file:/y'}]}", "learning: two feeds are named 'a'"),
        ("learning: {trusted_keys: [x]}", "learning.trusted_keys.0: got 'x'; wanted ed25519:"),
        ("sync: {advertise: elsewhere}", "sync.advertise: wanted host:port"),
        ("sync: {peers: ['a:7443', 'a..b:7443']}", "sync.peers.1: wanted a host's name whose parts"),
        ("sync: {listen: '[::1:7443'}", "sync.listen: wanted host:port, for example gateway-1.example.org:7443 or [::1]:7443"),
        ("sync: {discover: 'http://a:7443'}", "sync.discover: wanted host:port"),
        ("notify: {email: {server: 'mail..example:587', sender: a@b, to: [a@b]}}", "notify.email.server: wanted a host's name"),
        ("notify: {email: {server: 'a b:587', sender: a@b, to: [a@b]}}",
         "notify.email.server: wanted host:port, for example mail.example.org:587"),
        ("notify: {email: {server: 'mail.example:²', sender: a@b, to: [a@b]}}", "notify.email.server: wanted host:port"),
        ("learning: {feeds: [{name: a, source: 'https://a..b/x'}]}", "learning.feeds.0.source: wanted a host's name"),
        ("learning: {feeds: [{name: a, source: 'https://'}]}", "learning.feeds.0.source: wanted http(s)://host"),
        ("learning: {feeds: [{name: a, source: 'https://a:99999/x'}]}", "learning.feeds.0.source: wanted http(s)://host"),
        ("[]", "wanted a mapping of keys"),
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


@pytest.mark.parametrize("host", ["10.0.0.7", "localhost", "[::1]", "::1", "fe80::1%eth0", "mail", "a_b.svc.", "bücher.example"])
def test_an_address_of_a_mail_server_and_of_a_peer(host: str) -> None:
    email = {"server": f"{host}:25", "sender": "a@b", "to": ["a@b"]}
    chosen = configuration.check({"notify": {"email": email}, "sync": {"peers": [f"{host}:25"]}}, "x")
    assert chosen.notify is not None
    assert chosen.notify.email is not None
    assert (chosen.notify.email.server, chosen.sync.peers) == (f"{host}:25", (f"{host}:25",))


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


def test_a_variable_says_what_it_says(tmp_path: Path) -> None:
    """YAML would make a number of one key and a mapping of another, and end a third at its mark of a comment."""
    for key in ("1234567890123456", "sk-one #two", "a: b", "'quoted'", "yes", "[x", "*x", "0x1f"):
        environment = {"PORTCULLIS_NOTIFY__PAGERDUTY__ROUTING_KEY": key}
        notify = configuration.load(None, environment).notify
        assert notify is not None
        assert notify.pagerduty is not None
        assert notify.pagerduty.routing_key.get_secret_value() == key
    environment = {
        "PORTCULLIS_RETENTION__TEXT": "off", "PORTCULLIS_OPEN": "true", "PORTCULLIS_LIMITS__DRAIN_SECONDS": "2.5",
        "PORTCULLIS_UPSTREAMS__OPENAI__BASE_URL": "echo:", "PORTCULLIS_PATTERNS": "[a.yaml, b.yaml]",
        "PORTCULLIS_POLICY": "{preset: strict, canary: true}", "PORTCULLIS_TENANTS": "shop:\n  policy: monitor\n",
        "PORTCULLIS_SECRET": "", "PORTCULLIS_LEARNING__WORDING": "null",
    }  # fmt: skip
    chosen = configuration.load(None, environment)
    assert (chosen.open, chosen.limits.drain_seconds, chosen.upstreams["openai"].base_url) == (True, 2.5, "echo:")
    assert chosen.patterns == (Path("a.yaml"), Path("b.yaml"))
    assert (chosen.policy.preset, chosen.policy.canary, chosen.tenants["shop"].policy.preset) == ("strict", True, "monitor")
    assert chosen.secret is chosen.learning.wording is None


def test_the_image_sets_what_a_file_leaves_out_and_nothing_more(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    variables = set(re.findall(r"\b(PORTCULLIS_\w+)=", (root / "Dockerfile").read_text().rpartition("\nFROM ")[2]))
    assert variables == {configuration.DEFAULTS}, "any other would go before the file"
    image = {configuration.DEFAULTS: str(root / "image/defaults.yaml")}
    alone = configuration.load(None, image)
    folder = "/var/lib/portcullis"
    assert (alone.listen, str(alone.data_dir), alone.state) == ("0.0.0.0:8080", folder, f"sqlite:{folder}/portcullis.db")
    file = tmp_path / "portcullis.yaml"
    file.write_text("state: redis://redis:6379/0\nlisten: 0.0.0.0:9090\n")
    mounted = configuration.load(file, image)
    assert (mounted.listen, str(mounted.data_dir), mounted.state) == ("0.0.0.0:9090", folder, "redis://redis:6379/0")
    assert configuration.load(file, {**image, "PORTCULLIS_LISTEN": "[::]:1"}).listen == "[::]:1"
    with pytest.raises(SettingsError, match="nowhere: cannot be read"):
        configuration.load(file, {configuration.DEFAULTS: "nowhere"})


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text("polcy: strict\n")
    with pytest.raises(SettingsError) as caught:
        configuration.load(file, {"PORTCULLIS_SERVICE_HOST": "10.0.0.1", "PORTCULLIS_LIMITS__IN_FLIGHT": "many"})
    [limit, policy, host] = sorted(str(caught.value).splitlines())
    assert limit.startswith("$PORTCULLIS_LIMITS__IN_FLIGHT: limits.in_flight: wanted a whole number")
    assert policy.startswith("$PORTCULLIS_SERVICE_HOST: service_host: unknown key")
    assert host == f"{file}: polcy: unknown key; did you mean 'policy'?"
    with pytest.raises(SettingsError, match=r"^\$PORTCULLIS_LIMITS_IN_FLIGHT: .*two underscores .* PORTCULLIS_LIMITS__IN_FLIGHT$"):
        configuration.load(None, {"PORTCULLIS_LIMITS_IN_FLIGHT": "9"})
    with pytest.raises(SettingsError, match="two underscores"):
        configuration.load(None, {"PORTCULLIS_UPSTREAMS__OPENAI__TIMEOUTS_CONNECT": "9"})
    with pytest.raises(SettingsError, match=r"^\$PORTCULLIS_LIMITS: limits: wanted a mapping"):
        configuration.load(None, {"PORTCULLIS_LIMITS": "{in_flight: 0x_}"})


def test_values_as_the_documentation_has_them() -> None:
    assert configuration.load(None, {}).retention.text == "off"
    for text in ("off", "'off'"):
        assert configuration.check(yaml.safe_load(f"retention: {{text: {text}}}"), "x").retention.text == "off"
    hosts = configuration.check({"allowed_hosts": ["Gateway.Example", "[::1]", "my_gateway"]}, "x").allowed_hosts
    assert hosts == ("gateway.example", "::1", "my_gateway")


def test_a_mapping_that_is_merged_into_another_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text("tenants:\n  a: &a\n    rate_limits: &r {requests_per_minute: 1}\n"
                    "  b: {<<: *a, rate_limits: {<<: *r, requests_per_minute: 2}}\n")
    limits = [tenant.rate_limits for tenant in configuration.load(file, {}).tenants.values()]
    assert [limit and limit.requests_per_minute for limit in limits] == [1, 2]


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
