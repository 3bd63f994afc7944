"""The echo model: a stand-in for every provider, for the first run, the tests and the benchmarks.

It speaks all wires of the gateway, whole and streamed, and is deterministic: the same request gets the same
bytes. Tokens are words. It answers ``You said: ...`` with the text of the last user message, or, where tool
results came after that,
``The tool said: ...``. Lines of the last user message may direct it:

- ``say:TEXT`` answers exactly TEXT, which is all that follows, line ends and all;
- ``think:TEXT`` puts TEXT, up to the line's end, before the answer as reasoning;
- ``call:NAME {json}`` calls the tool NAME with these arguments, if the request has tools; several lines,
  several calls;
- ``stop:length`` ends as if the answer had come to its greatest length.

A forced tool choice makes it call that tool, and an asked output schema makes it answer JSON, with values
made up from the schema and the user's text.

`respond` and `stream` are pure; `app` is the same behind ASGI.
"""

from gateway.echo.asgi import app, respond, stream

__all__ = ["app", "respond", "stream"]
