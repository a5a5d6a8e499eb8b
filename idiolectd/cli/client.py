"""``idiolectd client``: prints what to host for a confidential client, and checks what is hosted.

A confidential client has a metadata document at its client_id and a page at its redirect_uri. `metadata` and
`page` print these two files; `check` fetches the first one as a server would.
"""

from functools import partial

import click

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.findings import Finding, report_findings
from idiolectd.cli.help_sections import SectionedCommand, SectionedGroup
from idiolectd.cli.options import Options, command_events, common
from idiolectd.cli.output import joined, put_document, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.clock import SystemClock
from idiolectd.config import ClientConfig, Config
from idiolectd.oauth import ClientMetadata, MetadataFinding, check_hosted_metadata


@click.group(
    "client",
    cls=SectionedGroup,
    short_help="Set up an OAuth client of your own: print what to host, check what is hosted.",
    sections={
        "To set up a client": (
            ("openssl ecparam -genkey -name prime256v1 -noout -out KEY.pem", "a key; keep it private"),
            ("oauth.clients, oauth.login_client_id", "set these keys in the configuration"),
            ("idiolectd client metadata > client-metadata.json", "host it at the client_id"),
            ("idiolectd client page > index.html", "host it at the redirect_uri"),
            ("idiolectd client check", "compare it with the configuration"),
        ),
    },
)
@common
def client_group() -> None:
    """Set up an OAuth client of your own, whose sessions live for years instead of weeks."""


@client_group.command(
    "metadata",
    cls=SectionedCommand,
    short_help="Print a client's metadata document with its public keys.",
    sections={"Examples": (("idiolectd client metadata > client-metadata.json", "then host that file"),)},
)
@click.argument("client_id", required=False, metavar="[CLIENT_ID]")
@common
@click.pass_obj
def metadata_command(options: Options, client_id: str | None) -> int:
    """Print a client's metadata document with the public halves of all of its keys.

    Host it at the client_id as application/json, without a redirect. CLIENT_ID is only needed if
    several clients are configured. Leave old keys in the configuration, and so in the document, for as
    long as sessions live that were started with them.
    """
    config = options.load_as_owner()
    client = _chosen(config, client_id)
    _redirect_uri(client)
    put_json(_metadata(config, client).document())
    say(f"host this at {client.client_id} as application/json; then run: idiolectd client check")
    return ExitCode.DONE


@client_group.command(
    "check",
    cls=SectionedCommand,
    short_help="Compare the hosted metadata with the configuration.",
    sections={"Examples": (("idiolectd client check", "after every change of keys or scope"),)},
)
@click.argument("client_id", required=False, metavar="[CLIENT_ID]")
@common
@click.pass_obj
def check_command(options: Options, client_id: str | None) -> int:
    """Fetch the document at the client_id, and report what does not match the configuration.

    Exit codes: 0 it matches, 1 the hosted document must be changed, 75 it can't be fetched now.
    """
    config = options.load_as_owner()
    metadata = _metadata(config, _chosen(config, client_id))
    findings = [finding_of(one) for one in run_async(partial(_look, config, metadata))]
    code = report_findings(findings, json=options.json)
    if code is ExitCode.FAILED:
        say("host what this prints: idiolectd client metadata")
    return code


@client_group.command(
    "page",
    cls=SectionedCommand,
    sections={"Examples": (("idiolectd client page > index.html", "then host that file"),)},
)
@click.argument("client_id", required=False, metavar="[CLIENT_ID]")
@common
@click.pass_obj
def page_command(options: Options, client_id: str | None) -> int:
    """Print the page to host at a client's redirect_uri.

    A login with the client ends there. On the machine on which `idiolectd login` waits, the page
    forwards the browser to it; elsewhere it shows the address to paste. It loads and sends nothing.
    """
    from idiolectd.cli.browser.pages import hosted

    client = _chosen(options.load_as_owner(), client_id)
    redirect_uri = _redirect_uri(client)
    put_document(hosted(client.name))
    say(f"host this at {redirect_uri} as text/html")
    return ExitCode.DONE


def _chosen(config: Config, client_id: str | None) -> ClientConfig:
    """Returns the configured client with this client_id, or the only one."""
    clients = {client.client_id: client for client in config.oauth.clients}
    if not clients:
        raise CommandFailed(ExitCode.USAGE, "no client is configured; oauth.clients is the key to set")
    if client_id is None and len(clients) > 1:
        raise CommandFailed(ExitCode.USAGE, f"which client? name one of {joined(clients)}")
    client = clients.get(client_id) if client_id is not None else next(iter(clients.values()))
    if client is None:
        raise CommandFailed(ExitCode.USAGE, f"oauth.clients has no {client_id}; it has {joined(clients)}")
    if not client.client_id.startswith("https://"):
        raise CommandFailed(ExitCode.USAGE, f"{client.client_id} is a loopback client and needs no document")
    return client


def _redirect_uri(client: ClientConfig) -> str:
    if client.redirect_uri is None:
        raise CommandFailed(
            ExitCode.USAGE, f"{client.client_id} has no redirect_uri in oauth.clients; logins need one"
        )
    return client.redirect_uri


def _metadata(config: Config, client: ClientConfig) -> ClientMetadata:
    """Raises `ConfigError`: a key can't be read."""
    from idiolectd.parts import read_client

    return ClientMetadata(read_client(client), client.redirect_uri, config.oauth.scope, client.name)


async def _look(config: Config, metadata: ClientMetadata) -> list[MetadataFinding]:
    from idiolectd.http import make_http

    async with make_http(config, SystemClock(), command_events(config)) as http:
        return await check_hosted_metadata(http, metadata)


def finding_of(found: MetadataFinding) -> Finding:
    """Turns the result for one part of the hosted document into a line of the output."""
    if found.problem is None:
        return Finding(found.part, "ok", "fits")
    code = ExitCode.TRY_LATER if found.passing else ExitCode.FAILED
    return Finding(found.part, "failed", found.problem, code)
