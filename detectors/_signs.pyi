"""What a text may hold; see ``_signs.c``."""

from typing import Final

CONTROLS: Final[int]
GAPS: Final[int]
ODD: Final[int]
ESCAPES: Final[int]
MARKS: Final[int]

def signs(text: str, /) -> int: ...
