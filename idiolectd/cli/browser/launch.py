"""Opening the person's browser, as far as there is one.

By the standard library's `webbrowser`, in a process of its own: it may wait for the browser's end, write
to the terminal, or read from it. That nothing opens is no failure: the address is always shown too.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio


def may_open(environ: Mapping[str, str]) -> bool:
    """Whether there is a screen, or a browser that the person named.

    Without either, `webbrowser` would start a browser for terminals behind the command's back, or one
    of root's on a server.
    """
    return any(environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


# What a browser needs of the environment: the screen, the person's folders and language, the way out.
_PASSED_ON = frozenset(
    (
        *(
            "BROWSER",
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "WAYLAND_SOCKET",
            "XAUTHORITY",
            "DBUS_SESSION_BUS_ADDRESS",
        ),
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "TERM", "TZ", "LANG", "LANGUAGE"),
        *("DESKTOP_SESSION", "GNOME_DESKTOP_SESSION_ID", "KDE_FULL_SESSION", "KDE_SESSION_VERSION"),
        *("GDK_BACKEND", "MOZ_ENABLE_WAYLAND", "QT_QPA_PLATFORM", "WSL_DISTRO_NAME", "WSL_INTEROP", "WSLENV"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    )
)
_PASSED_ON_GROUPS = ("XDG_", "LC_")


def browser_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a browser gets: not the passwords and keys that others are given in it."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_GROUPS)
    }


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[bool]:
    """Has the browser opened at a URL; yields whether it was tried. The browser outlives this, its starter does not."""
    try:
        starter = await anyio.open_process(
            # Isolated: a webbrowser.py in the working folder is not the one that is meant.
            [sys.executable, "-I", "-m", "webbrowser", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=browser_environment(os.environ),
            start_new_session=True,  # Ctrl-C here is not meant for the browser
        )
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                starter.kill()
            await starter.wait()
            await starter.aclose()
