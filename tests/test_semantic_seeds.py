"""The seeds and the generators: every slot resolves, the same seed gives the same texts, twins carry the labels they should."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from detectors.semantic.heads import ORIGINS
from detectors.semantic.windows import WINDOW
from detectors.train.generate import Generator, attack_sections
from detectors.train.grammar import Grammar, SeedError
from detectors.values import Origin
from patterns.taxonomy import CATEGORIES, split


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar()


def test_seeds_of_exemplars_alone_are_threats_with_their_twins(grammar: Grammar) -> None:
    from detectors.train.exemplars import THREATS, of_threats

    found = of_threats(Grammar(THREATS))
    assert found == of_threats(Grammar(THREATS))
    told = {example.category for example in found if example.category}
    for threat in told:
        assert split(threat)[0] in {name for name, category in CATEGORIES.items() if category.attack}
    assert not told & set(grammar.sections), "the training draws them already"
    sections = set(Grammar(THREATS).sections)
    assert {f"{threat}_twin" for threat in told} <= sections
    assert len({example.lang for example in found}) >= 12
    attacks, harmless = ({one.text for one in found if bool(one.category) == attack} for attack in (True, False))
    assert not attacks & harmless
    assert max(len(text) for text in attacks | harmless) <= WINDOW


def test_every_section_gives_texts_without_leftovers(grammar: Grammar) -> None:
    rng = random.Random(1)
    for section in grammar.sections:
        for _ in range(20):
            text = grammar.text(section, rng)
            assert text
            assert "$" + section not in text


def test_attack_sections_are_threats_of_the_taxonomy(grammar: Grammar) -> None:
    named = [name for name in attack_sections(grammar) if name != "jailbreak.long_persona"]
    for name in named:
        split(name)
    covered = {name.partition(".")[0] for name in named}
    assert covered == {name for name, category in CATEGORIES.items() if category.attack}


def test_held_out_templates_are_a_fixed_part(tmp_path: Path) -> None:
    (tmp_path / "x.seeds").write_text("# s\n" + "\n".join(f"text {i}" for i in range(10)) + "\n", "utf-8")
    grammar = Grammar(tmp_path)
    kept = {grammar.text("s", random.Random(i), held_out=False) for i in range(200)}
    held = {grammar.text("s", random.Random(i), held_out=True) for i in range(200)}
    assert held == {"text 2", "text 7"}
    assert not kept & held
    assert len(kept) == 8


@pytest.mark.parametrize(
    ("template", "wanted"),
    [("(a|a) b", "a b"), ("((a|a)|a)", "a"), ("(no choice)", "(no choice)"), ("$5 and \\$s", "$5 and $s"),
     ("x\\ny", "x\ny"), ("$word.", "moon."), ("$word.com", "moon.com"), ("a \\| b", "a | b")],
)
def test_grammar(tmp_path: Path, template: str, wanted: str) -> None:
    (tmp_path / "x.seeds").write_text(f"# s\n{template}\n# word\nmoon\n", "utf-8")
    assert Grammar(tmp_path).text("s", random.Random(0)) == wanted


@pytest.mark.parametrize("text", ["no header\n", "# a\nx\n# a\ny\n"])
def test_a_broken_seed_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.seeds").write_text(text, "utf-8")
    with pytest.raises(SeedError):
        Grammar(tmp_path)


def test_a_section_that_names_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.seeds").write_text("# s\nagain $s\n", "utf-8")
    with pytest.raises(SeedError, match="names itself"):
        Grammar(tmp_path).text("s", random.Random(0))


def test_generated_texts_fit_a_window_and_repeat_with_the_seed(grammar: Grammar) -> None:
    from detectors.train.exemplars import own_pools

    plan = dict.fromkeys(
        ("attack", "twin", "framed", "foreign_attack", "foreign_twin", "planted", "document", "foreign_planted", "foreign_document",
         "trusted", "order"), 30)
    first, second = (list(Generator(grammar, own_pools(grammar, 3), 4, None).draw(plan)) for _ in range(2))
    assert first == second
    user, document = ORIGINS.index(Origin.USER), ORIGINS.index(Origin.DOCUMENT)
    for example in first:
        assert len(example.text) <= WINDOW + 1
        assert len(example.labels) == len(ORIGINS)
        if example.group in ("own:attack", "own:foreign_attack"):
            assert example.labels[user] == 1.0
        if example.group in ("own:planted", "own:foreign_planted"):
            assert example.labels[document] == 1.0
        if example.group in ("own:document", "own:foreign_document"):
            assert example.labels[document] == 0.0
