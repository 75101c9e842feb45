"""`tidegate tokens`: who may talk to the service.

Works on the store itself, so the first token needs no service; a store that a running service has to itself (SQLite) is
reached through that service, as TIDEGATE_URL and TIDEGATE_TOKEN say.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.cli.client import Client, connect
from tidegate.cli.errors import USAGE, fail
from tidegate.cli.options import Json, Yes, sure

if TYPE_CHECKING:
    from tidegate.store.tx import Store

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Who may talk to the service.")
Config = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="The service's configuration; default ./tidegate.yaml.", show_default=False),
]
StoreUrl = Annotated[
    str | None, typer.Option("--store", help="The store's URL, instead of --config.", show_default=False)
]


@app.callback()
def list_tokens(context: typer.Context, config: Config = None, store: StoreUrl = None, json: Json = False) -> None:
    """List tokens; what they open, never what they are."""
    if context.invoked_subcommand is None:
        _list(config, store, json=json)


@app.command("list")
def list_again(config: Config = None, store: StoreUrl = None, json: Json = False) -> None:
    """List tokens; what they open, never what they are."""
    _list(config, store, json=json)


def _list(config: list[Path] | None, store: str | None, *, json: bool) -> None:
    from tidegate.cli import out

    items = _known(config, store)
    if json:
        out.as_json({"items": items})
        return
    rows = [
        (
            out.words(item["name"], "bold" if item["in_force"] else "dim strike"),
            item["scope"],
            out.words("in force", "green")
            if item["in_force"]
            else out.words("revoked" if item["revoked_at"] else "expired", "dim"),
            out.age(item["created_at"]),
            out.age(item["expires_at"]) if item["expires_at"] else out.words("never", "dim"),
            out.words(item["id"], "dim"),
        )
        for item in items
    ]
    empty = "no token yet; `tidegate tokens add NAME --scope read` makes one"
    out.show(out.table(("!name", "!scope", "!state", "!created", "!expires", "!id"), rows, empty))


def _known(config: list[Path] | None, store: str | None) -> list[dict[str, Any]]:
    """Return all tokens as plain data."""
    from tidegate.cli import out
    from tidegate.event_view import rfc3339
    from tidegate.tokens import PREFIX, read_tokens

    async def read(opened: "Store") -> list[dict[str, Any]]:
        now = out.now()
        return [
            {
                "id": token.id,
                "name": token.name,
                "scope": str(token.scope),
                "in_force": token.in_force(now),
                "created_at": rfc3339(token.created_at),
                "expires_at": rfc3339(token.expires_at),
                "revoked_at": rfc3339(token.revoked_at),
            }
            for token in read_tokens(await opened.read(lambda reader: reader.settings(PREFIX)))
        ]

    found: list[dict[str, Any]] = _reach(config, store, read, lambda client: client.get("tokens")["items"])
    return found


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="For whom or what, e.g. grafana.", show_default=False)],
    scope: Annotated[str, typer.Option(help="read, operate or admin.")] = "read",
    expires: Annotated[str | None, typer.Option(help="After this long, e.g. 90d.", show_default=False)] = None,
    config: Config = None,
    store: StoreUrl = None,
    json: Json = False,
) -> None:
    """Make a token. It is shown once: only its hash is kept."""
    from sensors.units import parse_duration
    from tidegate.cli import out
    from tidegate.tokens import AddToken, Scope, TokenRefused, mint

    now = out.now()
    if scope not in list(Scope):
        fail(f"--scope is read, operate or admin, not {scope}", USAGE)
    try:
        seconds = None if expires is None else parse_duration(expires)
        token, text = mint(name, Scope(scope), now, expires_at=None if seconds is None else now + int(seconds * 1e6))
    except TokenRefused as error:
        fail(str(error), USAGE)
    except ValueError as error:
        fail(f"--expires {expires}: {error}", USAGE)

    async def write(opened: "Store") -> Any:
        refused = await opened.submit(AddToken(), token)
        return refused or {"id": token.id, "name": name, "scope": scope, "token": text}

    wanted = {"name": name, "scope": scope, "expires_in": seconds}
    made = _reach(config, store, write, lambda client: client.post("tokens", body=wanted))
    if isinstance(made, str):
        fail(made)
    if json:
        out.as_json({part: made[part] for part in ("id", "name", "scope", "token")})
        return
    print(made["token"])
    typer.echo("keep it: it is not shown again, and only its hash is stored; use it as TIDEGATE_TOKEN", err=True)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its name or id.", show_default=False)],
    config: Config = None,
    store: StoreUrl = None,
    yes: Yes = False,
) -> None:
    """Revoke a token; it opens nothing a few seconds later."""
    sure(f"Revoke {token}?", yes=yes)
    found = [item for item in _known(config, store) if token in (item["id"], item["name"]) and item["in_force"]]
    if not found:
        fail(f"no token in force is named {token}; `tidegate tokens` lists them")
    for item in found:
        uid: str = item["id"]

        _reach(config, store, partial(_revoke, uid), partial(_ask_to_revoke, uid))
        print(f"revoked {item['name']} ({uid})")


async def _revoke(uid: str, opened: "Store") -> None:
    from tidegate.tokens import RevokeToken

    await opened.submit(RevokeToken(), uid)


def _ask_to_revoke(uid: str, client: Client) -> None:
    client.delete("tokens", uid)


def _reach(
    config: list[Path] | None,
    url: str | None,
    work: "Callable[[Store], Awaitable[Any]]",
    ask: Callable[[Client], Any],
) -> Any:
    """Do the work on the store, or `ask` the service that has it to itself. Trouble ends the command."""
    from sensors.ports import Unavailable
    from tidegate.cli.loading import store_url
    from tidegate.store.factory import open_store
    from tidegate.store.tx import StoreError, StoreInUse

    where = url or store_url(config)

    async def run() -> Any:
        store = open_store(where, shard="cli")
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreInUse:
        return ask(connect())
    except (StoreError, Unavailable) as error:
        fail(str(error))
