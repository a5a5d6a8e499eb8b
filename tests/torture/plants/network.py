"""Bugs in where tokens go, in whose name, and how they are proven."""

from tests.torture.plants.plant import Edit, Plant

_SEND = "tests/oauth/test_send.py::"
_PREPARE = "tests/oauth/test_prepare.py::"
_GUARD = "tests/http/test_guard.py::"
_ENGINE = "tests/refresh/test_engine.py::"

PLANTS = (
    Plant(
        "a connection used again at once",
        6,
        "a token follows the answer on a connection that its server is closing, and nobody knows whether it was read",
        (
            Edit(
                "http/origin_pools",
                "OriginPools._connection",
                "pool.idle and anyio.current_time() - pool.idle[0].rested_at >= REST_SECONDS",
                "pool.idle",
            ),
        ),
        (
            "tests/http/test_origin_pools.py::test_a_server_that_closes_behind_its_answer_takes_no_request_along[trio]",
        ),
    ),
    Plant(
        "pins not compared",
        10,
        "a changed record sends the token to another issuer",
        (
            Edit(
                "state",
                "Pins.contradiction",
                "in _NOT_COMPARED or not pinned or not found or pinned == found",
                "!= ''",
            ),
        ),
        (_ENGINE + "test_a_record_that_contradicts_its_pins_is_not_sent",),
        short=True,
    ),
    Plant(
        "moved account followed to another issuer",
        10,
        "a migrated account's tokens go to a stranger",
        (Edit("oauth", "OAuthRefresher.locate", "not in (None, found)", "== found == ''"),),
        (_PREPARE + "test_identity_does_not_follow_to_another_issuer[trio]",),
    ),
    Plant(
        "token's own issuer ignored",
        10,
        "an unpinned session's token goes where the PDS says today",
        (
            Edit(
                "oauth",
                "OAuthRefresher._issuer",
                "is not None and self._discovery.issuer_of(hint) != found",
                "== ''",
            ),
        ),
        (_PREPARE + "test_a_pds_that_names_another_issuer_than_the_token_suspends[trio]",),
    ),
    Plant(
        "metadata of another issuer believed",
        10,
        "tokens go to an endpoint that a stranger names",
        (Edit("oauth", "Discovery._fetch_server", '("issuer") != issuer', '("issuer") is None'),),
        (_PREPARE + "test_metadata_of_another_issuer_is_not_believed[trio]",),
    ),
    Plant(
        "key not compared with the token",
        6,
        "a proof by the wrong key ends the session",
        (Edit("oauth", "_bound_key", "not in (None, key.thumbprint)", "== ''"),),
        (_PREPARE + "test_another_key_than_the_tokens_is_not_sent[trio]",),
    ),
    Plant(
        "client guessed",
        6,
        "a request in another client's name ends the session",
        (
            Edit(
                "oauth",
                "ClientRegistry._unnamed",
                "if self._default not in (None, hint) and hint not in self._keys",
                "if self._default is not None:\n    return self._default\nif hint == ''",
            ),
        ),
        (_PREPARE + "test_a_configured_client_that_the_token_contradicts_is_not_used[trio]",),
    ),
    Plant(
        "client's key guessed",
        6,
        "another valid key of the same client ends the session",
        (Edit("oauth", "ClientRegistry._with_key", "is None and len(keys) == 1", "not in keys and keys"),),
        (_PREPARE + "test_only_the_key_that_the_session_was_started_with_is_used",),
    ),
    Plant(
        "skew ignored",
        6,
        "with a wrong clock every proof is refused",
        (Edit("http", "HttpClient.server_now", "() + self._skews.of(origin(url))", "()"),),
        (_SEND + "test_proofs_and_assertions_are_dated_by_the_servers_clock",),
    ),
    Plant(
        "nonce asked for without end",
        7,
        "a server that always wants another nonce is asked for ever",
        (
            Edit(
                "oauth",
                "ProofRetry._is_for_nonce",
                "(self._brought) == _NONCES:",
                "(self._brought) == _NONCES + 99:",
            ),
        ),
        (_SEND + "test_a_server_that_always_asks_for_a_nonce_is_given_up[trio]",),
    ),
    Plant(
        "assertion used twice",
        6,
        "the repetition for a nonce is refused for its assertion",
        (
            Edit(
                "oauth",
                "OAuthRequest.post",
                "lambda: self.form(parameters, http, url)",
                "lambda made=self.form(parameters, http, url): made",
            ),
        ),
        (_SEND + "test_a_confidential_client_refreshes[trio]",),
    ),
    Plant(
        "nonce thrown away",
        7,
        "every refresh takes two requests",
        (Edit("oauth", "_send", 'http.nonces.take(server, response.headers.get("dpop-nonce"))', ""),),
        (_SEND + "test_a_nonce_is_asked_for_once_and_shared[trio]",),
    ),
    Plant(
        "idle connection trusted",
        6,
        "a server that closes just then makes an unclear answer",
        (Edit("http", "", "KEEPALIVE_SECONDS = 1", "KEEPALIVE_SECONDS = 60"),),
        ("tests/http/test_origin_pools.py::test_a_connection_is_used_again_soon_and_not_later[trio]",),
    ),
    Plant(
        "redirects followed",
        10,
        "a token goes where an answer says",
        (
            Edit(
                "http",
                "HttpClient._exchange",
                "if response is None and",
                "if response is not None and 300 <= response.status < 400 and server:\n"
                '    to = self.target(response.headers["location"])\n'
                "    request = Request(request.method, to, request.headers, request.body)\n"
                '    return await self._exchange(request, progress, "", deadline)\n'
                "if response is None and",
            ),
        ),
        ("tests/http/test_client.py::test_a_redirect_is_an_answer[trio]",),
    ),
    Plant(
        "guard looks at the first address only",
        10,
        "a name with a public and a private address leads inside",
        (Edit("http", "Dialler._connect_tcp", "number in numbers:", "number in numbers[:1]:"),),
        ("tests/http/test_guard.py::test_every_address_of_a_name_is_checked",),
    ),
    Plant(
        "name dialled instead of the number",
        10,
        "a name that resolves differently the second time leads inside",
        (Edit("http", "Dialler._connect_tcp", "numbers[-1], port", "host, port"),),
        (_GUARD + "test_the_checked_number_is_dialled_and_not_the_name[trio]",),
    ),
    Plant(
        "loopback always allowed",
        10,
        "a foreign name leads to this host's own services",
        (Edit("http", "check_address", "not policy.allow_loopback_http", "inner.is_multicast"),),
        (_GUARD + "test_a_name_that_leads_to_loopback_is_not_dialled[trio]",),
    ),
    Plant(
        "mapped addresses not looked into",
        10,
        "an IPv6 spelling of loopback is dialled where other networks are allowed",
        (Edit("http", "check_address", "_embedded(address)", "address"),),
        (
            _GUARD + "test_allowing_everything_does_not_allow_loopback_or_no_host",
            _GUARD + "test_allowed_networks_are_dialled",
        ),
    ),
    Plant(
        "public is what a registry calls global",
        10,
        "relays and tunnels to private addresses are dialled",
        (Edit("http", "_is_public", "or any(address in network for network in _SPECIAL):", ":"),),
        (_GUARD + "test_other_addresses_are_refused",),
    ),
    Plant(
        "plain http to anybody",
        10,
        "tokens travel in the clear",
        (Edit("http", "check_url", 'parsed.scheme == "http"', 'parsed.scheme == ""'),),
        (_GUARD + "test_urls_that_no_request_goes_to",),
    ),
    Plant(
        "endless answers read",
        7,
        "a server fills the memory",
        (
            Edit("http", "_read", "(body) <= MAX_BODY", "(body) <= 1 << 40"),
            Edit("http", "_response", "if len(body) > MAX_BODY:\nreturn None", ""),
        ),
        ("tests/http/test_client.py::test_one_byte_above_the_cap_is_too_large[trio]",),
    ),
    Plant(
        "no deadline for an answer",
        7,
        "a slow drip holds a session for ever",
        (Edit("http", "HttpClient._exchange", ", deadline) as", ", deadline + 60) as"),),
        ("tests/http/test_client.py::test_a_slow_drip_meets_the_deadline[trio]",),
    ),
    Plant(
        "unclear refusals passed on at once",
        1,
        "clients of a server with words of its own see every rotation",
        (Edit("auth", "refusal_of", "TokenRefusal.PERHAPS", "None"),),
        ("tests/auth/test_refused_tokens.py::test_a_rotation_is_seen_in_any_words[trio-millipds]",),
    ),
    Plant(
        "one spelling of a challenge",
        1,
        "a refused token is not recognized, and the client meets it",
        (Edit("http", "_pieces", "None, name.lower()", "None, name"),),
        ("tests/http/test_challenges.py::test_every_legal_spelling_is_read",),
    ),
    Plant(
        "the newest nonce only",
        7,
        "two nodes with nonces of their own refuse in turn, without end",
        (
            Edit(
                "oauth",
                "ProofRetry._is_for_nonce",
                "self._brought[-2] if len(self._brought) == _NONCES else newest",
                "newest",
            ),
        ),
        ("tests/auth/test_signing.py::test_nodes_with_nonces_of_their_own[trio-ab]",),
    ),
    Plant(
        "a wrong time in one server's words only",
        6,
        "a clock that is a minute off stops every call at other servers",
        (Edit("oauth", "ProofRetry.is_called_for", '!= "invalid_grant"', '== "invalid_dpop_proof"'),),
        (
            "tests/auth/test_signing.py::test_a_wrong_clock_is_corrected_whatever_the_words[trio-400-InvalidRequest]",
        ),
    ),
)
