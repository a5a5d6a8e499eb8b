"""``idiolectd oauth login | list | logout``: three of our commands under the upstream CLI's names.

The same commands with the same options, not copies: what is typed after ``idiolect`` in that
program's documents works after ``idiolectd``.
"""

from idiolectd.cli.login import login_command
from idiolectd.cli.logout import logout_command
from idiolectd.cli.options import common
from idiolectd.cli.status import list_command
from idiolectd.cli.teaching import TeachingGroup


def _group() -> TeachingGroup:
    group = TeachingGroup(
        "oauth",
        sections={
            "Examples": (
                ("idiolectd oauth login --handle alice.example --pds-url https://pds.example", "login"),
                ("idiolectd oauth list", "list"),
                ("idiolectd oauth logout --did did:plc:ewvi7nxzyoun6zhxrhs64oiz", "logout"),
            )
        },
        help="login, list and logout, as the upstream CLI spells them.",
    )
    for command in (login_command, list_command, logout_command):
        group.add_command(command)
    return group


oauth_group = common(_group())
