"""What tests do to the servers behind the clients' backs: seed, take down, revoke, restart.

Does: change the state directly.
Does not: go through any request, or count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from joserfc.jwk import ECKey

from tests.simulator import seeding
from tests.simulator.state import SCOPE, Account, Client, LegacySession, OAuthSession, State


class Steering:
    """The half of a simulator that tests speak to; `Simulator` adds the half that clients speak to."""

    state: State

    def add_account(self, handle: str, password: str = "app-password", *, did: str | None = None) -> Account:
        """A new account."""
        return seeding.add_account(self.state, handle, password, did)

    def add_client(
        self,
        client_id: str,
        jwks: dict[str, Any] | list[dict[str, Any]],
        redirect_uris: Sequence[str] = (),
    ) -> Client:
        """Publish a client's metadata: confidential if ``jwks`` has keys."""
        return seeding.add_client(self.state, client_id, jwks, redirect_uris)

    def set_consent(self, consent: str) -> None:
        """What people do at the authorize page: ``allow``, ``deny``, or the DID or handle that signs in instead."""
        self.state.consent = consent

    def seed_oauth(
        self,
        account: Account,
        *,
        client_id: str | None = None,
        dpop_key: ECKey | None = None,
        alg: str = "ES256",
        client_key_id: str | None = None,
        scope: str = SCOPE,
    ) -> dict[str, Any]:
        """A new DPoP-bound session, as a session record."""
        return seeding.seed_oauth(
            self.state,
            account,
            client_id=client_id,
            dpop_key_=dpop_key,
            alg=alg,
            client_key_id=client_key_id,
            scope=scope,
        )

    def seed_legacy(self, account: Account) -> dict[str, Any]:
        """A new app-password session, as a session record."""
        return seeding.seed_legacy(self.state, account)

    def takedown(self, did: str) -> None:
        """Take an account down; its OAuth sessions are gone with it."""
        self._end_account(did, "takendown")

    def delete_account(self, did: str) -> None:
        """Delete an account."""
        self._end_account(did, "deleted")

    def deactivate(self, did: str) -> None:
        """Deactivate an account; its sessions go on."""
        self.state.accounts[did].status = "deactivated"

    def reactivate(self, did: str) -> None:
        """Undo a takedown or deactivation; sessions that ended stay ended."""
        self.state.accounts[did].status = "active"

    def change_password(self, did: str, password: str) -> None:
        """Change the password; OAuth sessions go on."""
        self.state.accounts[did].password = password

    def revoke_app_password(self, did: str) -> None:
        """Revoke the app password, and with it the legacy sessions."""
        self._kill_all(did, "app password revoked", self.state.legacy_sessions)

    def revoke_sessions(self, did: str) -> None:
        """End every session of an account from the server's side (its owner's sign-out everywhere)."""
        self._kill_all(did, "revoked", [*self.state.oauth_sessions, *self.state.legacy_sessions])

    def migrate(self, did: str, pds_url: str) -> None:
        """Point the DID document to another PDS."""
        self.state.accounts[did].pds_url = pds_url

    def restart(self) -> None:
        """Restart the servers: sessions stay, nonces and seen proofs are forgotten."""
        self.state.restart()

    def _end_account(self, did: str, status: Literal["takendown", "deleted"]) -> None:
        self.state.accounts[did].status = status
        self._kill_all(did, status, self.state.oauth_sessions)

    def _kill_all(self, did: str, cause: str, sessions: Sequence[OAuthSession | LegacySession]) -> None:
        for session in sessions:
            if session.did == did:
                self.state.kill(session, cause)
