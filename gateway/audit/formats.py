"""Records as others read them: the log's own JSON, OCSF, CEF; and syslog's frame around a message. Pure.

OCSF: https://schema.ocsf.io/1.3.0. CEF: ArcSight Common Event Format, version 25. Syslog: RFC 5424, with the octet counting of
RFC 6587 section 3.4.1 and RFC 5425.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from gateway import __version__
from gateway.audit import records

Format = Callable[[str, bytes, dict[str, Any]], bytes]
"""From a chain's name, a line and the same line parsed to a message without a newline."""

OCSF_VERSION: Final = "1.3.0"

_PRODUCT: Final = {"name": "Portcullis", "vendor_name": "Portcullis", "version": __version__}

# action: OCSF disposition, action and severity; CEF severity; syslog severity (RFC 5424 section 6.2.1)
_ACTIONS: Final = {
    "block": (2, 2, 4, 8, 4),
    "redact": (11, 4, 3, 6, 5),
    "flag": (15, 3, 2, 4, 5),
    "allow": (1, 1, 1, 1, 6),
}
_METHODS: Final = {"POST": 1, "GET": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}
_AUDIT_FACILITY: Final = 13


def json_line(chain: str, line: bytes, _record: dict[str, Any]) -> bytes:
    """The record as it stands in the log, with its chain's name before it."""
    return b'{"chain":"%b",%b' % (chain.encode(), line[1:].rstrip(b"\n"))


def ocsf(chain: str, _line: bytes, record: dict[str, Any]) -> bytes:
    """An OCSF event.

    A decision that did something is a Detection Finding (2004); one that let pass, and a call of the control plane, is API
    Activity (6003); a sign-in is Authentication (3002); all else is a Base Event (0).
    """
    kind = record.get("kind")
    action = str(record.get("action", "allow"))
    disposition, act, severity, _, _ = _ACTIONS.get(action, _ACTIONS["allow"])
    event: dict[str, Any] = {
        "time": int(float(record.get("time", 0)) * 1000),
        "metadata": {"version": OCSF_VERSION, "product": _PRODUCT, "uid": f"{chain}:{record.get('seq')}", "log_name": "audit"},
        "severity_id": 1,
        "message": summary(record),
        "unmapped": {name: value for name, value in record.items() if name not in ("time", "seq")},
    }
    if kind == records.DECISION and action in ("block", "redact", "flag"):
        event |= _class(2, 2004, 1) | {
            "severity_id": severity, "disposition_id": disposition, "action_id": act,
            "finding_info": {"uid": str(record.get("id")), "title": summary(record), "types": _categories(record)},
        }  # fmt: skip
    elif kind in (records.DECISION, records.ADMIN):
        activity = 99 if kind == records.DECISION else _METHODS.get(str(record.get("method")), 99)
        status = int(record.get("status") or 0)
        event |= _class(6, 6003, activity) | {
            "actor": {"user": {"uid": str(record.get("key") or "none"), "domain": str(record.get("tenant", ""))}},
            "api": {"operation": str(record.get("path") or record.get("wire")), "response": {"code": status}},
            "src_endpoint": {"name": f"gateway key {record.get('key') or 'none'}"},
            "status_id": 1 if 0 < status < 400 else 2,
        }  # fmt: skip
    elif kind == records.SIGN_IN:
        event |= _class(3, 3002, 1) | {
            "user": {"uid": str(record.get("key") or "unknown")}, "status_id": 1 if record.get("result") == "done" else 2,
        }  # fmt: skip
    else:
        event |= _class(0, 0, 99)
    return orjson.dumps(event)


def _class(category: int, number: int, activity: int) -> dict[str, int]:
    return {"category_uid": category, "class_uid": number, "activity_id": activity, "type_uid": number * 100 + activity}


def cef(chain: str, _line: bytes, record: dict[str, Any]) -> bytes:
    """A CEF message."""
    kind, action = str(record.get("kind")), record.get("action")
    severity = _ACTIONS.get(str(action), _ACTIONS["allow"])[3]
    head = ["CEF:0", _PRODUCT["vendor_name"], _PRODUCT["name"], _PRODUCT["version"], f"{kind}:{action}" if action else kind,
            summary(record), str(severity)]  # fmt: skip
    fields: dict[str, Any] = {
        "rt": int(float(record.get("time", 0)) * 1000), "externalId": record.get("id"), "act": action,
        "suser": record.get("key"), "app": record.get("wire"), "outcome": record.get("status") or record.get("result"),
        "request": record.get("path"), "requestMethod": record.get("method"), "in": record.get("bytes_in"),
        "out": record.get("bytes_out"), "cat": ",".join(_categories(record)) or None,
        "cs1": record.get("tenant"), "cs1Label": "tenant", "cs2": chain, "cs2Label": "chain",
        "cs3": record.get("policy"), "cs3Label": "policy", "cs4": record.get("model"), "cs4Label": "model",
        "cn1": record.get("seq"), "cn1Label": "seq", "cn2": record.get("generation"), "cn2Label": "generation",
    }  # fmt: skip
    given = {name: value for name, value in fields.items() if value is not None}
    pairs = [
        f"{name}={_extension(value)}"
        for name, value in given.items()
        if not name.endswith("Label") or name.removesuffix("Label") in given
    ]
    return "|".join([head[0], *map(_header, head[1:])]).encode() + ("|" + " ".join(pairs)).encode()


FORMATS: Final[Mapping[str, Format]] = {"json": json_line, "ocsf": ocsf, "cef": cef}


def syslog(message: bytes, record: dict[str, Any], host: str, pid: int) -> bytes:
    """A message in syslog's frame, its length before it."""
    severity = _ACTIONS.get(str(record.get("action", "allow")), _ACTIONS["allow"])[4]
    at = float(record.get("time", 0))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"
    kind = re.sub(r"[^!-~]", "", str(record.get("kind")))[:32] or "-"
    name = re.sub(r"[^!-~]", "", host)[:255] or "-"
    # A byte order mark says that the message is UTF-8 (RFC 5424 section 6.4).
    head = f"<{_AUDIT_FACILITY * 8 + severity}>1 {stamp} {name} portcullis {pid} {kind} - "
    framed = head.encode() + b"\xef\xbb\xbf" + message
    return b"%d %b" % (len(framed), framed)


def summary(record: dict[str, Any]) -> str:
    """One line for people."""
    kind = record.get("kind")
    if kind == records.DECISION:
        return f"{record.get('action')}: {record.get('reason')}"[:400]
    if kind == records.ADMIN:
        return f"{record.get('method')} {record.get('path')}: {record.get('status')}"[:400]
    if kind in (records.SIGN_IN, records.CONFIGURATION):
        return f"{kind}: {record.get('result')}"[:400]
    if kind == records.LOST:
        return f"{record.get('records')} records were given up"
    return f"audit log: {kind}"


def _categories(record: dict[str, Any]) -> list[str]:
    sides = [record.get(name) for name in ("request", "reply")]
    found = [one for side in sides if isinstance(side, dict) for one in side.get("findings", ())]
    return sorted({str(one.get("category")) for one in found if isinstance(one, dict)})


def _header(value: str) -> str:
    return value.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def _extension(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n").replace("\r", "\\r")
