"""Natural-looking English for the loads: requests, replies and stream deltas, the same for the same seed.

The words are ours and the sentences are filled-in frames: what a support desk, an analyst or a developer would ask. They
hold numbers, dates and product names, as real prompts do, but nothing personal and no attack, so a gateway that screens
them finds nothing and edits nothing: the common case, whose cost is the question here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SEED: Final = 20_251
"""Every text of a run comes from this seed."""

REPLY_BYTES: Final = 520
"""Size of a whole reply's body, about that of a short answer with its usage counts."""

DELTA_CHARS: Final = 20
"""Length of a stream delta: some providers send a token (4) at a time, others a line (60)."""

_POOL: Final = 6_000
"""Sentences from which texts are made. Two texts share some sentences, as real ones do, but none is equal to another."""

_KEYWORDS: Final = " Keywords: garden market window silver"
"""The end of every reply; see ``upstream.c``."""

_PEOPLE = ("our team", "the finance group", "a new colleague", "the customer", "my manager", "the support desk",
           "the vendor", "our auditor", "the design crew", "an analyst", "the warehouse", "the school board",
           "the night shift", "a volunteer", "the hotel", "our landlord", "the marketing lead", "the clinic")  # fmt: skip
_THINGS = ("quarterly report", "migration plan", "pricing page", "release schedule", "travel budget", "survey result",
           "meeting summary", "training course", "inventory list", "energy bill", "garden layout", "recipe collection",
           "loan agreement", "onboarding guide", "delivery route", "web form", "database index", "product photo",
           "insurance letter", "reading list", "project charter", "test suite", "holiday calendar", "floor plan",
           "job advert", "sales forecast", "backup routine", "user interview", "podcast episode", "museum visit")  # fmt: skip
_ADJECTIVES = ("short", "friendly", "detailed", "clear", "formal", "practical", "cautious", "lively", "balanced",
               "frank", "simple", "complete", "recent", "rare", "careful", "modern", "plain", "helpful",
               "technical", "warm", "neutral", "thorough", "brisk", "gentle")  # fmt: skip
_VERBS = ("explain", "compare", "outline", "rewrite", "check", "improve", "translate", "shorten", "plan", "describe",
          "review", "estimate", "sketch", "sort", "discuss", "prepare", "reformat", "question")  # fmt: skip
_PLACES = ("Lisbon", "Oslo", "the lake house", "the second office", "Nairobi", "the coast", "Toronto", "Kyoto", "the old mill",
           "Valencia", "the library", "the north site", "Auckland", "the valley", "Porto Alegre", "the station")  # fmt: skip
_TIMES = ("next Tuesday", "before the summer", "in the first week of May", "after lunch", "by the end of the month",
          "in about 3 weeks", "since last autumn", "on the 14th", "within 2 days", "over the weekend", "in 2019",
          "every second Friday", "during the trial", "around 9:30", "in the coming year", "at short notice")  # fmt: skip
_REASONS = ("the numbers do not add up", "two people read it differently", "we have never done it before",
            "the old version was too long", "it has to fit on one page", "the budget was cut by 12 percent",
            "half of the readers are new", "nobody remembers why we chose it", "the weather may change",
            "the tool shows a warning", "the first draft felt rushed", "our contract ends soon",
            "it took 45 minutes last time", "the translation sounds stiff", "we need to decide between 3 options",
            "the team works in several time zones", "some of the steps are out of order")  # fmt: skip
_FRAMES: Final = (
    "Please {verb} the {thing} for {person} {time}, because {reason}.",
    "Could you {verb} a {adjective} {thing} that {person} can use in {place}?",
    "I am working on a {adjective} {thing} with {person}, and {reason}.",
    "What would be a {adjective} way to {verb} the {thing} {time}?",
    "{Person} asked me to {verb} the {thing}; the tone should be {adjective} and {adjective2}.",
    "We moved the {thing} from {place} to {place2} {time}, but {reason}.",
    "Give me {count} {adjective} ideas for the {thing}, one line each.",
    "My question is about the {thing}: {reason}, so how should {person} {verb} it?",
    "The {adjective} version was ready {time}, yet {person} would like to {verb} the {thing} again.",
    "Write {count} sentences about the {thing} in {place}, {adjective} rather than {adjective2}.",
    "In the last {count} months {person} sent the {thing} to {place}, and {reason}.",
    "If {reason}, is it better to {verb} the {thing} or to start over {time}?",
)


def _sentence(pick: random.Random) -> str:
    person = pick.choice(_PEOPLE)
    return pick.choice(_FRAMES).format(
        verb=pick.choice(_VERBS), thing=pick.choice(_THINGS), person=person, Person=person.capitalize(),
        time=pick.choice(_TIMES), reason=pick.choice(_REASONS), adjective=pick.choice(_ADJECTIVES),
        adjective2=pick.choice(_ADJECTIVES), place=pick.choice(_PLACES), place2=pick.choice(_PLACES),
        count=pick.randint(2, 40),
    )  # fmt: skip


def texts(count: int, size: int, seed: int = SEED) -> Iterator[str]:
    """``count`` different ASCII texts of exactly ``size`` characters.

    Args:
        count: how many.
        size: characters of each; at least 40, or not enough differ.
    """
    pick = random.Random(f"{seed}/{size}")
    pool = [_sentence(pick) for _ in range(_POOL)]
    shortest = min(map(len, pool))
    seen: set[int] = set()
    while len(seen) < count:
        text = " ".join(pick.choices(pool, k=size // (shortest + 1) + 1))[: size - 1].rstrip(" .,;:?")
        text += "." * (size - len(text))
        if (key := hash(text)) not in seen:
            seen.add(key)
            yield text


def request_body(model: str, prompt: str) -> bytes:
    """A chat completion request; ``model`` tells the benchmark's upstream what to answer (see ``upstream.c``)."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0.2}
    if model.startswith("sse-"):
        body["stream"] = True
    return json.dumps(body, separators=(",", ":")).encode()


def reply_body(text: str) -> bytes:
    """A whole chat completion reply."""
    message = {"role": "assistant", "content": text, "refusal": None}
    body = {
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000, "model": "bench",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 75, "completion_tokens": 50, "total_tokens": 125},
        "system_fingerprint": "fp_bench",
    }  # fmt: skip
    return json.dumps(body, separators=(",", ":")).encode()


def write_requests(path: Path, model: str, size: int, count: int) -> None:
    """Write ``count`` different request bodies, one a line."""
    with path.open("wb") as file:
        file.writelines(request_body(model, text) + b"\n" for text in texts(count, size))


def write_replies(path: Path, count: int) -> None:
    """Write ``count`` different reply bodies of `REPLY_BYTES` each, one a line; the upstream changes the keywords."""
    room = REPLY_BYTES - len(reply_body(_KEYWORDS))
    with path.open("wb") as file:
        file.writelines(reply_body(text + _KEYWORDS) + b"\n" for text in texts(count, room, SEED + 1))


def write_deltas(path: Path, count: int) -> None:
    """Write ``count`` stream deltas of `DELTA_CHARS` characters as JSON strings, one a line."""
    (text,) = texts(1, count * DELTA_CHARS, SEED + 2)
    with path.open("w", encoding="ascii") as file:
        file.writelines(
            json.dumps(text[at : at + DELTA_CHARS]) + "\n" for at in range(0, count * DELTA_CHARS, DELTA_CHARS)
        )
