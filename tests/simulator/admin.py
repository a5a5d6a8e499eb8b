"""``/_sim/…``: steering a simulator from another process.

Does: statistics, sessions, faults, accounts, clients, consent, options, and the account events.
Does not: exist on any real server; faults never apply to it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from tests.simulator.faults import Fault
from tests.simulator.wire import Request, Response, json_response

if TYPE_CHECKING:
    from tests.simulator.core import Simulator

ACTIONS = ("takedown", "delete_account", "deactivate", "reactivate", "revoke_app_password", "revoke_sessions")


def admin(sim: Simulator, request: Request) -> Response:
    """Answer an admin request; what it can't understand is a 400 with the reason."""
    try:
        body = json.loads(request.body) if request.body else {}
        return json_response(
            200, _admin(sim, request.method, request.path.removeprefix("/_sim/"), request, body)
        )
    except (ValueError, KeyError, TypeError) as error:
        return json_response(400, {"error": type(error).__name__, "message": str(error)})


def _admin(sim: Simulator, method: str, name: str, request: Request, body: dict[str, Any]) -> Any:
    match method, name:
        case "GET", "stats":
            return sim.stats()
        case "GET", "sessions":
            return [asdict(info) for info in sim.sessions(request.query.get("did"))]
        case "POST", "faults":
            sim.faults.add(Fault.from_json(body))
            return {"faults": len(sim.faults)}
        case "DELETE", "faults":
            sim.faults.clear()
            return {"faults": 0}
        case "POST", "accounts":
            return seed(sim, **body)
        case "POST", "options":
            known = {f.name for f in fields(sim.options)}
            for key, value in body.items():
                if key not in known:
                    raise ValueError(f"unknown option: {key}")
                setattr(sim.options, key, value)
            return asdict(sim.options)
        case "POST", "clients":
            client = sim.add_client(body["client_id"], body["jwks"], body.get("redirect_uris", ()))
            return {"client_id": client.client_id}
        case "POST", "consent":
            sim.set_consent(body["consent"])
            return {"consent": body["consent"]}
        case "POST", "restart":
            sim.restart()
            return {}
        case "POST", action if action in ACTIONS:
            getattr(sim, action)(body["did"])
            return {}
    raise ValueError(f"no such call: {method} {name}")


def seed(
    sim: Simulator,
    handle: str,
    password: str = "app-password",
    oauth: int = 0,
    legacy: int = 0,
    alg: str = "ES256",
    email_code: str | None = None,
    client_id: str | None = None,
) -> dict[str, Any]:
    """A new account with so many sessions of each kind; OAuth's are of this client."""
    account = sim.add_account(handle, password)
    account.email_code = email_code
    return {
        "did": account.did,
        "handle": account.handle,
        "password": account.password,
        "oauth": [sim.seed_oauth(account, alg=alg, client_id=client_id) for _ in range(oauth)],
        "legacy": [sim.seed_legacy(account) for _ in range(legacy)],
    }
