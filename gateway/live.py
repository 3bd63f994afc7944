"""What a worker serves with right now: settings, compiled patterns, policies. Immutable; a reload builds another one aside."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from detectors import cost
from detectors.engine import Engine
from detectors.lexical import SCORES
from detectors.probe import prepare
from detectors.semantic.judge import MODELS, ModelMissing, SemanticModel
from detectors.streamrules import Act, StreamRules
from detectors.streamrules import load as load_rules
from detectors.streamrules import prepare as prepare_rules
from detectors.values import ChannelKind, Origin, Skipped
from gateway.config.settings import Detection, PolicySettings, Settings, SettingsError
from gateway.faults import OwnFault
from gateway.learning.storage import check_packs
from gateway.redaction.links import Hosts
from gateway.screening.policy import MODEL_STAGES, PRESETS, Action, Consensus, Direction, Policy, Rule, Thresholds, preset
from patterns import cache as caching
from patterns import packs
from patterns.schema import WATCHING, Pattern, PatternError, Severity, State

_log = logging.getLogger(__name__)


class Bound(NamedTuple):
    """The policy that acts on a tenant's traffic, its patterns made ready for streams, and the policy judged beside it.

    ``streams`` lacks a channel in which the policy acts on nothing.
    """

    policy: Policy
    shadow: Policy | None
    streams: Mapping[ChannelKind, StreamRules]

    @property
    def loaded(self) -> bool:
        """Whether streams can begin at once: a preset that only a key may name is loaded when one does."""
        return all(rules.loaded for rules in self.streams.values())

    def load(self) -> None:
        """Raises and costs: as `StreamRules.load`."""
        for rules in self.streams.values():
            rules.load()

    @property
    def late(self) -> list[str]:
        """The patterns that a stream is not held for, and that are told when it is over."""
        return sorted({name for rules in self.streams.values() for name in rules.late})


class Presets(Mapping[str, Bound]):
    """The presets that a key may name, each bound when the first one does: few gateways have such a key, and to bind them all
    is a tenth of a start."""

    def __init__(self, names: Iterable[str], bind: Callable[[str], Bound]) -> None:
        self._bind = bind
        self._bound: dict[str, Bound | None] = dict.fromkeys(names)
        self._binding = threading.Lock()

    def __getitem__(self, name: str) -> Bound:
        with self._binding:
            bound = self._bound[name]
            if bound is None:
                bound = self._bound[name] = self._bind(name)
            return bound

    def __contains__(self, name: object) -> bool:
        return name in self._bound

    def __iter__(self) -> Iterator[str]:
        return iter(self._bound)

    def __len__(self) -> int:
        return len(self._bound)


@dataclass(frozen=True, slots=True)
class Live:
    """Everything that a request keeps from its beginning to its end."""

    settings: Settings
    engine: Engine
    default: Bound
    tenants: Mapping[str, Bound]
    presets: Presets
    packs: Engine
    """Judges by the packs alone: what the pattern store is laid over."""
    cached: frozenset[Path]
    """The files of the cache that it was built from."""
    left_out: Mapping[Pattern, str]
    """The patterns of the store that do not act, since they cannot be compiled here, and why."""

    def bound(self, tenant: str, policy: str | None) -> Bound:
        """The policies for a caller; ``policy`` is the preset that the caller's key names, if it names one.

        Raises:
            OwnFault: that one demands a stage that is turned off or missing, or is not known.
        """
        if policy is not None:
            if policy not in self.presets:
                why = unenforced(policy, self.settings.detection) or f"is not known; wanted {', '.join(PRESETS)}"
                raise OwnFault(503, "policy_unenforceable", f"the key's policy is {policy}, and {why}")
            return self.presets[policy]
        return self.tenants.get(tenant, self.default)


MOST_LEFT_OUT: Final = 100
"""Patterns of the store that may be left out: each costs an attempt to compile what is new, once."""

_EMPTY: Final[Mapping[str, Pattern]] = MappingProxyType({})


def build(settings: Settings, number: int, now: float, store: Mapping[str, Pattern] = _EMPTY) -> Live:
    """Compile settings and patterns into something that can serve.

    Args:
        number: the generation's number. now: UNIX seconds.
        store: the pattern store's patterns, which lie over those of the packs.

    Raises:
        PatternError: a pack is broken, or nothing is left to match with.
        SettingsError: a policy is ``strict``, and a stage that it demands is turned off or missing.
    """
    with caching.uses() as used:
        return replace(_build(settings, number, now, store), cached=frozenset(used))


def _build(settings: Settings, number: int, now: float, store: Mapping[str, Pattern]) -> Live:
    cache = settings.data_dir / "cache"
    check_policies(settings)
    engine = load_engine(settings, number, now)
    patterns = engine.generation.patterns
    thresholds = engine.thresholds
    made: dict[object, StreamRules] = {}

    def bound(wanted: PolicySettings) -> Bound:
        policy, shadow = bind(wanted, thresholds)
        return Bound(policy, shadow, stream_rules(patterns, policy, cache, made))

    default = bound(settings.policy)
    tenants = {name: bound(one.policy) for name, one in settings.tenants.items()}
    load_rules(made.values(), cache)  # those of the presets, below, when somebody's key names one
    together, left_out = _laid_over(engine, store, number, now, cache) if store else (engine, {})
    return Live(
        settings,
        together,
        default,
        tenants,
        Presets(
            (name for name in PRESETS if not unenforced(name, settings.detection)),
            lambda name: bound(PolicySettings(preset=name)),
        ),
        engine,
        frozenset(),
        left_out,
    )


def renew(live: Live, number: int, now: float, store: Mapping[str, Pattern]) -> Live:
    """The same settings and packs under what the pattern store holds now. Arguments and errors as `build`.

    What streams are cut by stays as it was built: the packs' patterns alone.
    """
    engine, left_out = _laid_over(live.packs, store, number, now, live.settings.data_dir / "cache", live)
    return replace(live, engine=engine, left_out=left_out)


def _laid_over(
    packs: Engine, store: Mapping[str, Pattern], number: int, now: float, cache: Path, live: Live | None = None
) -> tuple[Engine, dict[Pattern, str]]:
    """The packs' patterns with those of the store over them that can be compiled here and hold no worker, and the others:
    another replica's Hyperscan may have taken what ours does not, a replica may be hostile, and one pattern must keep neither
    others nor a rollback from acting.

    Raises:
        PatternError: those others are more than `MOST_LEFT_OUT`.
    """
    known = {} if live is None else live.left_out
    left_out = {pattern: known[pattern] for pattern in store.values() if pattern in known} if known else {}
    _leave_dear_out(store, left_out, live, cache)
    while True:
        over = {id: pattern for id, pattern in store.items() if pattern not in left_out} if left_out else store
        try:
            return packs.renewed(over, number, now, live.engine if live else None), left_out
        except PatternError as error:
            pattern = over.get(str(error).partition(":")[0])
            if pattern is None or len(left_out) >= MOST_LEFT_OUT:
                raise
            _leave_out(pattern, str(error), left_out)


def _leave_dear_out(store: Mapping[str, Pattern], left_out: dict[Pattern, str], live: Live | None, cache: Path) -> None:
    """Those that take Python's engine too long; what acted before was tried before.

    Raises:
        PatternError: with ``left_out`` they are more than `MOST_LEFT_OUT`.
    """
    tried = set(map(id, live.engine.generation.patterns)) if live else set()
    fresh = [one for one in store.values() if one.state in WATCHING and id(one) not in tried and one not in left_out]
    for pattern in cost.dear(fresh, cache, MOST_LEFT_OUT + 1 - len(left_out)):
        why = f"{pattern.id}: {cost.TOO_LONG}"
        if len(left_out) >= MOST_LEFT_OUT:
            raise PatternError(why)
        _leave_out(pattern, why, left_out)


def _leave_out(pattern: Pattern, why: str, left_out: dict[Pattern, str]) -> None:
    left_out[pattern] = why
    _log.error("a pattern of the store does not act here: %s", why)


def prepare_streams(live: Live, named: Collection[str] = ()) -> None:
    """Make ready what streams would else make at its first use, under the configuration's policies and the presets ``named``;
    takes seconds once, for a preset whose automata are not in the cache many, and then a tenth of one.

    Raises:
        PatternError: Hyperscan cannot take what a preset that is named follows streams by.
    """
    bound = [live.default, *live.tenants.values(), *(live.presets[name] for name in named if name in live.presets)]
    rules = {id(rules): rules for one in bound for rules in one.streams.values()}
    cache = live.settings.data_dir / "cache"
    load_rules(rules.values(), cache)
    prepare_rules(rules.values(), cache)


def let_go(old: list[Live]) -> None:
    """Drop the only reference in ``old``, so that what nobody else refers to is freed piece by piece: ten thousand patterns
    and forty thousand verdicts that go at once keep all threads waiting for as many microseconds."""
    pieces = old.pop().engine.pieces
    while pieces:
        pieces.pop()


def stream_rules(
    patterns: Sequence[Pattern],
    policy: Policy,
    cache: Path,
    made: dict[object, StreamRules] | None = None,
    channels: Iterable[ChannelKind] = ChannelKind,
) -> dict[ChannelKind, StreamRules]:
    """What a policy does to a model's own words as they stream, by channel; one in which it acts on none of them is left out.

    ``made`` holds those of other policies, and gets this one's: what acts alike is shared, for it is large.
    """

    made = {} if made is None else made
    found = {}
    # Of ten thousand patterns, few differ in what a policy asks.
    kinds = dict.fromkeys((one.category, one.severity) for one in patterns if one.state is State.ACTIVE)
    for channel in channels if policy.acts else ():
        asked = {
            (category, severity): policy.action(category, SCORES[severity], Origin.ASSISTANT, Direction.REPLY, channel=channel)
            for category, severity in kinds
        }
        acts = {kind: _STREAM_ACTS[action] for kind, action in asked.items() if action in _STREAM_ACTS}
        if acts:
            key = (tuple(acts.items()), policy.waits)
            if key not in made:
                made[key] = StreamRules(patterns, functools.partial(_act, acts), cache, policy.waits)
            found[channel] = made[key]
    return found


def _act(acts: Mapping[tuple[str, Severity], Act], pattern: Pattern) -> Act | None:
    return acts.get((pattern.category, pattern.severity)) if pattern.state is State.ACTIVE else None


_STREAM_ACTS: Final = {Action.BLOCK: Act.CUT, Action.REDACT: Act.REPLACE}


def check_policies(settings: Settings) -> None:
    """Refuse a configuration whose policies could not be held: ``strict`` as `unenforced` says, an alarm without the model,
    a consensus without replicas.

    Raises:
        SettingsError: names the policy and what is missing.
    """
    policies = {"policy": settings.policy, **{f"tenants.{name}.policy": one.policy for name, one in settings.tenants.items()}}
    for where, policy in policies.items():
        if why := unenforced(policy.preset, settings.detection):
            raise SettingsError(f"{where}: {policy.preset} cannot be enforced: {why}; turn it on, or take balanced")
        if policy.alarm is not None and not settings.detection.model:
            raise SettingsError(f"{where}.alarm: {policy.alarm} is a score of the model, and detection.model is false")
        if policy.consensus is not None and settings.sync.listen is None:
            raise SettingsError(f"{where}.consensus: other replicas are asked over pattern sync, and sync.listen is not set")


def unenforced(preset: str, chosen: Detection) -> str:
    """Why a preset could not be enforced on every route; empty where it can be.

    ``strict`` promises that every text is judged by every stage. The others say in each record what did not run.
    """
    if preset != "strict":
        return ""
    off = [key for key in ("decode", "model", "encoder") if not getattr(chosen, key)]
    if off:
        return f"detection.{off[0]} is false"
    return "the model's files are missing (detection.models)" if load_model(chosen)[1] else ""


def load_engine(settings: Settings, number: int, now: float) -> Engine:
    """The stages that the settings turn on, over the patterns that they name. Raises and arguments: as `build`."""
    chosen = settings.detection
    cache = settings.data_dir / "cache"
    prepare(cache)
    model, absent = load_model(chosen)
    checked = check_packs(settings)
    return Engine.load(
        load_patterns(settings.patterns, cache, checked, tries=True), number, now, cache, model, absent,
        decodes=chosen.decode, deep=chosen.encoder, windows=chosen.windows,
    )  # fmt: skip


def load_model(chosen: Detection) -> tuple[SemanticModel | None, tuple[Skipped, ...]]:
    """The model that the settings ask for; where its files are missing, none, and what verdicts say of that."""
    if not chosen.model:
        return None, ()
    try:
        return _model(chosen.models or MODELS), ()
    except ModelMissing as error:
        _log.error("the model is missing, and verdicts will say so: %s", error)
        return None, tuple(Skipped(stage, "missing") for stage in sorted(MODEL_STAGES))


@functools.cache
def _model(folder: Path) -> SemanticModel:
    """Loaded once: a reload of the configuration, and a worker forked from this process, share it."""
    return SemanticModel.load(folder)


def load_patterns(
    extra: tuple[Path, ...], cache: Path | None = None, checked: Mapping[Path, str] | None = None, *, tries: bool = False
) -> list[Pattern]:
    """The shipped packs and those of the configuration; arguments and errors as `packs.load_each`.

    ``tries``: a pack with an expression that could hold a worker is refused, too (`detectors.cost`).
    """
    found = packs.load_each([packs.SHIPPED, *extra], cache, checked)
    if tries:
        own = [pattern for file, some in found.items() if file.parent != packs.SHIPPED for pattern in some]
        for pattern in cost.dear(own, cache, 1):
            [file] = [file for file, some in found.items() if pattern in some]
            raise PatternError(f"{file.name}: {pattern.id}: {cost.TOO_LONG}")
    return [pattern for some in found.values() for pattern in some]


def bind(settings: PolicySettings, thresholds: Thresholds) -> tuple[Policy, Policy | None]:
    """Turn a policy's settings into the policy that acts and the one that is judged beside it.

    ``thresholds`` are those of the model, empty where none judges.

    ``monitor`` reports what ``balanced`` would have done: it acts on nothing.
    """
    base = preset(settings.preset, thresholds)
    rules = base.rules + tuple(
        Rule(
            action=row.action, category=row.category or "", origin=row.origin, direction=row.direction, score=row.score,
            channel=row.channel,
        )
        for row in settings.rules
    )
    failure = {str(stage): mode for stage, mode in settings.failure.items()}
    changed = settings.model_dump_json(exclude={"shadow"}, exclude_defaults=True)
    asked = settings.consensus
    version = base.version + "-" + hashlib.sha256(changed.encode()).hexdigest()[:8]
    policy = Policy(
        name=base.name,
        version=version,
        acts=base.acts,
        rules=rules,
        on_block=settings.on_block,
        failure=({} if "*" in failure else dict(base.failure)) | failure,
        restore=settings.restore,
        waits=base.waits,
        canary=settings.canary,
        links=None if settings.links is None else Hosts(settings.links),
        ahead=base.ahead if settings.ahead is None else settings.ahead,
        alarm=settings.alarm,
        redaction=settings.redaction,
        earlier_texts=settings.earlier_texts,
        consensus=None if asked is None else Consensus(asked.replicas, asked.deadline_seconds),
    )
    if not thresholds or not policy.cuts_by_meaning():
        policy = replace(policy, ahead=None)
    return policy, preset(settings.shadow, thresholds) if settings.shadow else None

