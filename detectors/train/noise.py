"""Rows whose label their text does not bear out: in-the-wild collections were sorted by where a prompt was posted.

A fifth of the prompts collected as jailbreaks hold no sign of one (plain role-play, a shell, a rap), and a quarter of
their "regular" twins lift the rules in so many words. Both are left out of training, never out of what is measured.
"""

from __future__ import annotations

import re
from typing import Final

from detectors.train.sources import Row

_RULES: Final = (
    r"restrict|limit|filter|rules?\b|guideline|polic|ethic|moral|censor|instruct|program|openai|safety|boundar|constraint"
)

SIGNS: Final = re.compile(
    rf"""jailbreak | \bDAN\b | do\ anything\ now | un(?:filtered|censored|restricted|ethical) | illegal | immoral | amoral
    | (?:no|without|ignore|bypass|disregard|free\ (?:of|from)|bound|break|broken|override|forget|remove|lift|disable|defy)
      \W+ (?:\w+\W+){{0,6}} (?:{_RULES})
    | (?:never|not|cannot|can't|don't|no) \ (?:\w+\ ){{0,3}} (?:refus|reject|declin|deny|apologi|say\ (?:no|sorry)|warn|judge)
    | harmful | offensive | NSFW | profan | swear | vulgar | explicit | erotic | sexual | evil | hack | racis
    | developer\ mode | regardless\ of | break\ character | stay\ (?:in|a|as) | openai | as\ an\ ai | language\ model""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a jailbreak says somewhere; a prompt without any of it is none. Harmless prompts may say some of it as well."""

CLEAR: Final = re.compile(
    r"""jailbreak | do\ anything\ now | un(?:filtered|censored|restricted|ethical) | immoral | anti-?gpt
    | (?:no|without|any) \ (?:\w+\ ){0,2} (?:restrictions|limitations|ethic|moral|censor)
    | (?:ignore|bypass|disregard|no\ longer\ bound|broken\ free|forget) \ (?:\w+\ ){0,4} (?:restrict|filter|rules|guideline
      |policy|policies|ethic|moral|instruction|previous|i\ told)
    | (?:never|cannot|can't|don't|not) \ (?:\w+\ ){0,2} (?:refuse|reject|decline) | no\ matter\ the\ moral""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a harmless prompt of these collections does not say."""


def doubtful_label(row: Row) -> bool:
    """Whether a row of an in-the-wild collection reads as the opposite of its label."""
    if row.source == "verazuo_jailbreaks":
        return row.lang == "en" and not SIGNS.search(row.text)
    return row.source == "verazuo_regular" and CLEAR.search(row.text) is not None
