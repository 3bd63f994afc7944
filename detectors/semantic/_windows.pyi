"""Overlapping windows over a long text; see ``_windows.c``."""

from collections.abc import Sequence

def spans(text: str, window: int, overlap: int, /) -> list[tuple[int, int]]: ...
def parted(
    text: str, windows: Sequence[tuple[int, int]], part: int, overlap: int, least: int, /
) -> tuple[bytes, list[int]]: ...
