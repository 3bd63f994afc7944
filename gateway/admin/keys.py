"""Gateway keys: made, listed, said to be somebody's, revoked."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin.access import require
from gateway.admin.audit import detail
from gateway.audit.records import of_new_key
from gateway.keys import Permission, Principal, Role, checked_name, foreign, make_key
from gateway.live import unenforced
from gateway.services import Services

_FOREIGN: Final = "owner: keys of tenants that this key does not see are of somebody of this name; wanted another one"


class NewKeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(Role.APP, description="What the key is for.")
    tenant: str = Field("default", description="Whose it is; `*` for control-plane roles that see all tenants.")
    policy: Literal["strict", "balanced", "monitor"] | None = Field(
        None, description="A preset that overrides the tenant's policy."
    )
    expires_at: float | None = Field(None, description="UNIX seconds.")
    note: str = Field("", description="For people, shown in listings.")
    owner: str = Field("", description="Whose it is: keys of one owner have one voice among labels and approvals.")


class Ownership(BaseModel):
    """Whose a key is."""

    model_config = ConfigDict(extra="forbid")

    owner: str = Field(description="Keys of one owner have one voice among labels and approvals.")


def routes(app: FastAPI, services: Services) -> None:
    keeper = Depends(require(services, Permission.MANAGE_KEYS))

    @app.get("/admin/v1/keys", tags=["keys"])
    async def list_keys(principal: Principal = keeper) -> dict[str, Any]:
        """Every key ever made that is of a tenant which the caller sees, without what would open anything."""
        return {"keys": [key.shown() for key in await services.state.keys() if principal.sees(key.tenant)]}

    @app.post("/admin/v1/keys", tags=["keys"], status_code=201)
    async def create_key(wanted: NewKeyRequest, request: Request, principal: Principal = keeper) -> dict[str, Any]:
        """Make a key. Its token is in this reply and nowhere else."""
        if not principal.sees(wanted.tenant):
            raise HTTPException(403, "this key makes keys of its own tenant only")
        if foreign(wanted.owner, await services.state.keys(), principal):
            raise HTTPException(403, _FOREIGN)
        if wanted.policy is not None and (why := unenforced(wanted.policy, services.live.settings.detection)):
            raise HTTPException(422, f"policy: {wanted.policy} cannot be enforced: {why}; turn it on, or take balanced")
        try:
            made = make_key(
                wanted.role, wanted.tenant, time.time(), policy=wanted.policy, expires_at=wanted.expires_at,
                note=wanted.note, owner=wanted.owner,
            )  # fmt: skip
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        await services.state.put_key(made.key)
        await services.keys.refresh()
        detail(request, **of_new_key(made.key))
        return {**made.key.shown(), "token": made.token}

    @app.patch("/admin/v1/keys/{key_id}", tags=["keys"])
    async def own_key(key_id: str, wanted: Ownership, request: Request, principal: Principal = keeper) -> dict[str, Any]:
        """Say whose a key is that was made without an owner; once, and what was said with it before is his, too."""
        keys = await services.state.keys()
        if key_id not in {key.id for key in keys if principal.sees(key.tenant)}:
            raise HTTPException(404, "there is no key with this id")
        if foreign(wanted.owner, keys, principal):
            raise HTTPException(403, _FOREIGN)
        try:
            owner = checked_name("owner", wanted.owner)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        key = await services.state.own_key(key_id, owner)
        assert key is not None  # keys are revoked, and never removed
        if key.owner != owner:
            raise HTTPException(409, f"owner: the key is {key.owner}'s already; revoke it, and make another one")
        await services.keys.refresh()
        detail(request, owned=key_id, owner=owner)
        return key.shown()

    @app.delete("/admin/v1/keys/{key_id}", tags=["keys"])
    async def revoke_key(key_id: str, principal: Principal = keeper) -> dict[str, Any]:
        """Revoke a key; every worker follows within about a second."""
        theirs = {key.id for key in await services.state.keys() if principal.sees(key.tenant)}
        if key_id not in theirs or not await services.state.revoke_key(key_id, time.time()):
            raise HTTPException(404, "there is no key with this id")
        await services.keys.refresh()
        return {"id": key_id, "revoked": True}
