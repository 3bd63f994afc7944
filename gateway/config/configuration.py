"""Reading the settings: one YAML file, and the one place that reads the environment; and writing down what they may be."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from gateway.audit.settings import AuditExport, AuditSettings
from gateway.config.settings import (
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
from gateway.learning.settings import FeedSettings, LearningSettings, WordingSettings
from gateway.sync.settings import SyncSettings
from gateway.telemetry.reporting import NotifyEmail, NotifyPagerDuty, NotifySettings, NotifySlack, NotifyWebhook, Traces

PREFIX: Final = "PORTCULLIS_"

DEFAULTS: Final = "PORTCULLIS_DEFAULTS"

COMMAND_LINE: Final = frozenset({"PORTCULLIS_CONFIG", DEFAULTS, "PORTCULLIS_URL", "PORTCULLIS_KEY"})
"""Variables of commands: which files they read, which gateway they ask, with which key. They set no key themselves."""

Variables = Mapping[tuple[str, ...], str]
"""The variables of the environment that set something, by the key they set."""


class _Loader(yaml.SafeLoader):
    """YAML in which no mapping has a key twice: the last one would act, and nobody would see that the first does not."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):  # PyYAML lets them out of such values
            said = "this is not what it looks like or is marked as; text stands in quotes"
            raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark) from None


def _parse(text: str) -> Any:
    """
    Raises:
        yaml.YAMLError: it is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from None


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration file, lay the environment over it and check all of it.

    Args:
        path: the file; None starts from nothing but defaults.
        environment: as `os.environ`; ``PORTCULLIS_LIMITS__BODY_BYTES=1024`` sets ``limits.body_bytes``, and
            ``PORTCULLIS_DEFAULTS`` names a file whose keys stand where the other leaves them out.

    Raises:
        SettingsError: a file cannot be read, or a value is wrong.
    """
    environment = os.environ if environment is None else environment
    raw: dict[str, Any] = {}
    for file in (environment.get(DEFAULTS), path):
        if file:
            raw |= _mapping(Path(file))
    variables = _overlay(raw, environment)
    return check(raw, str(path or "configuration"), variables)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        raw = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML: {_yaml_fault(error)}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: wanted a mapping of keys, as in docs/configuration.md")
    return raw


def check(raw: dict[str, Any], where: str, variables: Variables = MappingProxyType({})) -> Settings:
    """Turn a plain mapping into settings.

    Args:
        where: names the mapping in errors. variables: name what came from elsewhere.

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
        raise SettingsError("\n".join(_fault(fault, where, variables) for fault in error.errors())) from None
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


def _overlay(raw: dict[str, Any], environment: Mapping[str, str]) -> Variables:
    variables: dict[tuple[str, ...], str] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in COMMAND_LINE:
            continue
        node = raw
        steps = tuple(name[len(PREFIX) :].lower().split("__"))
        variables[steps] = name
        for parent in steps[:-1]:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                child = node[parent] = {"preset": child} if parent == "policy" else {}
            node = child
        node[steps[-1]] = _read(value)
    return variables


def _read(value: str) -> Any:
    """What a variable says: a list or a mapping is written in YAML, and nothing sets a key to nothing. All else is a text as it
    stands, of which the settings make numbers where they want some: YAML would end a password at its first `` #``."""
    text = value.strip()
    if text in ("", "null", "~"):
        return None
    if text[0] in "[{" or "\n" in text:
        with contextlib.suppress(yaml.YAMLError):
            read = _parse(text)
            return read if isinstance(read, dict | list) else value
    return value


_WANTED: Final = {
    "tuple_type": "wanted a list, as [a, b]",
    "dict_type": "wanted a mapping of keys to values",
    "string_type": "wanted text; what YAML takes for something else stands in quotes",
    "invalid_key": "wanted text as the key; what YAML takes for something else stands in quotes",
    "path_type": "wanted a path",
    **dict.fromkeys(("bool_type", "bool_parsing"), "wanted true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "wanted a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "wanted a number"),
    "missing": "is required",
    "too_short": "wanted at least one",
}
"""What is accepted, where pydantic says it in words of Python."""


def _fault(fault: Any, where: str, variables: Variables) -> str:
    """One fault for people: where it was written, the key, what was wrong, what is accepted."""
    steps = [step for step in fault["loc"] if not (isinstance(step, str) and step.startswith("function-"))]
    kind = fault["type"]
    known: Sequence[str] = ()
    if kind == "extra_forbidden":
        known = _known_keys(steps[:-1])
        near = difflib.get_close_matches(str(steps[-1]), known, 1, 0.5)
        said = "unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}")
    elif kind in ("model_type", "model_attributes_type"):
        said = f"wanted a mapping; its keys: {', '.join(_known_keys(steps))}"
    else:
        known = re.findall("'([^']+)'", fault["msg"]) if kind in ("literal_error", "enum") else []
        near = difflib.get_close_matches(str(fault["input"]), known, 1, 0.5)
        said = _WANTED.get(kind) or re.sub("^Value error, ", "", fault["msg"])
        said += f"; did you mean {near[0]!r}?" if near else ""
    key = tuple(str(step) for step in steps)
    for steps_set, name in variables.items():
        most = min(len(key), len(steps_set))
        if key[:most] == steps_set[:most]:
            where = f"${name}"
            if kind == "extra_forbidden" and any(key[-1].startswith(f"{section}_") for section in known):
                said = f"unknown key; two underscores stand between a section and its key, as in {PREFIX}LIMITS__IN_FLIGHT"
    return f"{where}: {'.'.join(key)}: {said}"


def _known_keys(steps: Sequence[Any]) -> list[str]:
    """The keys that are known at a place, found by walking the models along the steps."""
    model: type[BaseModel] = Settings
    for step in steps:
        if step in model.model_fields:
            model = next(_models(model.model_fields[step].annotation), model)
    return sorted(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of: its own, its items', its values'."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _yaml_fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def document() -> str:
    """The configuration's documentation, ``docs/configuration.md``, as the models tell it."""
    lines = [
        "# Configuration", "",
        "One YAML file, `portcullis.yaml` (or `--config FILE`, or `$PORTCULLIS_CONFIG`). The environment can override every",
        "key: `PORTCULLIS_LIMITS__BODY_BYTES=1024` sets `limits.body_bytes`; lists and mappings are written there in YAML, all",
        "else as it is. Unknown keys are refused, and so is a key that stands twice. A changed file is taken on SIGHUP or",
        "within two seconds, and so is one that it names for a provider's key, certificates or packs (`file:PATH`, `ca_file`,",
        "`patterns`); a broken one is refused and the old one serves on. `portcullis check` validates.", "",
        "`$PORTCULLIS_DEFAULTS` names a file of the same form, whose top-level keys stand where yours leaves them out: the",
        "image has one, for `listen`, `data_dir` and `state`.", "",
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
            choices = [f"`{choice}`" for choice in _choices(field.annotation)]
            told = all(choice in (field.description or "") for choice in choices)
            among = "" if told else f" One of {', '.join(choices)}."
            lines.append(f"| `{name}` | {default} | {field.description}{among} |")
        lines.append("")
    return "\n".join(lines)


def _choices(annotation: Any) -> list[str]:
    """What a value may be, where that is one of a few words."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(choice.value) for choice in annotation]
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation) if choice]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


def _shown_default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see there"
    if isinstance(value, SecretStr):  # one that ships is none
        value = value.get_secret_value()
    return "none" if value in (None, (), {}, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _policy(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value
