"""Opens the person's browser, if there is one.

Runs the standard library's `webbrowser` in a separate process, because it may wait until the browser ends, or
use the terminal. If no browser opens, that is no error: the address is always shown too.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio


def may_open(environ: Mapping[str, str]) -> bool:
    """Returns whether there is a screen, or a browser named by ``$BROWSER``.

    Without either, `webbrowser` could start a text browser on the command's terminal.
    """
    return any(environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


# The variables that a browser needs: those of the screen, the person's folders, the language, the proxies.
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
    """Returns the variables that the browser gets: none that may hold passwords or keys of other programs."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_GROUPS)
    }


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[bool]:
    """Starts a process that opens the browser at a URL; yields whether it started.

    At the end the process is killed; the browser stays open.
    """
    try:
        starter = await anyio.open_process(
            # Isolated (-I): a webbrowser.py in the working folder must not be run.
            [sys.executable, "-I", "-m", "webbrowser", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=browser_environment(os.environ),
            start_new_session=True,  # Ctrl-C must not end the browser
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
