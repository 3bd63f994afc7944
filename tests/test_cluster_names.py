"""Names of clusters: what a person reads, true of the cluster's own texts, and no two alike."""

from __future__ import annotations

import re

import pytest

from detectors.canonical import canonicalise
from detectors.semantic.clusters import of_exemplars
from detectors.semantic.judge import MODELS, SemanticModel
from detectors.semantic.naming import LANGUAGES, LEAST_SHARE, THREAT_SHARE, names
from detectors.semantic.stopwords import STOP_WORDS
from patterns import packs
from patterns.packs import Example

NAME = re.compile(r"(?:(?P<threats>[a-z ]+): )?(?:various, like “(?P<like>.*?)…?”|(?P<terms>.+?))(?: \((?P<languages>[\w ,]+)\))?(?: #\d+)?", re.DOTALL)


@pytest.mark.parametrize("harmless", [False, True])
def test_names_of_the_shipped_exemplars_are_true_and_tell_clusters_apart(harmless: bool) -> None:
    found = of_exemplars(SemanticModel.load(MODELS).index, harmless, 40)
    known = packs.examples("benign" if harmless else "attacks")
    assert len({one.name for one, _ in found}) == len(found) == 40
    mixed = 0
    for cluster, ids in found:
        texts = [known[id] for id in ids]
        said = NAME.fullmatch(cluster.name)
        assert said, cluster.name
        assert (said["threats"] is None) == harmless
        for threat in (said["threats"] or "").split(" and ") if said["threats"] else ():
            alike = [one for one in texts if threat.replace(" ", "_") in one.threat]  # "download and run" is one
            assert len(alike) >= THREAT_SHARE * len(texts), cluster.name
        for language in (said["languages"] or "many languages").split(", "):
            assert language == "many languages" or any(LANGUAGES.get(one.language) == language for one in texts)
        if said["like"] is not None:
            mixed += len(texts)
            assert " ".join(texts[0].text.split()).startswith(said["like"].rstrip("…"))
            continue
        plain = [f"{one.text} | {canonicalise(one.text).text}".casefold() for one in texts]  # with letters that look alike told apart
        terms = said["terms"].split(", ")
        assert 1 <= len(terms) <= 4
        for term in terms:
            assert not {term.split()[0], term.split()[-1]} & STOP_WORDS, cluster.name
            having = sum(term in " ".join(re.sub(r"[^\w\s'’]+|[\d_]+", " ", one).split()) for one in plain)
            assert having >= LEAST_SHARE * len(texts) / 2, (cluster.name, term)
    assert mixed < 0.5 * len(known), "most are about something"


def test_what_is_common_in_a_language_names_nothing() -> None:
    cooking = [Example(f"bitte koche heute die suppe nummer {n}", "", "de") for n in range(9)]
    banking = [Example(f"bitte sende heute das konto nummer {n}", "", "de") for n in range(9)]
    english = [Example(f"please send the account number {n}", "data_exfiltration.api_call_leak", "en") for n in range(9)]
    assert names([cooking, banking, english]) == [
        "heute die suppe, koche (German)", "heute das konto, sende (German)",
        "api call leak: various, like “please send the account number 0”",
    ]  # fmt: skip


def test_a_name_that_is_taken_gets_a_number() -> None:
    group = [Example("one two three", "", "en")]
    assert names([group, group]) == ["various, like “one two three”", "various, like “one two three” #2"]
