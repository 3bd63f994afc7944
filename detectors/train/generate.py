"""Training texts of our own: attacks and their benign twins, documents with and without something planted in them.

The principle: an attack and its twin share source, length, language and words, so that only the attack differs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from detectors.semantic.windows import WINDOW
from detectors.train.augment import crop, disguise, vary
from detectors.train.grammar import Grammar
from detectors.train.sources import UNKNOWN, labels

LANGUAGES: Final = ("de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "zh", "ja", "ko", "ar", "hi", "vi", "sv", "id")

HOSTILE: Final = labels(user=1.0, document=1.0, tool_result=1.0)
HARMLESS: Final = labels(user=0.0, system=0.0, assistant=0.0)
DOCUMENT: Final = labels(user=0.0, system=0.0, assistant=0.0, document=0.0, tool_result=0.0)
PLANTED: Final = labels(document=1.0, tool_result=1.0)
PLANTED_PLAIN: Final = labels(user=0.0, document=1.0, tool_result=1.0)
PLANTED_HOSTILE: Final = HOSTILE
SYSTEM: Final = labels(system=0.0, user=0.0)
TOOL: Final = labels(tool_definition=0.0, user=0.0, document=0.0, tool_result=0.0)
POISONED: Final = labels(tool_definition=1.0, document=1.0, tool_result=1.0)
ASSISTANT: Final = labels(assistant=0.0, user=0.0, document=0.0)
ASSISTANT_HOSTILE: Final = labels(assistant=1.0)

NEUTRAL_SHARE: Final = 0.62
"""Framed requests under a frame that is no attack by itself: what is asked for decides."""

OTHER_LANGUAGES: Final = 0.08
"""Share of foreign texts in languages that have a few templates only."""

_HOSTILE_FRAMES: Final = ("prompt_injection.", "data_exfiltration.", "agent_abuse.")
_JOINT = re.compile(r"(?<=[.!?。])\s+|\n+|(?<=\"): \"|\", \"|<p>|</p>|, ")


@dataclass(frozen=True, slots=True)
class Example:
    """One training text, at most a window long: a label per origin (`sources.ORIGINS`) and where it comes from."""

    text: str
    labels: tuple[float, ...]
    group: str
    lang: str = "en"
    category: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pools:
    """Texts to build with: ``documents`` to plant in, ``orders`` to plant, ``chat`` to surround attacks with, and
    ``harm``, forbidden requests that become attacks in a frame."""

    documents: Sequence[str]
    orders: Sequence[str]
    chat: Sequence[str]
    harm: Sequence[str]


def attack_sections(grammar: Grammar) -> list[str]:
    """Sections of what a user attacks with: those named after a threat."""
    return [name for name in grammar.sections if "." in name]


def twin_sections(grammar: Grammar) -> list[str]:
    """Sections of harmless texts with an attack's words; in other files than ``benign_user`` their names end in ``_twin``."""
    named = [*grammar.names("benign_user"), "trigger_words", "ordinary_life", "persona_benign", "llm_talk"]
    return [name for name in named if name != "override_quote"] + [name for name in grammar.sections if name.endswith("_twin")]


def carrier_sections(grammar: Grammar) -> list[str]:
    """Sections of whole documents, something to plant in."""
    old = [name for name in grammar.names("documents") if not name.endswith(("_sentence", "_title")) and name != "neutral"]
    return old + [name for name in grammar.sections if name.endswith("_wild") and name not in _SENTENCES]


_SENTENCES: Final = frozenset({"sys_rule_wild", "tool_wild"})


class Generator:
    """Draws examples; the same seed and pools give the same ones. ``held_out`` as in `Grammar.text`."""

    def __init__(self, grammar: Grammar, pools: Pools, seed: int, held_out: bool | None) -> None:
        self._grammar, self._pools, self._held_out = grammar, pools, held_out
        self._rng = random.Random(seed)
        self._attacks = attack_sections(grammar)
        self._twins = twin_sections(grammar)
        self._carriers = carrier_sections(grammar)

    def draw(self, plan: dict[str, int]) -> Iterator[Example]:
        """As many examples of each kind as ``plan`` says; its keys are the names of the public methods below."""
        for kind, count in plan.items():
            maker: Callable[[], Example] = getattr(self, kind)
            for _ in range(count):
                yield maker()

    def attack(self) -> Example:
        """An attack by a user, alone or amid ordinary talk."""
        rng, section = self._rng, self._section(self._attacks)
        text = vary(self._text(section), rng)
        if rng.random() < 0.08:
            text = disguise(text, rng)
        return Example(self._surround(text), HOSTILE, "own:attack", category=section)

    def twin(self) -> Example:
        """Harmless text with an attack's words; among them texts that quote an attack."""
        rng, section = self._rng, self._section(self._twins)
        text = vary(crop(self._text(section), WINDOW, rng), rng)
        if rng.random() < 0.06:
            text = disguise(text, rng)
        doubtful = any(q in text for q in ('"', "'")) and section == "security_talk"
        return Example(self._surround(text), HARMLESS, "own:twin", category=section, weight=0.8 if doubtful else 1.0)

    def framed(self) -> Example:
        """A request within a story, a role or a thought experiment: an attack where it is for something forbidden.

        A frame that itself lifts the rules is an attack around anything.
        """
        rng = self._rng
        neutral, forbidden = rng.random() < NEUTRAL_SHARE, rng.random() < 0.5
        if neutral and not forbidden and rng.random() < 0.25:
            ask, frame = self._chat(), "$ask"  # long questions without any frame
        else:
            ask = rng.choice(self._pools.harm if forbidden else self._pools.orders)
            roll = "suffix_frame" if forbidden and rng.random() < 0.12 else "neutral_frame" if neutral else "hostile_frame"
            frame = self._text(roll)
        text = vary(frame.replace("$ask", ask[: WINDOW // 2]), rng)
        hostile = forbidden or not neutral
        return Example(
            text[:WINDOW], HOSTILE if hostile else HARMLESS, "own:framed" if hostile else "own:framed_twin",
            category="jailbreak.fiction_frame" if neutral else "jailbreak.safety_disable",
            weight=1.0 if forbidden or neutral else 0.7,
        )

    def foreign_attack(self) -> Example:
        """An attack in another language, now and then among English or its own language's harmless text."""
        rng, lang = self._rng, self._rng.choice(LANGUAGES)
        if rng.random() < OTHER_LANGUAGES:
            return Example(vary(self._text("attack_other"), rng), HOSTILE, "own:foreign_attack", "other", "prompt_injection")
        text = vary(self._text(f"attack_{lang}"), rng)
        if rng.random() < 0.35:
            other = self._text(rng.choice((f"benign_{lang}", f"plain_{lang}"))) if rng.random() < 0.7 else self._chat()
            text = rng.choice([f"{other} {text}", f"{text} {other}", f"{other}\n{text}"])
        return Example(crop(text, WINDOW, rng), HOSTILE, "own:foreign_attack", lang, "prompt_injection")

    def foreign_twin(self) -> Example:
        """Harmless text in another language, with an attack's words where the seeds have them."""
        rng, lang = self._rng, self._rng.choice(LANGUAGES)
        if rng.random() < OTHER_LANGUAGES:
            return Example(vary(self._text("benign_other"), rng), HARMLESS, "own:foreign_twin", "other")
        if rng.random() < OTHER_LANGUAGES:
            return Example(vary(self._text("ordinary_foreign"), rng), HARMLESS, "own:foreign_twin", "other")
        sections = (f"benign_{lang}", f"plain_{lang}")
        text = " ".join(vary(self._text(rng.choice(sections)), rng) for _ in range(rng.choice((1, 1, 2, 3))))
        return Example(crop(text, WINDOW, rng), HARMLESS, "own:foreign_twin", lang)

    def planted(self) -> Example:
        """A document in which someone planted an order to the assistant that reads it."""
        plant, known, category = self._plant()
        text = self._insert(self._carrier(), plant)
        return Example(text, known, "own:planted", category=category)

    def document(self) -> Example:
        """The same documents without a plant, or with a harmless sentence in its place."""
        rng, carrier = self._rng, self._carrier()
        if rng.random() < 0.4:
            return Example(crop(carrier, self._length(), rng), DOCUMENT, "own:document")
        section = rng.choices(("neutral", "neutral_note", "trap", ""), (4, 3, 2, 2))[0]
        other = self._text(section) if section else crop(self._carrier(), rng.randint(40, 160), rng)
        return Example(self._insert(carrier, other), DOCUMENT, "own:document")

    def foreign_planted(self) -> Example:
        """A document of another language with an order planted in that language or in English."""
        rng, lang = self._rng, self._rng.choice(LANGUAGES)
        hostile = rng.random() < 0.4
        plant = self._text(f"attack_{lang}" if hostile else f"planted_{lang}")
        carrier = self._text(f"document_{lang}") if rng.random() < 0.7 else self._carrier()
        known = HOSTILE if hostile else PLANTED
        return Example(self._insert(carrier, plant), known, "own:foreign_planted", lang, "prompt_injection")

    def foreign_document(self) -> Example:
        """Documents of another language."""
        rng, lang = self._rng, self._rng.choice(LANGUAGES)
        sections = (f"document_{lang}", f"document_{lang}", f"plain_{lang}")
        text = " ".join(self._text(rng.choice(sections)) for _ in range(rng.choice((1, 2, 3))))
        return Example(crop(text, WINDOW, rng), DOCUMENT, "own:foreign_document", lang)

    def trusted(self) -> Example:
        """System prompts, tool definitions (some poisoned) and the assistant's own words (some hostile)."""
        rng, roll = self._rng, self._rng.random()
        if roll < 0.40:
            return Example(crop(self._text("system"), WINDOW, rng), SYSTEM, "own:system")
        if roll < 0.58:
            return Example(crop(self._text("tool"), WINDOW, rng), TOOL, "own:tool")
        if roll < 0.72:
            poison = self._text("tool_poison")
            text = poison if rng.random() < 0.15 else self._insert(self._text("tool"), poison)
            return Example(text, POISONED, "own:poisoned", category="agent_abuse.tool_poisoning")
        if roll < 0.88:
            return Example(crop(self._text("assistant"), WINDOW, rng), ASSISTANT, "own:assistant")
        hostile = self._text("assistant_attack")
        text = hostile if rng.random() < 0.4 else self._insert(self._text("assistant"), hostile)
        return Example(text, ASSISTANT_HOSTILE, "own:assistant_attack", category="data_exfiltration")

    def order(self) -> Example:
        """The planted orders alone, as a user gives them: harmless there."""
        rng, section = self._rng, self._rng.choice(("order", "plain_order"))
        text = vary(self._text(section), rng)
        return Example(self._surround(text), labels(user=0.0), "own:order", weight=0.5 if section == "order" else 1.0)

    def _plant(self) -> tuple[str, tuple[float, ...], str]:
        rng, roll = self._rng, self._rng.random()
        if roll < 0.45:
            order = vary(rng.choice(self._pools.orders), rng)
            return order, PLANTED_PLAIN, "prompt_injection.planted_instruction"
        if roll < 0.80:
            text = vary(self._text("frame"), rng)
            known = tuple(UNKNOWN if known == 0.0 else known for known in PLANTED)
            return text, known, "agent_abuse.unauthorised_action"
        section = rng.choice([name for name in self._attacks if name.startswith(_HOSTILE_FRAMES)])
        return vary(self._text(section), rng), PLANTED_HOSTILE, section

    def _carrier(self) -> str:
        rng = self._rng
        if rng.random() < 0.5:
            return self._text(rng.choice(self._carriers))
        return crop(rng.choice(self._pools.documents), rng.randint(150, 600), rng)

    def _insert(self, carrier: str, plant: str) -> str:
        """Plant a text at the start, at a joint inside or at the end, then cut to a window that holds it whole."""
        rng = self._rng
        plant = plant[: WINDOW - 40]
        where = rng.random()
        if where < 0.2:
            at = 0
        elif where < 0.45:
            at = len(carrier)
        else:
            joints = [match.end() for match in _JOINT.finditer(carrier)]
            at = rng.choice(joints) if joints else len(carrier)
        left = rng.choice((" ", " ", "\n", "\n\n", "")) if at else ""
        right = rng.choice((" ", " ", "\n", "\n\n")) if at < len(carrier) else ""
        text = carrier[:at] + left + plant + right + carrier[at:]
        low = at + len(left)
        return crop(text, max(self._length(), len(plant) + 1), rng, (low, low + len(plant)))

    def _surround(self, text: str) -> str:
        rng = self._rng
        text = text[:WINDOW]
        if rng.random() < 0.5:
            return text
        before = self._chat() if rng.random() < 0.6 else ""
        after = self._chat() if rng.random() < 0.5 else ""
        joint = rng.choice((" ", " ", "\n", "\n\n", ". "))
        whole = joint.join(part for part in (before, text, after) if part)
        low = len(before) + len(joint) if before else 0
        return crop(whole, WINDOW, rng, (low, low + len(text)))

    def _chat(self) -> str:
        rng = self._rng
        if rng.random() < 0.3:
            return crop(self._carrier(), rng.randint(40, 200), rng)
        return crop(rng.choice(self._pools.chat), rng.randint(30, 250), rng)

    def _section(self, sections: Sequence[str]) -> str:
        return self._rng.choices(sections, self._grammar.weights(sections))[0]

    def _text(self, section: str) -> str:
        return self._grammar.text(section, self._rng, self._held_out)

    def _length(self) -> int:
        return self._rng.randint(140, WINDOW)
