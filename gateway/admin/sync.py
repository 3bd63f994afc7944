"""Replicas: who there is, who lags and why, and who holds a revision."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Depends, FastAPI, HTTPException

from gateway.admin.access import require
from gateway.keys import Permission
from gateway.services import Services
from gateway.sync import status
from gateway.sync.ledger import fingerprint
from patterns.entries import encode


def routes(app: FastAPI, services: Services) -> None:
    reader = Depends(require(services, Permission.READ_DECISIONS))

    @app.get("/admin/v1/sync", tags=["sync"], dependencies=[reader])
    async def sync_status() -> dict[str, Any]:
        """The state of pattern sync: peers with their lag and the reason in words, members, and what was refused."""
        service = services.sync
        if service is None:
            return {"enabled": False, "summary": "pattern sync is off: sync.listen is not set"}
        now = time.time()
        report = status.report(service, now) if service.runs else status.read(services.live.settings.data_dir, now)
        if report is None:
            return {"enabled": True, "summary": "no worker runs pattern sync at this moment"}
        return {"enabled": True, **{name: value for name, value in report.items() if name != "revisions"}}

    @app.get("/admin/v1/sync/entries/{pattern_id}", tags=["sync"], dependencies=[reader])
    async def replication(pattern_id: str) -> dict[str, Any]:
        """Which replicas hold the revision of a pattern that stands here, and whether they are a quorum.

        It is followed for five minutes, on the gateway where the revision was made.
        """
        service = services.sync
        entry = None if service is None else service.store.entries().get(pattern_id)
        if service is None or entry is None:
            raise HTTPException(404, "there is no such pattern in the store, or pattern sync is off")
        one = fingerprint(encode(entry)).hex()
        now = time.time()
        report = status.report(service, now) if service.runs else status.read(services.live.settings.data_dir, now)
        for revision in (report or {}).get("revisions", []):
            if revision["fingerprint"] == one:
                return {"pattern": pattern_id, **revision}
        raise HTTPException(404, "this revision was not made at this gateway in the last minutes")
