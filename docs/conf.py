"""How Sphinx builds the documentation site from these Markdown files (`make docs`)."""

import tomllib
from pathlib import Path

import idiolectd

ROOT = Path(__file__).parent.parent

project = "idiolectd"
author = (
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("authors", [{}])[0].get("name", "")
)
release = version = idiolectd.__version__
copyright = ""  # noqa: A001 - Sphinx's name; the licence says it

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"idiolectd {version}"
html_show_copyright = False
html_show_sphinx = False
# Links between the documents are those that a reader of the repository follows too: a heading's anchor is the
# one that code forges make of it.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Nothing outside is asked for when a page is opened: fonts and scripts are the theme's own.
html_theme_options = {"top_of_page_buttons": []}

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
