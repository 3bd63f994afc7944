"""Rows of words to logits of windows; see ``_net.c``."""

from typing import Any, final

import numpy.typing as npt

Buffer = bytes | npt.NDArray[Any]

def phrases(rows: Buffer, bits: int, /) -> bytes: ...
@final
class Net:
    def __new__(cls, bits: int, rows: int, channels: int, hidden: int, outputs: int, /, *arrays: Buffer) -> Net: ...
    def logits(self, rows: Buffer, starts: Buffer, spans: Buffer, output: int, /) -> list[float]: ...
