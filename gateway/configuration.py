"""Reading the settings: one YAML file, and the one place that reads the environment; and writing down what they may be."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from gateway.learning.settings import FeedSettings, LearningSettings, WordingSettings
from gateway.reporting import NotifyEmail, NotifyPagerDuty, NotifySettings, NotifySlack, NotifyWebhook, Traces
from gateway.settings import (
    AuditExport,
    AuditSettings,
    ConsensusSettings,
    Detection,
    Limits,
    Override,
    PolicySettings,
    RateLimits,
    RealtimeSettings,
    Retention,
    Settings,
    SettingsError,
    Target,
    TenantSettings,
    Timeouts,
    Upstream,
)  # fmt: skip
from gateway.sync.settings import SyncSettings

PREFIX: Final = "PORTCULLIS_"


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration file, lay the environment over it and check all of it.

    Args:
        path: the file; None starts from nothing but defaults.
        environment: as `os.environ`; ``PORTCULLIS_LIMITS__BODY_BYTES=1024`` sets ``limits.body_bytes``.

    Raises:
        SettingsError: the file cannot be read, or a value in it is wrong.
    """
    raw: Any = {}
    if path is not None:
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path}: is not UTF-8") from None
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not YAML: {_yaml_fault(error)}") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: wanted a mapping of keys, as in docs/configuration.md")
    _overlay(raw, os.environ if environment is None else environment)
    return check(raw, str(path or "configuration"))


def check(raw: dict[str, Any], where: str) -> Settings:
    """Turn a plain mapping into settings.

    Raises:
        SettingsError: as `load`.
    """
    raw = dict(raw)
    if "policy" in raw:
        raw["policy"] = _policy(raw["policy"])
    if isinstance(tenants := raw.get("tenants"), dict):
        raw["tenants"] = {
            name: {**tenant, "policy": _policy(tenant["policy"])} if isinstance(tenant, dict) and "policy" in tenant
            else tenant
            for name, tenant in tenants.items()
        }  # fmt: skip
    try:
        found = Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{where}: {_fault(fault)}" for fault in error.errors())) from None
    if why := _unasked(found):
        raise SettingsError(f"{where}: learning.wording.upstream: {why}")
    return found


def _unasked(settings: Settings) -> str:
    """Why the model that is to word reflections could not be asked; empty where it can be."""
    wording = settings.learning.wording
    if wording is None or not settings.upstreams:
        return ""
    upstream = settings.upstreams.get(wording.upstream)
    if upstream is None:
        return f"{wording.upstream} is not among upstreams"
    if upstream.api_key is not None and upstream.api_key.get_secret_value() == "caller":
        return f"{wording.upstream} is used with the callers' keys, and a reflection has no caller"
    return ""


def _overlay(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name == PREFIX + "CONFIG":
            continue
        node = raw
        *parents, last = name[len(PREFIX) :].lower().split("__")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                child = node[parent] = {"preset": child} if parent == "policy" else {}
            node = child
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            node[last] = value


def _fault(fault: Any) -> str:
    steps = [step for step in fault["loc"] if not (isinstance(step, str) and step.startswith("function-"))]
    key = ".".join(str(step) for step in steps)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(steps[:-1])
        near = difflib.get_close_matches(str(steps[-1]), known, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    known = re.findall("'([^']+)'", fault["msg"]) if fault["type"] in ("literal_error", "enum") else []
    near = difflib.get_close_matches(str(fault["input"]), known, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{key}: {re.sub('^Value error, ', '', fault['msg'])}{hint}"


def _known_keys(steps: list[Any]) -> list[str]:
    """The keys that are known at a place, found by walking the models along the steps."""
    model: type[BaseModel] = Settings
    models: dict[str, type[BaseModel]] = {
        "timeouts": Timeouts, "policy": PolicySettings, "limits": Limits, "realtime": RealtimeSettings, "retention": Retention,
        "sync": SyncSettings, "traces": Traces, "detection": Detection, "notify": NotifySettings, "webhook": NotifyWebhook,
        "slack": NotifySlack, "pagerduty": NotifyPagerDuty, "email": NotifyEmail,
        "learning": LearningSettings, "feeds": FeedSettings, "wording": WordingSettings,
        "upstreams": Upstream, "tenants": TenantSettings, "rate_limits": RateLimits, "key_rate_limits": RateLimits,
         "rules": Override, "fallbacks": Target,
        "audit": AuditSettings, "exports": AuditExport,
    }  # fmt: skip
    for step in steps:
        model = models.get(step, model) if isinstance(step, str) else model
    return sorted(model.model_fields)


def _yaml_fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def document() -> str:
    """The configuration's documentation, ``docs/configuration.md``, as the models tell it."""
    lines = [
        "# Configuration", "",
        "One YAML file, `portcullis.yaml` (or `--config FILE`, or `$PORTCULLIS_CONFIG`). The environment can override every",
        "key: `PORTCULLIS_LIMITS__BODY_BYTES=1024` sets `limits.body_bytes`. Unknown keys are refused. A changed file is taken",
        "on SIGHUP or within two seconds; a broken one is refused and the old one serves on. `portcullis check` validates.", "",
    ]  # fmt: skip
    for title, model in (
        ("Top level", Settings), ("policy, and tenants.NAME.policy", PolicySettings),
        ("policy.consensus", ConsensusSettings), ("policy.rules", Override),
        ("upstreams.openai | anthropic | gemini", Upstream), ("upstreams.X.fallbacks", Target),
        ("upstreams.X.timeouts", Timeouts), ("tenants.NAME", TenantSettings),
        ("tenants.NAME.rate_limits and key_rate_limits", RateLimits), ("detection", Detection),
        ("limits", Limits), ("realtime", RealtimeSettings), ("retention", Retention),
        ("sync", SyncSettings),
        ("audit", AuditSettings), ("audit.exports", AuditExport),
        ("traces", Traces), ("notify", NotifySettings), ("notify.webhook", NotifyWebhook), ("notify.slack", NotifySlack),
        ("notify.pagerduty", NotifyPagerDuty), ("notify.email", NotifyEmail),
        ("learning", LearningSettings), ("learning.feeds", FeedSettings),
        ("learning.wording", WordingSettings),
    ):  # fmt: skip
        lines += [f"## {title}", "", (model.__doc__ or "").strip(), "", "| key | default | what |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else _shown_default(field.default)
            lines.append(f"| `{name}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _shown_default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see there"
    return "none" if value in (None, (), {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _policy(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value
