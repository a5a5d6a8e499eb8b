"""Bugs in who is believed about whose session it is, and what it is called."""

from tests.torture.plants.plant import Edit, Plant

_FOREIGN = "tests/cli/test_foreign_logins.py::"
_NAMES = "tests/refresh/test_names.py::"
_ACCOUNTS = "tests/refresh/test_accounts.py::"

PLANTS = (
    Plant(
        "login of somebody else's PDS stored",
        10,
        "any PDS replaces anybody's session",
        (Edit("hosting", "Hosting.is_at", "current.pds_url == server", "current.pds_url"),),
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
                "Hosting.admit",
                "(issuer := await self.issuer_of(account)) != session.issuer",
                "not (issuer := await self.issuer_of(account))",
            ),
        ),
        (_FOREIGN + "test_an_oauth_session_is_of_the_pdss_own_issuer[trio]",),
    ),
    Plant(
        "another account of the same PDS stored",
        10,
        "whoever was logged in takes the place of whoever was asked for",
        (Edit("hosting", "Hosting.admit", "located.did != session", "not session"),),
        (_FOREIGN + "test_another_account_of_the_same_pds_is_refused[trio]",),
    ),
    Plant(
        "refused login left alive at its server",
        10,
        "a session that nobody holds lives on",
        (
            Edit(
                "cli",
                "revoke_refused",
                "await parts.refresher_for(session).revoke(session) is",
                "parts.refresher_for(session) is not",
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
                "refresh",
                "RefreshEngine._publish",
                "sent.session.handle or tokens.handle, confirmed_handle=None",
                "tokens.handle, confirmed_handle=tokens.handle",
            ),
        ),
        (_NAMES + "test_a_servers_word_changes_no_name[trio]",),
        short=True,
    ),
    Plant(
        "unconfirmed handle looked up",
        10,
        "a client writes to the impostor's PDS",
        (Edit("store", "Claimants.take", "self.unconfirmed", "self.confirmed"),),
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
        (Edit("cli", "stored_did", "not in claimants.dids", "== ''"),),
        ("tests/cli/test_handles.py::test_an_impostor_gets_nothing",),
    ),
    Plant(
        "confirmed handle dropped with a foreign login",
        10,
        "a login of a program that does not know the field lets impostors in",
        (Edit("state", "_accepted", "(confirmed_handle=state.pins.confirmed_handle)", "()"),),
        (_NAMES + "test_what_was_confirmed_outlives_foreign_programs[trio]",),
    ),
    Plant(
        "login kept from an account by another's name",
        10,
        "a batch skips an account because an impostor's session lives",
        (
            Edit(
                "cli",
                "_living",
                "if entry.session.confirmed_handle:\nalive[_key(entry.session.confirmed_handle)] = did",
                "if entry.session.confirmed_handle:\n"
                "    alive[_key(entry.session.confirmed_handle)] = did\n"
                "if entry.session.handle:\n"
                "    alive[_key(entry.session.handle)] = did",
            ),
        ),
        ("tests/cli/test_handles.py::test_a_batch_is_not_kept_from_a_login",),
    ),
    Plant(
        "login that the upstream CLI can't read",
        8,
        "missing field pds_url, in its own folder",
        (Edit("cli", "log_in", '{**kept, "pds_url": session.pds_url}', "dict(kept)"),),
        ("tests/cli/test_upstream.py::test_as_the_upstream_documents_type_it",),
    ),
    Plant(
        "redirect of a handle's host to anywhere",
        10,
        "a handle is resolved over plain HTTP",
        (Edit("identity", "Identity._followed", '("https://"):', '("http"):'),),
        ("tests/identity/test_identity.py::test_redirects_of_a_handles_host",),
    ),
    Plant(
        "system's authorities not believed",
        10,
        "a PDS with a private authority can't be reached",
        (Edit("http", "tls_context", "_system_context()", "httpx.create_ssl_context(trust_env=False)"),),
        ("tests/http/test_tls.py::test_the_systems_authorities_count",),
    ),
    Plant(
        "entryway taken for another PDS",
        7,
        "a session that the upstream CLI made at bsky.social is said to have moved",
        (Edit("hosting", "Hosting.is_at", "issuer == server", "False"),),
        ("tests/identity/test_hosting.py::test_a_legacy_session_goes_along_nowhere[trio]",),
    ),
    Plant(
        "mute name server loses the whole look",
        7,
        "where an account is stays unknown because its handle's host is silent",
        (Edit("hosting", "Hosting.current_host", "_HANDLE_SECONDS", "10 * _HANDLE_SECONDS"),),
        ("tests/identity/test_hosting.py::test_a_mute_name_server_loses_no_other_answer",),
    ),
    Plant(
        "account's status not read",
        11,
        "an account that was taken down looks well",
        (Edit("refresh", "RefreshEngine._publish", "(status)", "(None)"),),
        (
            _ACCOUNTS + "test_a_deactivated_account_is_told_of_once_and_kept_alive[trio]",
            _ACCOUNTS + "test_an_account_that_was_taken_down_is_suspended_and_loses_nothing[trio-takendown]",
        ),
    ),
    Plant(
        "status word of the server not read",
        11,
        "active: false means nothing",
        (Edit("xrpc", "_account_status", "return _INACTIVE", "return ACTIVE"),),
        ("tests/xrpc/test_legacy.py::test_what_a_server_says_of_the_account",),
    ),
    Plant(
        "moved account's session sent on after a refusal",
        10,
        "a person is never told to log in at the new PDS",
        (Edit("refresh", "RefreshEngine._decide", "located.moved_to is not None", "located.moved_to == ''"),),
        (_ACCOUNTS + "test_a_legacy_session_of_an_account_that_moved[trio]",),
    ),
    Plant(
        "new session's handle confirmed after its first refresh only",
        11,
        "a client that names the handle is refused for an hour after a foreign login",
        (Edit("refresh", "Recorder.reconciled", "is_due = is_new", "is_due = False"),),
        (
            "tests/scheduler/test_apart.py::test_a_handle_is_confirmed_at_first_sight",
            _ACCOUNTS + "test_who_is_asked_for_a_handle_and_when[trio]",
        ),
    ),
)
