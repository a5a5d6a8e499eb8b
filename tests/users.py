"""Commands that become another user: an interpreter and a checkout that he can read, if there are."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

NOBODY = 65534
OTHER = 65533  # a user without a name

_ROOT = Path(__file__).parents[1]


@cache
def shared_python() -> tuple[str, Mapping[str, str]] | None:
    """An interpreter, and the variables with which any user can run idiolectd in it; None: there is none.

    The one of this environment may lie in somebody's home. The system's, of the same version, can use
    the same packages.
    """
    packages = [str(_ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python, more in (
        (sys.executable, {}),
        (f"/usr/bin/python{version}", {"PYTHONPATH": os.pathsep.join(packages)}),
    ):
        try:
            tried = subprocess.run(
                [python, "-c", "import idiolectd.cli, idiolectd.parts"],
                env={**os.environ, **more},
                cwd="/",
                user=NOBODY if os.geteuid() == 0 else None,
                group=NOBODY if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
                capture_output=True,
                timeout=30,
                check=False,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return python, more
    return None
