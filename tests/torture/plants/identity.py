"""Bugs in who is believed about whose session it is, and what it is called."""

from tests.torture.plants.plant import Edit, Plant

_FOREIGN = "tests/cli/test_foreign_logins.py::"
_NAMES = "tests/refresh/test_names.py::"

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
    Plant(
        "account renamed by its server",
        10,
        "a server gives its account another account's handle",
        (
            Edit(
                "refresh/sending",
                "handle=sent.session.handle or tokens.handle, confirmed_handle=None)",
                "handle=tokens.handle, confirmed_handle=tokens.handle)",
            ),
        ),
        (_NAMES + "test_a_servers_word_changes_no_name[trio]",),
        short=True,
    ),
    Plant(
        "unconfirmed handle looked up",
        10,
        "a client writes to the impostor's PDS",
        (
            Edit(
                "store/claimants",
                "            self.unconfirmed.append(session.did)\n",
                "            self.confirmed.append(session.did)\n",
            ),
        ),
        (
            "tests/auth/test_record.py::test_a_handle_counts_once_it_is_confirmed[trio]",
            "tests/cli/test_handles.py::test_an_impostor_gets_nothing",
        ),
        short=True,
    ),
    Plant(
        "handle confirmed in one direction",
        10,
        "whoever says so is taken for the account",
        (
            Edit(
                "cli/accounts",
                "    if found.did not in claimants.dids:\n",
                "    if found.did == '':\n",
            ),
        ),
        ("tests/cli/test_handles.py::test_an_impostor_gets_nothing",),
    ),
    Plant(
        "confirmed handle dropped with a foreign login",
        10,
        "a login of a program that does not know the field lets impostors in",
        (
            Edit(
                "state/adopt",
                "Pins(confirmed_handle=state.pins.confirmed_handle)",
                "Pins()",
            ),
        ),
        (_NAMES + "test_what_was_confirmed_outlives_foreign_programs[trio]",),
    ),
    Plant(
        "login kept from an account by another's name",
        10,
        "a batch skips an account because an impostor's session lives",
        (
            Edit(
                "cli/batch",
                "            alive[_key(entry.session.confirmed_handle)] = did\n",
                "            alive[_key(entry.session.confirmed_handle)] = did\n"
                "        if entry.session.handle:\n"
                "            alive[_key(entry.session.handle)] = did\n",
            ),
        ),
        ("tests/cli/test_handles.py::test_a_batch_is_not_kept_from_a_login",),
    ),
    Plant(
        "login that the upstream CLI can't read",
        8,
        "missing field pds_url, in its own folder",
        (Edit("cli/credentials", '{**kept, "pds_url": session.pds_url}', "dict(kept)"),),
        ("tests/cli/test_upstream.py::test_as_the_upstream_documents_type_it",),
    ),
    Plant(
        "redirect of a handle's host to anywhere",
        10,
        "a handle is resolved over plain HTTP",
        (
            Edit(
                "identity/resolve",
                '            if not url.lower().startswith("https://"):\n',
                '            if not url.lower().startswith("http"):\n',
            ),
        ),
        ("tests/identity/test_identity.py::test_redirects_of_a_handles_host",),
    ),
    Plant(
        "system's authorities not believed",
        10,
        "a PDS with a private authority can't be reached",
        (
            Edit(
                "http/trust",
                "    context = _system_context()\n",
                "    context = httpx.create_ssl_context(trust_env=False)\n",
            ),
        ),
        ("tests/http/test_tls.py::test_the_systems_authorities_count",),
    ),
)
