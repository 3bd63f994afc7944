"""Write the figures into the model card, between two marks that the hand-written text leaves for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from detectors.train.evaluate import markdown

BEGIN: Final = "<!-- figures: written by `python -m detectors.train evaluate --card` -->"
END: Final = "<!-- end of figures -->"


def write(found: dict[str, Any], path: Path) -> None:
    """Replace what stands between the marks of the card at ``path``.

    Raises:
        ValueError: the card has no marks.
    """
    text = path.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: the marks {BEGIN!r} and {END!r} are missing")
    path.write_text(f"{head}{BEGIN}\n\n{markdown(found)}\n{END}{tail}", "utf-8")
