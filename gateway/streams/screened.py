"""What of a stream's texts goes out: each is followed in its channel, and what was found in it has had its place taken."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from detectors.lexical import SCORES
from detectors.stream import Released, TextStream
from detectors.streamrules import StreamRules
from detectors.values import ChannelKind, Path
from gateway.redaction.links import Hosts
from gateway.redaction.nesting import Nesting
from gateway.redaction.vault import Vault
from gateway.streams.channel_text import ChannelText, opened
from gateway.streams.following import Channel, Cut
from gateway.streams.listening import SLICE, Listening, slices
from gateway.streams.outgoing import Outgoing
from gateway.streams.said import Acted
from gateway.streams.sound import WITHHELD, Sound
from gateway.streams.steps import Steps
from gateway.streams.texts import Texts
from gateway.wires.base import EventKind, StreamEvent, StreamReader
from gateway.wires.frames import Frame
from gateway.wires.rewriting import sequel

MAX_LABELS: Final = 1_024
"""Labels of all streams of which it is remembered whether they go out as they are: models and versions come in each."""


class Screened:
    """The texts of one stream.

    Attributes:
        cut: what the stream is to be cut for, once something was found.
        seen: what was found and acted on. overdue: how often text went out although it might have become part of a match.
        links_removed: addresses that were taken out.
        passed: code points in frames that may have to wait still.
    """

    __slots__ = (
        "_acted", "_hosts", "_listening", "_outgoing", "_reader", "_rules", "_sealed", "_sound", "_vault",
        "cut", "links_removed", "overdue", "passed", "seen", "texts",
    )  # fmt: skip

    def __init__(
        self,
        reader: StreamReader,
        rules: Mapping[ChannelKind, StreamRules],
        vault: Vault,
        hosts: Hosts | None,
        listening: Listening,
        sound: Sound,
        outgoing: Outgoing,
    ) -> None:
        """
        Args:
            reader: knows what a frame looks like that goes on with a text.
            rules, vault, hosts, sound: as for `gateway.streams.relay.Relay`.
            listening: hears what is said. outgoing: takes frames that are made.
        """
        self._reader = reader
        self._rules = rules
        self._vault = vault
        self._sealed = vault.sealed()
        self._hosts = hosts
        self._listening = listening
        self._sound = sound
        self._outgoing = outgoing
        self.texts = Texts()
        self.links_removed = 0
        self.passed = 0
        self._acted = Acted()
        self.seen = self._acted.seen
        self.cut: Cut | None = None
        self.overdue = 0

    def opened(self, event: StreamEvent, before: ChannelText | None = None) -> ChannelText:
        """A text that begins with an event; ``before``: the one of its family that it goes on with."""
        return opened(event, self._rules, self._vault, self._sealed, self._hosts, before)

    def passes(self, label: str) -> bool:
        """Whether a label goes out as it is, as far as that is seen without following it as a text: mostly it is."""
        if len(label) > SLICE or not label.isascii() or "\\" in label or len(self._vault) or self._hosts is not None:
            return False
        acting = self._rules.get(ChannelKind.TOOL_CALL)
        return acting is None or _passes(acting, label)

    def text(self, event: StreamEvent, frame: Frame, edits: dict[Path, str]) -> Steps[str]:
        """Take an event's text; return what takes its place in the frame."""
        if self.cut is not None:
            return ""
        if event.kind is EventKind.AUDIO:  # it stands whole in a frame, and nothing says that its transcript was judged
            self._sound.note(event.channel, WITHHELD if self._sound.waits else "audio")
            return "" if self._sound.waits else event.text
        if event.kind is EventKind.ECHO:
            return self._vault.restore(event.text, Nesting() if event.text.startswith(("{", "[")) else None)
        repeated = event.repeats is not None and "".join(self._listening.said.texts.get(event.repeats, ())) == event.text
        whole = event.channel[0] == "whole"
        if repeated and event.repeats is not None and (again := self.texts.again(event.repeats)) is not None:
            return again
        if not repeated:
            if len(event.text) <= SLICE:
                self._listening.hear(event, whole)
            else:
                yield from self._listening.hear_long(event, whole)
            if not self.goes_on():
                return ""
        if whole:
            if event.repeats is not None and not (repeated or event.so_far):
                self.texts.tell(event.repeats, event.text)
            # It is not cut into pieces, and nothing can follow it; what it may still become a match with is told next time.
            before, passed = self.texts.together.get(event.family), self.passed
            text = self.opened(event, before)
            said = yield from self._screened(text, event.channel, event.text)
            if self.cut is None and not (event.so_far and repeated):
                over = text.stream.let_go if event.family else text.stream.finish
                said += self.restored(text, over(), event.channel, True)
            self.texts.close_whole(text)
            self.passed = passed if repeated else self.passed
            return said
        begins = bool(event.text) and event.path[0] in self._reader.begins
        known = self.texts.open.get(event.channel)
        if known is None:
            for channel in self.texts.of_family(event.family) if event.family else ():
                before = self.texts.open[channel]  # clients have one behind the other what is written at once
                carried = {channel: before.path} if before.template is frame else {}
                if event.family in self._reader.joined:
                    self.pass_on(channel, edits, carried)
                else:
                    self.flush(channel, edits, carried)
            if self.cut is not None:
                return ""
            known = self.texts.begin(event, partial(self.opened, event))
            if known is None:
                self.cut_unjudged("more of a text that was over", event.channel)
                return ""
            first = known.stream.total == known.before
            known.kept = known.kept or (first and (begins or event.family in self._reader.joined))
        known.carried(frame, event.path, edits)
        if not event.text:
            return ""  # programs may print pieces alone, and not what a block begins with
        if len(event.text) <= SLICE:
            said = self.restored(known, known.stream.feed(event.text), event.channel, False)
        else:
            said = yield from self._screened(known, event.channel, event.text)
        if begins:
            known.stream.pieces_begin()
        return said

    def of_label(self, text: ChannelText, released: Released, channel: Channel) -> str:
        passed = self.passed
        said = self.restored(text, released, channel, True)
        self.passed = passed  # nobody waits for what is said of a label
        return said

    def cut_unjudged(self, cause: str, channel: Channel = ()) -> None:
        """Cut the stream for what cannot be judged."""
        self.cut = self.cut or Cut("incomplete judgement", cause, "stream", channel=channel)

    def goes_on(self) -> bool:
        """Whether what was said so far gives nothing away for which the stream is cut."""
        if self.cut is None:
            self.cut = self._listening.cut
        return self.cut is None

    def restored(self, text: ChannelText, released: Released, channel: Channel, last: bool) -> str:
        if released.found:
            for act, match in released.found:
                self._acted.add(channel, match, act)
        self.passed += len(released.text)
        self.overdue += released.overdue
        if released.cut is not None:
            pattern, start, end = released.cut
            score = SCORES[pattern.severity]
            start, end = max(0, start - text.before), max(0, end - text.before)
            self.cut = self.cut or Cut(pattern.category, pattern.id, "lexical", score, channel, start, end)
        last = last or released.cut is not None
        before = text.links_removed
        said = text.restored(released.text, last)
        self.links_removed += text.links_removed - before
        return said

    def release_overdue(self, channel: Channel, text: ChannelText) -> None:
        """A hold's time is up."""
        self.send_made(channel, text, self.restored(text, text.stream.release_overdue(), channel, False))

    def settle(self, channel: Channel, text: ChannelText, edits: dict[Path, str], carried: dict[Channel, Path]) -> None:
        """A text has ended to some who read it, and may go on to others."""
        text.stream.edge()
        self.send_rest(channel, text, self.restored(text, text.stream.settled(), channel, False), edits, carried)

    def pass_on(
        self, channel: Channel, edits: dict[Path, str] | None = None, carried: dict[Channel, Path] | None = None
    ) -> None:
        """A text is over, and goes on in the next one of its family: what it holds goes out with that; what
        does not, in the frame at hand where it can."""
        text = self.texts.open.pop(channel)
        self._listening.over(channel)
        text.stream.edge()
        rest = self.restored(text, text.stream.settled(), channel, True) if self.goes_on() else ""
        self.texts.pause(channel, text)
        self._keep(channel, text)
        self.send_rest(channel, text, rest, edits, carried)

    def flush(
        self, prefix: Channel, edits: dict[Path, str] | None = None, carried: dict[Channel, Path] | None = None
    ) -> None:
        """End the channels that begin with ``prefix``: what they hold goes out, in the frame at hand where it can."""
        for channel, text in self.texts.take(prefix):
            self._listening.over(channel)
            if prefix and not text.held and self.goes_on():
                self.texts.pause(channel, text)
                self._keep(channel, text)
                continue
            follows = bool(prefix and text.family)
            over = text.stream.let_go if follows else text.stream.finish
            rest = "" if not self.goes_on() else self.restored(text, over(), channel, True)
            (self.texts.pause if follows else self.texts.end)(channel, text)
            self._keep(channel, text)
            self.send_rest(channel, text, rest, edits, carried)

    def send_rest(
        self, channel: Channel, text: ChannelText, rest: str, edits: dict[Path, str] | None, carried: dict[Channel, Path] | None
    ) -> None:
        """Send what is left of a text, in the frame at hand where that carries some of it."""
        if rest and edits is not None and carried is not None and channel in carried:
            edits[carried[channel]] += rest
        else:
            self.send_made(channel, text, rest)

    def send_made(self, channel: Channel, text: ChannelText, piece: str) -> None:
        """Send a piece in a frame made after the last one of its channel."""
        if piece and text.template is not None:
            made = sequel(self._reader, text.template, text.path, text.others, piece)
            self._outgoing.send(made, self.passed, channel in self._listening.said.calls)

    def _screened(self, text: ChannelText, channel: Channel, more: str) -> Steps[str]:
        """What goes out now that a text goes on with some more."""
        said: list[str] = []
        for piece in slices(more):
            yield None
            said.append(self.restored(text, text.stream.feed(piece), channel, False))
            if self.cut is not None:
                break
        return "".join(said)

    def _keep(self, channel: Channel, text: ChannelText) -> None:
        """Remember what went out of a text that was not read by itself alone: wires say texts once more."""
        if text.kept:
            said, released = "".join(self._listening.said.texts.get(channel, ())), "".join(text.said)
            alone = said == released and self._vault.restore(said) == said  # else a value would come back by itself
            self.texts.keep(channel, None if alone else released)


def _passes(rules: StreamRules, label: str) -> bool:
    """Whether nothing is found in a label that stands for nothing but itself."""
    known = rules.labels.get(label)
    if known is None:
        if len(rules.labels) >= MAX_LABELS:
            rules.labels.clear()
        known = rules.labels[label] = rules.silent(label) or _is_clean(rules, label)
    return known


def _is_clean(rules: StreamRules, label: str) -> bool:
    """As `_passes`, where automata see something in it."""
    stream = TextStream(rules, lambda match, value: "")
    released = stream.feed(label)
    clean = not released.found and not stream.finish().found
    stream.close()
    return clean
