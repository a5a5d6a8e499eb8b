"""``python -m idiolectd``, and the ``idiolectd`` command."""

import sys

from idiolectd.errors import missing_extra

_USAGE = 2  # as `idiolectd.cli.exits`, which can't be imported where the command line is not installed


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    try:
        from idiolectd import cli
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"idiolectd: the command line is not installed: {missing_extra(missing)}\n")
        sys.exit(_USAGE)
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
