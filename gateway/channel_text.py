"""One text of a streamed reply on its way through the relay: screened, then what was taken out of the request put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from detectors.stream import Released, TextStream
from detectors.values import Path
from gateway.links import Links
from gateway.redaction import Restorer
from gateway.wires.frames import Frame


class ChannelText:
    """The text of one channel.

    Attributes:
        template, path: the last frame that carried a piece of it, and where in that the piece stands.
        others: what goes out of the texts in it, by their paths.
        links_removed: addresses that were taken out.
    """

    __slots__ = ("_links", "_restorer", "links_removed", "others", "path", "stream", "template")

    def __init__(self, stream: TextStream | Unscreened, restorer: Restorer | None, links: Links | None) -> None:
        self.stream = stream
        self._restorer = restorer
        self._links = links
        self.links_removed = 0
        self.template: Frame | None = None
        self.path: Path = ()
        self.others: Mapping[Path, str] = {}

    @property
    def held(self) -> bool:
        """Whether any of it is held back."""
        by_others = (self._restorer is not None and self._restorer.held) or (self._links is not None and self._links.held)
        return bool(self.stream.held or by_others)

    def carried(self, frame: Frame, path: Path, texts: Mapping[Path, str]) -> None:
        """``frame`` carries a piece of it, at ``path``; ``texts``: what goes out of all that it carries."""
        self.template, self.path, self.others = frame, path, texts

    def restored(self, said: str, last: bool) -> str:
        """What goes out of ``said``, which was released: the caller's own values put back, addresses taken out."""
        if self._restorer is not None:
            said = self._restorer.feed(said)
            said += self._restorer.finish() if last else ""
        if self._links is not None:
            before = self._links.removed
            said = self._links.feed(said)
            said += self._links.finish() if last else ""
            self.links_removed += self._links.removed - before
        return said


class Unscreened:
    """Takes the place of a text stream where the policy acts on nothing."""

    held = 0

    def feed(self, piece: str) -> Released:
        return Released(piece)

    def finish(self) -> Released:
        return _EMPTY

    release_overdue = finish

    def close(self) -> None:
        """Nothing to free."""


_EMPTY: Final = Released("")
