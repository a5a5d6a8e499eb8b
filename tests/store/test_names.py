"""File names: one for each DID, and back."""

from hypothesis import given
from hypothesis import strategies as st

from idiolectd.did import file_name, upstream_file_name
from idiolectd.store.files.file_names import belongs, did_of, guess_did
from tests.store.support import WEB_COLON, WEB_UNDERSCORE

_DIDS = st.from_regex(r"did:[a-c]{1,3}:[ab._:%-]{0,8}[ab._-]", fullmatch=True)


@given(_DIDS, _DIDS)
def test_no_two_dids_share_a_file(one: str, other: str) -> None:
    """Different DIDs have different file names."""
    assert (file_name(one) == file_name(other)) == (one == other)


@given(_DIDS)
def test_a_name_leads_back_to_its_did(did: str) -> None:
    """Our own names say whose they are without opening the file."""
    assert did_of(file_name(did)) == did
    assert belongs(file_name(did), did)


@given(_DIDS)
def test_upstreams_name_is_believed_only_if_it_can_mean_one_did(did: str) -> None:
    """Where upstream's name is not ours, only the file's content tells."""
    name = upstream_file_name(did)
    assert did_of(name) == (did if name == file_name(did) else None)
    assert belongs(name, did)


@given(_DIDS)
def test_a_file_name_stays_in_its_folder(did: str) -> None:
    """No name contains a slash, is hidden, or loses its suffix."""
    assert "/" not in file_name(did)
    assert file_name(did).startswith("did_")
    assert file_name(did).endswith(".json")


def test_guesses_and_refusals() -> None:
    """An ambiguous name is guessed as a path of did:web; what is no record's name is none's."""
    assert guess_did(upstream_file_name(WEB_UNDERSCORE)) == WEB_COLON
    for name in (
        "x.json",
        "did_plc_a.json.tmp",
        "did__a.json",
        "did_plc_.json",
        "DID_plc_a.json",
        "did_plc_é.json",
    ):
        assert did_of(name) is None
    for name in ("x.json", "did_plc_a~5F~3Ab.json~"):
        assert guess_did(name) is None
    assert not belongs("did_plc_a.json", "did:plc:b")
    assert not belongs("did_plc_a.json", "no did")
