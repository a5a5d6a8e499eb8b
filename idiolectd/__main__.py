"""``python -m idiolectd``, and the ``idiolectd`` command."""

import sys

from idiolectd import cli


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
