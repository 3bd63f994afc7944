"""Trials of expressions that somebody wrote or a feed brought, in a process of their own that can be ended: see
`detectors.cost`, which tries what acts already. Here one is tried on what is known, too, and on its own hits and misses."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from typing import Final

import msgspec

from detectors import cost
from detectors.aside import LOWEST
from gateway.learning import trial
from gateway.learning.trial import Corpus
from gateway.learning.values import Trial
from patterns.schema import Kind, Pattern, PatternError

CPU_SECONDS: Final = 5
"""What a trial may take of a processor: one takes half a second."""


class Asked(msgspec.Struct):
    pattern: Pattern
    harmless: tuple[str, ...]


def lexical(pattern: Pattern, corpus: Corpus) -> Trial:
    """As `trial.lexical`, for a pattern of which nothing is known.

    Raises:
        PatternError: Hyperscan cannot take it, or there are texts that Python's engine takes too long for.
    """
    if pattern.kind is Kind.LITERAL:
        return trial.lexical(pattern, corpus)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__], input=msgspec.json.encode(Asked(pattern, tuple(corpus.harmless))),
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode == REFUSED:
        raise PatternError(done.stdout.decode())
    if done.returncode > 0:
        raise PatternError(f"{pattern.id}: it could not be tried: {done.stderr.decode(errors='replace')[-200:].strip()}")
    if done.returncode:
        raise PatternError(f"{pattern.id}: {cost.TOO_LONG}")
    return msgspec.json.decode(done.stdout, type=Trial)


REFUSED: Final = 3
"""How the other process ends where the pattern is wrong in a way that can be told."""


def _main() -> None:
    os.nice(LOWEST)
    ends = math.ceil(time.process_time()) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (ends, ends))
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    try:
        cost.search(asked.pattern.body, asked.pattern.kind)
        sys.stdout.buffer.write(msgspec.json.encode(trial.lexical(asked.pattern, Corpus(asked.harmless, ()))))
    except PatternError as error:
        sys.stdout.write(str(error))
        sys.stdout.flush()
        sys.exit(REFUSED)


if __name__ == "__main__":
    _main()
