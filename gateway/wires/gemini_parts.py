"""What the parts of Gemini's messages and replies are, as tables, in both spellings of every field."""

from __future__ import annotations

import re
from typing import Any, Final

from detectors.values import Origin
from gateway.wires.blocks import (
    DOCUMENT,
    JSON,
    MEDIA,
    NAME,
    SCHEMA,
    SETTING,
    TEXT,
    WALK,
    Field,
    Shape,
    Table,
    hidden,
    inside,
)
from gateway.wires.collecting import words
from gateway.wires.numbering import asked

_CAPITAL: Final = re.compile("[A-Z]")


def spellings(name: str) -> tuple[str, ...]:
    """A field's name in lowerCamelCase, and in snake_case where that differs."""
    snake = _CAPITAL.sub(lambda letter: "_" + letter.group().lower(), name)
    return (name,) if snake == name else (name, snake)


def candidates_asked(doc: dict[str, Any]) -> int | None:
    """How many candidates a request asks for."""
    configs = [doc[key] for key in spellings("generationConfig") if isinstance(doc.get(key), dict)]
    counts = [config[key] for config in configs for key in spellings("candidateCount") if config.get(key) is not None]
    return asked(counts[0] if counts else None) if len(counts) < 2 else None


def names(*lines: str) -> frozenset[str]:
    """Field names, parted by spaces, in both spellings."""
    return frozenset(spelling for name in words(*lines) for spelling in spellings(name))


def _both(settings: str = "", origin: Origin | None = None, role: str = "", **fields: Field) -> Shape:
    twice = {spelling: field for name, field in fields.items() for spelling in spellings(name)}
    return Shape({**dict.fromkeys(names(settings), SETTING), **twice}, origin, role)


_CALL: Final[Table] = {"": _both("id willContinue toolType", Origin.ASSISTANT, "tool_call", args=JSON, name=WALK)}
_BLOB: Final[Table] = {"": _both("mediaResolution videoMetadata", inlineData=MEDIA, fileData=MEDIA)}
_RESULT: Final[Table] = {
    "": _both(
        "id willContinue scheduling toolType",
        Origin.TOOL_RESULT,
        "tool_result",
        response=JSON,
        name=NAME,
        parts=inside(_BLOB),
    )
}
_CODE: Final[Table] = {"": _both("id language", Origin.ASSISTANT, "tool_call", code=WALK)}
_RAN: Final[Table] = {"": _both("id outcome", Origin.TOOL_RESULT, "tool_result", output=JSON)}

PARTS: Final[Table] = {
    "": _both(
        "thought thoughtSignature videoMetadata mediaResolution mediaProcessing",
        text=TEXT,
        inlineData=MEDIA,
        fileData=MEDIA,
        functionCall=inside(_CALL),
        functionResponse=inside(_RESULT),
        toolCall=inside(_CALL),
        toolResponse=inside(_RESULT),
        executableCode=inside(_CODE),
        codeExecutionResult=inside(_RAN),
    )
}

CONFIG: Final[Table] = {
    "": _both(
        "temperature topP topK candidateCount maxOutputTokens presencePenalty frequencyPenalty seed logprobs "
        "responseMimeType responseLogprobs responseModalities mediaResolution thinkingConfig imageConfig "
        "enableEnhancedCivicAnswers audioTimestamp",
        responseSchema=SCHEMA,
        responseJsonSchema=SCHEMA,
        responseFormat=SCHEMA,
    )
}

_CONTENT: Final[Table] = {"": _both("role", parts=inside(PARTS))}
CANDIDATE: Final[Table] = {
    "": _both(
        "index finishReason safetyRatings tokenCount avgLogprobs continuationToken",
        content=inside(_CONTENT),
        finishMessage=WALK,
        citationMetadata=DOCUMENT,
        groundingMetadata=DOCUMENT,
        groundingAttributions=DOCUMENT,
        urlContextMetadata=DOCUMENT,
        logprobsResult=hidden("token probabilities"),
    )
}

MODEL: Final[Table] = {
    "": _both(
        "name baseModelId version displayName inputTokenLimit outputTokenLimit supportedGenerationMethods "
        "models nextPageToken temperature maxTemperature topP topK thinking",
    )
}
