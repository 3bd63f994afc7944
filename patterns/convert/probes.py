"""Lists of attack prompts as red-teaming tools keep them: garak's prompt files and records, and promptfoo's test cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from patterns import yamls
from patterns.convert.base import Converted, Fault, Unreadable, exemplar, text
from patterns.schema import MAX_BODY


def read_garak(data: bytes) -> Iterator[Converted | Fault]:
    """One prompt a line, a JSON list of prompts, or garak's own records: JSON lines with ``prompt``."""
    first = data.lstrip()[:1]
    if first == b"[" and isinstance(prompts := _json(data), list):  # a prompt may begin with a bracket, too
        for number, prompt in enumerate(prompts):
            yield _prompt(f"[{number}]", prompt)
        return
    if first == b"{":
        record = _json(data.strip().partition(b"\n")[0])
        if isinstance(record, dict) and "prompt" in record:
            yield from _records(data)
            return
        if isinstance(_json(data), dict):
            raise Unreadable("wanted one prompt a line, a JSON list of them, or JSON lines with `prompt`")
    for number, line in enumerate(text(data).splitlines(), 1):
        if line.strip():
            yield _prompt(f"line {number}", line.strip())


def _records(data: bytes) -> Iterator[Converted | Fault]:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            record = _json(line)
            yield _prompt(f"line {number}: prompt", _asked(record.get("prompt")) if isinstance(record, dict) else None)


def _json(source: bytes) -> Any:
    """What it says; None where it is not JSON."""
    try:
        return orjson.loads(source)
    except orjson.JSONDecodeError:
        return None


def _asked(prompt: Any) -> Any:
    """A record's prompt: a text, or the last turn's of a conversation."""
    turns = prompt.get("turns") if isinstance(prompt, dict) else None
    content = turns[-1].get("content") if isinstance(turns, list) and turns and isinstance(turns[-1], dict) else prompt
    return content.get("text") if isinstance(content, dict) else content


def read_promptfoo(data: bytes) -> Iterator[Converted | Fault]:
    """Test cases (``tests`` of a configuration, or a list): variable ``prompt``, ``query`` or ``input``, or the only one. Of
    one that lists values each is a case, as promptfoo has it."""
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
        named = [name for name in ("prompt", "query", "input") if name in variables]
        names = named[:1] or (list(variables) if len(variables) == 1 else [])
        if not names:
            yield Fault(where, "which of its variables is the prompt?")
            continue
        value = variables[names[0]]
        for prompt in value if isinstance(value, list) else [value]:
            yield _prompt(f"{where}: vars.{names[0]}", prompt)


def _prompt(where: str, prompt: Any) -> Converted | Fault:
    if not isinstance(prompt, str) or not 0 < len(prompt) <= MAX_BODY:
        return Fault(where, f"wanted a text of 1 to {MAX_BODY} code points")
    if prompt.startswith("file://"):
        return Fault(where, "a prompt that stands in another file is not fetched")
    return Converted(where, "", exemplar(prompt, attack=True))
