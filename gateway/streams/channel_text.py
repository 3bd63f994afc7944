"""One text of a streamed reply on its way through the relay: screened, then what was taken out of the request put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from detectors.lexical import Match
from detectors.stream import Released, TextStream
from detectors.streamrules import StreamRules
from detectors.values import ChannelKind, Path
from gateway.redaction.links import Hosts, Links
from gateway.redaction.vault import Restorer, Vault
from gateway.streams.listening import PROSE
from gateway.wires.base import EventKind, StreamEvent
from gateway.wires.frames import Frame


class ChannelText:
    """The text of one channel.

    Attributes:
        restorer, links: what puts values back, and takes addresses out.
        template, path: the last frame that carried a piece of it, and where in that the piece stands.
        others: what goes out of the texts in it, by their paths.
        links_removed: addresses that were taken out.
        family: as of its events. before: code points of the family's texts that were followed before it.
        kept: whether it is known what went out of it (``said``): it may be another text than what is found in it by itself.
    """

    __slots__ = (
        "before", "family", "kept", "links", "links_removed", "others", "path", "restorer", "said", "stream", "template",
    )  # fmt: skip

    def __init__(
        self, stream: TextStream | Unscreened, restorer: Restorer | None, links: Links | None, family: str = ""
    ) -> None:
        self.stream = stream
        self.family = family
        self.before = stream.total
        self.kept = bool(self.before)
        self.said: list[str] = []
        self.restorer = restorer
        self.links = links
        self.links_removed = 0
        self.template: Frame | None = None
        self.path: Path = ()
        self.others: Mapping[Path, str] = {}

    @property
    def held(self) -> bool:
        """Whether any of it is held back."""
        by_others = (self.restorer is not None and self.restorer.held) or (self.links is not None and self.links.held)
        return bool(self.stream.held or by_others)

    def follow(self, said: str) -> None:
        """To some it goes on with what was ``said``, and went out; to others it begins here."""
        self.stream.feed(said)
        self.stream.let_go()
        self.before, self.kept = self.stream.total, True

    def carried(self, frame: Frame, path: Path, texts: Mapping[Path, str]) -> None:
        """``frame`` carries a piece of it, at ``path``; ``texts``: what goes out of all that it carries."""
        self.template, self.path, self.others = frame, path, texts

    def restored(self, said: str, last: bool) -> str:
        """What goes out of ``said``, which was released: the caller's own values put back, addresses taken out."""
        if self.restorer is not None:
            said = self.restorer.feed(said)
            said += self.restorer.finish() if last else ""
        if self.links is not None:
            before = self.links.removed
            said = self.links.feed(said)
            said += self.links.finish() if last else ""
            self.links_removed += self.links.removed - before
        if self.kept:
            self.said.append(said)
        return said


def opened(
    event: StreamEvent, rules: Mapping[ChannelKind, StreamRules], vault: Vault, sealed: Vault, hosts: Hosts | None,
    before: ChannelText | None = None,
) -> ChannelText:  # fmt: skip
    """A text that begins with an event.

    Args:
        rules: as for `gateway.streams.relay.Relay`, and so ``hosts``.
        vault: what comes back out of it. sealed: what the values that are found in it go into, from which none does.
        before: the text of its family that is over, which it goes on with: an address may begin there and go on here.
    """
    in_json = event.kind is EventKind.TOOL
    acting = rules.get(ChannelKind.PROSE if event.kind in PROSE else ChannelKind.TOOL_CALL)
    stream: TextStream | Unscreened = Unscreened()
    if before is not None:
        before.stream.edge()
        return ChannelText(before.stream, before.restorer, before.links, event.family)
    if acting is not None:

        put = sealed.stand_in_json if in_json else sealed.stand_in

        def stand_in(match: Match, value: str) -> str:
            return put(value, match.pattern.category)

        stream = TextStream(acting, stand_in, in_json)
    restorer = Restorer(vault, in_json) if len(vault) else None
    return ChannelText(stream, restorer, Links(hosts) if hosts is not None else None, event.family)


class Unscreened:
    """Takes the place of a text stream where the policy acts on nothing."""

    held = total = 0

    def feed(self, piece: str) -> Released:
        return Released(piece)

    def finish(self) -> Released:
        return _EMPTY

    release_overdue = let_go = settled = finish

    def edge(self) -> None:
        """Nothing is looked for."""

    pieces_begin = close = edge


_EMPTY: Final = Released("")
