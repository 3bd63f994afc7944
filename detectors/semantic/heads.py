"""Which of a model's outputs judges which origin. Training, calibration and serving all read the order from here."""

from __future__ import annotations

from typing import Final

from detectors.values import Origin

ORIGINS: Final = tuple(Origin)
"""The order of the outputs: one per origin."""

_STANDS_IN: Final = {Origin.SYSTEM: Origin.USER}
"""No source holds attacks that an operator writes into a system prompt, so that output has seen harmless text alone: the
one for users judges in its place, having seen all system prompts as harmless too."""


def column(origin: Origin) -> int:
    """The output that judges an origin."""
    return ORIGINS.index(_STANDS_IN.get(origin, origin))
