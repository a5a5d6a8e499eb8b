"""The format is what its document and its vectors say."""

from pathlib import Path

from tests.store.vectors import VECTORS, text


def test_the_vectors_are_what_this_version_does() -> None:
    """`python -m tests.store.vectors` writes them; what is there must not change, readers rely on it."""
    assert VECTORS.read_text(encoding="utf-8") == text()


def test_the_golden_files_have_the_names_of_the_vectors() -> None:
    """Those that idiolect-oauth wrote."""
    golden = {path.name for path in (Path(__file__).parent / "golden" / "fs").iterdir()}
    assert golden == {
        "did_plc_z72i7hdynmk6r22z27h6tvur.json",
        "did_web_example.com.json",
        "did_web_localhost%3A3000.json",
    }
    assert all(f'"{name}"' in VECTORS.read_text(encoding="utf-8") for name in golden)
