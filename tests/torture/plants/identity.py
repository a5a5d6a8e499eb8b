"""Bugs in who is believed about whose session it is, and what it is called."""

from tests.torture.plants.plant import Edit, Plant

_FOREIGN = "tests/cli/test_foreign_logins.py::"

PLANTS = (
    Plant(
        "login of somebody else's PDS stored",
        10,
        "any PDS replaces anybody's session",
        (Edit("hosting", "        if account.pds_url == server:\n", "        if account.pds_url:\n"),),
        (_FOREIGN + "test_a_session_that_another_pds_gave_is_not_stored[trio]",),
        short=True,
    ),
    Plant(
        "login of another issuer stored",
        10,
        "an authorization server gives out sessions of accounts that are not its own",
        (
            Edit(
                "hosting",
                "        elif (issuer := await self.issuer_of(account)) != session.issuer:\n",
                "        elif not (issuer := await self.issuer_of(account)):\n",
            ),
        ),
        (_FOREIGN + "test_an_oauth_session_is_of_the_pdss_own_issuer[trio]",),
    ),
    Plant(
        "another account of the same PDS stored",
        10,
        "whoever was logged in takes the place of whoever was asked for",
        (
            Edit(
                "hosting",
                "        if located is not None and located.did != session.did:\n",
                "        if located is not None and not session.did:\n",
            ),
        ),
        (_FOREIGN + "test_another_account_of_the_same_pds_is_refused[trio]",),
    ),
    Plant(
        "refused login left alive at its server",
        10,
        "a session that nobody holds lives on",
        (
            Edit(
                "cli/credentials",
                "        if await parts.refresher_for(session).revoke(session) is None:\n",
                "        if parts.refresher_for(session) is not None:\n",
            ),
        ),
        (_FOREIGN + "test_a_session_that_another_pds_gave_is_not_stored[trio]",),
    ),
)
