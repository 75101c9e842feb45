"""Tokens, for admins: what `tidegate tokens` asks a service that has its store to itself."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from sensors.clock import SystemClock
from tidegate.api.asking import HouseDep, TokenUid
from tidegate.api.models import Model, Moment
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, not_found
from tidegate.api.views import maybe, moment
from tidegate.tokens import PREFIX, AddToken, RevokeToken, Scope, Token, TokenRefused, mint, read_tokens

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])
_TEN_YEARS = 315_360_000.0


class TokenView(Model):
    """A token: what it opens, never what it is."""

    id: str
    name: str
    scope: Scope
    in_force: bool
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None


class TokenList(Model):
    """All tokens, oldest first."""

    items: list[TokenView]


class NewToken(BaseModel):
    """A token that is wanted."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    scope: Scope = Scope.READ
    expires_in: Annotated[float | None, Field(gt=0, le=_TEN_YEARS, description="Seconds.")] = None


class MintedToken(TokenView):
    """A new token. It is shown once: only its hash is kept."""

    token: str


def view(token: Token, now: int) -> TokenView:
    """Show a token."""
    return TokenView(
        id=token.id,
        name=token.name,
        scope=token.scope,
        in_force=token.in_force(now),
        created_at=moment(token.created_at),
        expires_at=maybe(token.expires_at),
        revoked_at=maybe(token.revoked_at),
    )


@router.get("", responses=problems(), summary="List tokens")
async def list_tokens(house: HouseDep) -> TokenList:
    """List all tokens, revoked ones too."""
    tokens = read_tokens(await house.store.read(lambda reader: reader.settings(PREFIX)))
    now = SystemClock().now()
    return TokenList(items=[view(token, now) for token in tokens])


@router.post("", status_code=201, responses=problems(409, 413, 422), summary="Make a token")
async def add_token(house: HouseDep, wanted: NewToken) -> MintedToken:
    """Make a token; the answer alone holds it."""
    now = SystemClock().now()
    expires_at = None if wanted.expires_in is None else now + int(wanted.expires_in * 1e6)
    try:
        token, text = mint(wanted.name, wanted.scope, now, expires_at=expires_at)
    except TokenRefused as error:
        raise ApiError(422, str(error)) from error
    refused = await house.store.submit(AddToken(), token)
    if refused is not None:
        raise ApiError(409, refused)
    return MintedToken(**view(token, now).model_dump(), token=text)


@router.delete("/{uid}", status_code=204, responses=problems(404, 422), summary="Revoke a token")
async def revoke_token(house: HouseDep, uid: TokenUid) -> None:
    """Revoke a token; it opens nothing a few seconds later."""
    if not await house.store.submit(RevokeToken(), uid):
        raise not_found(f"token {uid} in force")
