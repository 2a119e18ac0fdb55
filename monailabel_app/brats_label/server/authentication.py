"""Who asks and what they may do: tokens of the realm that MONAI Label's settings name, and the routes to log in.

MONAI Label names no signature algorithm, which PyJWT 2 answers by refusing every token, and answers 500 to a wrong
password.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jwt
import requests
from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from monailabel.config import settings
from pydantic import BaseModel

from ..errors import NotFound, Unreachable

# Signed with the realm's private key; never HMAC, whose secret would be the public key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_AGE_S = 60.0  # a realm may change its key; a token that does not fit makes us ask again, this often at most
ROLES = (
    settings.MONAI_LABEL_AUTH_ROLE_ADMIN,
    settings.MONAI_LABEL_AUTH_ROLE_REVIEWER,
    settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR,
    settings.MONAI_LABEL_AUTH_ROLE_USER,
)
_BEARER = {"WWW-Authenticate": "Bearer"}
_token = OAuth2PasswordBearer(tokenUrl="/auth/token", auto_error=False)

router = APIRouter(prefix="/auth", tags=["Auth"])


class User(BaseModel):
    """Somebody who logged in."""

    username: str
    email: str | None = None
    name: str | None = None
    roles: list[str] = []


# Who asks where nobody has to log in.
ANYBODY = User(username="admin", email="admin@monailabel.com", name="UNK", roles=list(ROLES))


def current_user(token: str) -> User:
    """The user whose token this is.

    Raises:
        HTTPException: 401 for a token that is forged, damaged or has expired.
        Unreachable: if the realm does not answer.
    """
    try:
        return _user(_decode(token))
    except jwt.InvalidTokenError as error:
        why = "it has expired" if isinstance(error, jwt.ExpiredSignatureError) else "it is not one of this realm"
        raise HTTPException(401, f"The token was refused: {why}; log in again.", _BEARER) from None


def _asking(token: str | None = Depends(_token)) -> User:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return ANYBODY
    if token is None:
        raise HTTPException(401, "Not authenticated", _BEARER)
    return current_user(token)


def _with_role(role: str) -> Callable[[User], User]:
    def check(user: User = Depends(_asking)) -> User:
        if settings.MONAI_LABEL_AUTH_ENABLE and not set(ROLES if role == "*" else (role,)) & set(user.roles):
            raise HTTPException(403, f'Role "{role}" is required to perform this action')
        return user

    return check


# Parameters of routes that take who asks, and refuse those without the role.
AnyUser = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


def may_annotate(user: User) -> bool:
    """Whether this user may save labels."""
    return not settings.MONAI_LABEL_AUTH_ENABLE or settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR in user.roles


def annotator_name(user: User, client_id: object) -> str:
    """Who saves something: the user who logged in; without authentication the client's id for itself."""
    return user.username if settings.MONAI_LABEL_AUTH_ENABLE else str(client_id or "")


@router.get("/", summary="Whether tokens are needed", include_in_schema=settings.MONAI_LABEL_AUTH_ENABLE)
def enabled() -> dict[str, Any]:
    """Which realm gives them; 404 where none are needed."""
    _need_realm()
    return {
        "enabled": True,
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "realm": settings.MONAI_LABEL_AUTH_REALM_URI,
    }


@router.get("/token/valid", summary="Whether a token is valid", include_in_schema=settings.MONAI_LABEL_AUTH_ENABLE)
def valid(user: User = Depends(_asking)) -> User:
    """Whose it is."""
    _need_realm()
    return user


@router.post("/token", summary="Log in")
def token(form: OAuth2PasswordRequestForm = Depends()) -> dict[str, Any]:
    """User name and password go to the realm, its token comes back."""
    _need_realm()
    address = ask_realm("/.well-known/openid-configuration").get("token_endpoint")
    login = {
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "username": form.username,
        "password": form.password,
        "grant_type": "password",
    }
    try:
        response = requests.post(str(address), data=login, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        content = response.json()
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(error) from None
    if response.status_code in (400, 401):
        raise HTTPException(401, "User name or password is wrong.", _BEARER)
    if not response.ok or "access_token" not in content:
        raise Unreachable(f"The login server answered {response.status_code}; its log says why.")
    return {"access_token": content["access_token"], "token_type": content.get("token_type", "Bearer")}


def ask_realm(path: str = "") -> dict[str, Any]:
    """The realm's description of itself.

    Raises:
        Unreachable: if it does not answer with that.
    """
    address = settings.MONAI_LABEL_AUTH_REALM_URI.rstrip("/")
    try:
        response = requests.get(address + path, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        response.raise_for_status()
        content = response.json()
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(error) from None
    if not isinstance(content, dict):
        raise Unreachable("The login server gave an answer that is none of a realm; check MONAI_LABEL_AUTH_REALM_URI.")
    return content


def _need_realm() -> None:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise NotFound("Authentication is off: no token is needed.")


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"The login server does not answer ({type(error).__name__}); is it running?")


class _Key:
    """The realm's public key, fetched once, and again when a token does not fit it."""

    def __init__(self) -> None:
        self._lock, self._pem, self._asked = threading.Lock(), "", float("-inf")

    def get(self, again: bool = False) -> str:
        with self._lock:
            if not self._pem or (again and time.monotonic() - self._asked > KEY_AGE_S):
                realm = ask_realm()
                if "public_key" not in realm:
                    raise Unreachable("The login server names no public key; check MONAI_LABEL_AUTH_REALM_URI.")
                self._pem = f"-----BEGIN PUBLIC KEY-----\n{realm['public_key']}\n-----END PUBLIC KEY-----"
                self._asked = time.monotonic()
            return self._pem


_key = _Key()


def _decode(token: str) -> dict[str, Any]:
    # Keycloak names the client in "azp", not in "aud"; a token without an end is none.
    options = {"verify_aud": False, "require": ["exp"]}
    key = _key.get()
    try:
        return jwt.decode(token, key, algorithms=ALGORITHMS, options=options)
    except jwt.InvalidSignatureError:
        newer = _key.get(again=True)
        if newer == key:
            raise
        return jwt.decode(token, newer, algorithms=ALGORITHMS, options=options)


def _user(payload: Mapping[str, Any]) -> User:
    roles: Any = payload
    for part in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        roles = roles.get(part) if isinstance(roles, Mapping) else None
    name = payload.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME)
    if not isinstance(name, str) or not name:
        raise jwt.InvalidTokenError("no user name")
    return User(
        username=name,
        email=payload.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL),
        name=payload.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME),
        roles=[str(role) for role in roles] if isinstance(roles, list) else [],
    )
