"""A streamed reply on its way to the caller: frames in, bytes out. Pure; the proxy moves the bytes.

Every text of the stream has a channel (a choice's content, a block's thinking, a tool call's arguments), and each channel has
a `TextStream` that says what may go out. A frame whose texts may go out as they are is forwarded as the very bytes received;
otherwise its texts are replaced. What was held goes out with the next frame of its channel, or, before the channel's end,
in a frame of its own that is made after the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from detectors.leakage import Leak, Leakage
from detectors.streamrules import StreamRules
from detectors.values import ChannelKind, Path, Skipped
from gateway.redaction.links import Hosts
from gateway.redaction.vault import Vault
from gateway.streams.alike import Alike
from gateway.streams.between import Between
from gateway.streams.following import Channel, Cut, Follower, Rise
from gateway.streams.labels import Labels
from gateway.streams.listening import LONG, SLICE, Listening, is_call
from gateway.streams.outgoing import Outgoing
from gateway.streams.said import Seen
from gateway.streams.screened import Screened
from gateway.streams.sound import WITHHELD, Sound
from gateway.streams.steps import Steps, at_once
from gateway.streams.texts import Read, within
from gateway.wires.base import EventKind, StreamEvent, Target, Thread
from gateway.wires.frames import BadFraming, Frame, SseSplitter
from gateway.wires.halves import may_have_halves, without_halves_in
from gateway.wires.names import with_names
from gateway.wires.probabilities import has_probabilities
from gateway.wires.rewriting import rewritten

Refusal = Callable[[Cut], str]


class Relay:
    """Follows one stream and passes on what may be passed on."""

    def __init__(
        self,
        target: Target,
        model: str | None,
        rules: Mapping[ChannelKind, StreamRules],
        vault: Vault,
        follower: Follower | None = None,
        leakage: Leakage | None = None,
        gives_away: Callable[[Leak], bool] = lambda leak: False,
        hosts: Hosts | None = None,
        sound: Sound | None = None,
    ) -> None:
        """
        Args:
            target: what was asked for.
            rules: what is looked for in prose and in tool calls, and what is done about it; nothing where there are none.
            vault: the values that were taken out of the request, and come back here.
            follower: knows what was judged, and how far ahead of that text may go out; None lets all go.
            leakage: knows the request's system prompt. gives_away: whether the stream is cut for what it tells.
            hosts: those that addresses may lead to; None for any.
            sound: keeps audio until its transcript was judged, or lets it pass, whatever it says; the latter where it is None.
        """
        self._reader = target.wire.stream(target, model)
        self.splitter = target.wire.splitter(target)  # of what the upstream sends
        self._alike = Alike(self._reader)
        self._like_last: Frame | None = None  # the last frame, where it was like the one before it: the reader has not read it
        self._aside: Read | None = None  # a frame of texts that hold something, and may be over with it
        self._failed = False  # the upstream has said that it failed
        self._end = b""  # by which it has said that all is over
        self._between = Between(self._reader.joined)
        self._outgoing = Outgoing(target.wire.stream(target, model), follower)
        self._acts = bool(rules)
        self._follower = follower
        self.leakage = leakage
        self._listening = Listening(follower, leakage, gives_away)
        self.said = self._listening.said
        self._sound = Sound(waits=False) if sound is None else sound
        self.unheard = self._sound.unheard
        self._screened = Screened(self._reader, rules, vault, hosts, self._listening, self._sound, self._outgoing)
        self._texts = self._screened.texts
        self._labels = Labels(self._screened.opened, self._screened.of_label, self._screened.passes, self._listening)
        self.nanoseconds = 0

    @property
    def cut(self) -> Cut | None:
        """What the stream is cut for."""
        return self._screened.cut

    @property
    def seen(self) -> list[Seen]:
        """What was found and acted on."""
        return self._screened.seen

    @property
    def overdue(self) -> int:
        """How often text went out although it might have become part of a match."""
        return self._screened.overdue

    @property
    def links_removed(self) -> int:
        """Addresses that were taken out."""
        return self._screened.links_removed

    @property
    def released(self) -> int:
        """Code points in frames that went out."""
        return self._outgoing.released

    @property
    def thread(self) -> Thread | None:
        """By what a later request can go on from this reply, once the upstream has told."""
        return self._reader.thread

    @property
    def held(self) -> bool:
        """Whether anything that came is held back."""
        return any(text.held for text in self._texts.open.values())

    @property
    def _waits(self) -> bool:
        """Whether frames wait for what comes next."""
        return self._aside is not None or bool(self._between.frames)

    @property
    def rises(self) -> tuple[Rise, ...]:
        """How the score rose while the reply was written."""
        return tuple(self._follower.rises) if self._follower is not None else ()

    @property
    def skipped(self) -> list[Skipped]:
        """The stages that did not judge in time."""
        return sorted(self._follower.skipped) if self._follower is not None else []

    def feed(self, chunk: bytes, refusal: Refusal) -> bytes:
        """As `steps`, at once, which is for what is short."""
        out = self.quick(chunk, refusal)
        return at_once(self.steps(chunk, refusal)) if out is None else out

    def quick(self, chunk: bytes, refusal: Refusal) -> bytes | None:
        """As `steps`, of a chunk that is one more frame like the last one; None for any other."""
        if not (self.splitter.between and self._once_more(chunk, framed=False)):
            return None
        if (cut := self._screened.cut) is not None:
            return self.stop(cut, refusal)
        out = self._outgoing.take()
        if (work := self._outgoing.keep_step(self._reader, self._like_last)) is not None:
            work()
        return out

    def steps(self, chunk: bytes, refusal: Refusal) -> Steps[bytes]:
        """Take bytes of the upstream; return what goes on now.

        Once `cut` is set, what was returned ends the stream in the wire's own terms, and nothing more may be fed.

        Args:
            refusal: what the caller is told where the stream is cut.

        Raises:
            FrameTooLong, BadFraming: the upstream's stream is none.
            Malformed: it passes a bound.
        """
        for number, frame in enumerate(self.splitter.feed(chunk)):
            if number:
                yield None
            if not self._once_more(frame.raw):
                yield from self._frame(frame)
            if self.cut is not None:
                break
        if self.cut is not None:
            return self.stop(self.cut, refusal)
        out = self._outgoing.take()
        yield from self.keep_step()
        return out

    def keep_step(self) -> Steps[None]:
        """See to it that what is needed to end the stream is known, once something went out."""
        if not self._waits and (work := self._outgoing.keep_step(self._reader, self._like_last)) is not None:
            yield work

    def allowed(self) -> bytes:
        """What may go out now that more was judged."""
        return self._outgoing.take()

    def stop(self, cut: Cut, refusal: Refusal) -> bytes:
        """Cut the stream here: what waits for judgement stays back, and what is returned ends the stream."""
        self._screened.cut = cut
        self.close()
        if self._failed:  # to a caller that is no answer: what the upstream says of it is withheld, and nothing else
            return self._outgoing.fail(f"the upstream failed, and its error is withheld. {refusal(cut)}")
        return self._outgoing.stop(refusal(cut), self._reader)

    def end(self, refusal: Refusal) -> bytes:
        """The upstream's stream is over: what was held goes out, and then blank lines that are left of it.

        Raises: BadFraming: it ends within a frame, whose text cannot be told. What was held goes out all the same.
        """
        left = self.splitter.end()
        at_once(self._end_between(False))
        at_once(self._settle(True))
        self._screened.flush(())
        if self.cut is not None:
            return self.stop(self.cut, refusal)
        if any(frame.data or frame.event or not (frame.raw.isspace() or frame.raw.startswith(b":")) for frame in left):
            raise BadFraming("it ends within a frame")
        self._outgoing.plain(b"".join([frame.raw for frame in left if frame.raw.isspace()]))
        self.close()
        return self._outgoing.take()

    def release_overdue(self, refusal: Refusal) -> bytes:
        """A hold's time is up: what is held is a match as it stands, or goes out although it may become part of one."""
        at_once(self._end_between(False))
        if self._aside is not None and self._aside.carried:
            at_once(self._settle(False))
        for channel, text in list(self._texts.open.items()):
            if text.stream.held:
                self._screened.release_overdue(channel, text)
                if self.cut is not None:
                    return self.stop(self.cut, refusal)
        at_once(self._settle(False))
        return self._outgoing.take()

    def fail(self, message: str) -> bytes:
        """The upstream broke off: what was held stays held, and the caller is told in the wire's own terms."""
        self.close()
        return self._outgoing.fail(message)

    def close(self) -> None:
        """Free what the stream holds."""
        self._texts.close()

    def _once_more(self, raw: bytes, framed: bool = True) -> bool:
        """Take a frame that says what the one before it said, but for its text; false where it is none. ``framed``: it is known
        that the bytes are a frame."""
        piece = self._alike.find(raw, framed) if not self._waits and len(raw) <= LONG else None
        if piece is None or (known := self._texts.open.get(piece.event.channel)) is None or len(piece.event.text) > SLICE:
            return False
        self._alike.confirm()
        self._like_last = frame = piece.frame
        _, channel, text, path, *_ = piece.event
        self._listening.hear(piece.event)
        known.carried(frame, path, {})
        screened = self._screened
        said = screened.restored(known, known.stream.feed(text), channel, False) if screened.goes_on() else ""
        frame = frame if said == text else piece.saying(said)
        self._outgoing.send(frame, screened.passed, is_call(piece.event), alike=True)
        return True

    def _frame(self, frame: Frame) -> Steps[None]:
        long = len(frame.raw) > LONG
        if may_have_halves(frame.data):
            frame = (yield partial(without_halves_in, frame)) if long else without_halves_in(frame)
        if self._acts and isinstance(self.splitter, SseSplitter):
            frame = yield from self._labels.clean(frame)
        read = partial(with_names, self._reader) if self._acts else self._reader.read
        events = (yield partial(read, frame)) if long else read(frame)
        self._like_last = None
        if self._between.frames and frame.data:
            if self._between.goes_on(frame, events):
                return
            yield from self._end_between(self._between.joins(events))
        if self.cut is None and not self._between.begin(frame, events, self._texts.open):
            yield from self._pass(frame, events)

    def _end_between(self, joined: bool) -> Steps[None]:
        """What stands between two texts goes; ``joined``: the first one goes on in the second."""
        if joined:
            self._screened.pass_on(self._between.channel)
        for frame, events in self._between.taken():
            if self.cut is None:
                yield from self._pass(frame, events)

    def _pass(self, frame: Frame, events: list[StreamEvent]) -> Steps[None]:
        """Pass on what of a frame may be; not an end in the same words once more."""
        if frame.data and any(event.kind is EventKind.STOP and not event.channel for event in events):
            if frame.data == self._end:
                return
            self._end = frame.data
        long = len(frame.raw) > LONG
        if self._aside is not None:
            stops = [one.channel for one in events if one.kind is EventKind.STOP and self._reader.final(one.channel)]
            yield from self._settle(any(within(end, stops) for end in self._aside.ends))
        edits: dict[Path, str] = {}
        self._failed = self._failed or any(event.kind is EventKind.ERROR for event in events)
        events = yield from self._labels.pass_on(events, edits, self._texts.open)
        if not long:
            self._alike.note(frame, events)
        carried: dict[Channel, Path] = {}
        self._end_families(events)
        for event in events:
            if event.kind is EventKind.LABEL:
                continue
            if event.path:
                edits[event.path] = yield from self._screened.text(event, frame, edits)
                if long:
                    yield None
                carried[event.channel] = event.path
            elif event.kind is EventKind.UNREAD:
                self._sound.note(event.channel, event.text)
        self._texts.part()
        ends = [event.channel for event in events if event.kind in (EventKind.STOP, EventKind.ERROR)]
        over = ends if () in ends else [end for end in ends if self._reader.final(end)]
        for end in ends:
            if end not in over and (known := self._texts.open.get(end)) is not None:
                self._screened.settle(end, known, edits, carried)
        whole = Read(frame, events, edits, carried, ends, over)
        waits = len(over) < len(ends) and self.cut is None
        if waits and any(text.held for channel, text in self._texts.open.items() if within(channel, ends)):
            self._aside = whole  # whether the texts are over with it is known when something comes, or nothing
        else:
            yield from self._complete(whole, over)

    def _end_families(self, events: list[StreamEvent]) -> None:
        """A frame may say texts whole that are over with it: what went out of each is known before that."""
        if len(events) > 1 and any(event.channel[:1] == ("whole",) for event in events):
            ends = [event.channel for event in events if event.kind is EventKind.STOP]
            for end in ends:
                if self._reader.final(end) and self._texts.told_again(end):
                    self._screened.flush(end)

    def _complete(self, read: Read, over: list[Channel]) -> Steps[None]:
        """Send a frame, after what is held of the channels that are ``over`` with it: all that it says end, or none of them."""
        frame, events, edits, carried, ends, _ = read
        for prefix in over:
            self._screened.flush(prefix, edits, carried)
        if ends:
            self._alike.forget()
        changed = {event.path: edits[event.path] for event in events if event.path and edits[event.path] != event.text}
        if self.cut is not None and (ends or any(event.channel[:1] == ("whole",) for event in events)):
            return  # the frame says that all is well, and it is not; half a call that comes whole would be run
        if changed or (self._acts and has_probabilities(frame.data)):
            made = partial(rewritten, frame, changed, [event.text for event in events])
            frame = (yield made) if len(frame.raw) > LONG else made()
        if not self._hold_sound(frame, events):
            self._outgoing.send(frame, self._screened.passed, bool(ends) or any(map(is_call, events)))
        for prefix in ends:
            self._free_sound(prefix)

    def _settle(self, over: bool) -> Steps[None]:
        """The frame that was put aside goes; ``over``: nothing more is coming, so that its texts have ended with it."""
        if self._aside is not None:
            read, self._aside = self._aside, None
            yield from self._complete(read, read.ends if over else read.over)

    def _hold_sound(self, frame: Frame, events: list[StreamEvent]) -> bool:
        """Whether a frame is audio that has to wait."""
        channel = next((event.channel for event in events if event.kind is EventKind.AUDIO and not event.path), None)
        if channel is None:
            return False
        self._sound.note(channel, "audio")
        if self._sound.waits and not self._sound.hold(channel, frame):
            self._screened.cut_unjudged("more audio than may wait for its transcript")
        return self._sound.waits

    def _free_sound(self, prefix: Channel) -> None:
        """Texts are over: audio follows its transcript, unless there is none, or something was taken out of it."""
        ended = self._sound.ended(prefix)
        changed = {seen.channel for seen in self.seen} if ended else set()
        for channel, frames in ended:
            if not self.said.texts.get(channel) or channel in changed or self.links_removed:
                self.unheard[channel] = WITHHELD
                continue
            for frame in frames:
                self._outgoing.send(frame, self._screened.passed)
