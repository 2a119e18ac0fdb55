"""Authentication and roles, by tokens of the realm in MONAI Label's settings; and the login routes.

MONAI Label's own code passes no signature algorithm, so PyJWT 2 refuses every token; and it responds to a wrong
password with 500.
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

# Asymmetric signatures only. With HMAC, anybody could sign with the realm's public key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_AGE_S = 60.0  # shortest interval at which the key is fetched again for tokens that do not match it
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
    """An authenticated user."""

    username: str
    email: str | None = None
    name: str | None = None
    roles: list[str] = []


# The user if authentication is off.
ANYBODY = User(username="admin", email="admin@monailabel.com", name="UNK", roles=list(ROLES))


def current_user(token: str) -> User:
    """Return the user to whom a token belongs.

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


# Types of route parameters: the user who sent the request, refused without the role.
AnyUser = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(_with_role(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


def may_annotate(user: User) -> bool:
    """Return whether this user may save labels."""
    return not settings.MONAI_LABEL_AUTH_ENABLE or settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR in user.roles


def annotator_name(user: User, client_id: object) -> str:
    """Return the name of an annotator: the authenticated user's, or without authentication the client's ID."""
    return user.username if settings.MONAI_LABEL_AUTH_ENABLE else str(client_id or "")


@router.get("/", summary="Whether tokens are needed", include_in_schema=settings.MONAI_LABEL_AUTH_ENABLE)
def enabled() -> dict[str, Any]:
    """Return the realm that issues tokens; 404 if authentication is off."""
    _need_realm()
    return {
        "enabled": True,
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "realm": settings.MONAI_LABEL_AUTH_REALM_URI,
    }


@router.get("/token/valid", summary="Whether a token is valid", include_in_schema=settings.MONAI_LABEL_AUTH_ENABLE)
def valid(user: User = Depends(_asking)) -> User:
    """Return the user to whom the token belongs."""
    _need_realm()
    return user


@router.post("/token", summary="Log in")
def token(form: OAuth2PasswordRequestForm = Depends()) -> dict[str, Any]:
    """Send user name and password to the realm, and return its token."""
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
    """Return a JSON object with metadata of the realm.

    Raises:
        Unreachable: if the realm does not answer with a JSON object.
    """
    address = settings.MONAI_LABEL_AUTH_REALM_URI.rstrip("/")
    try:
        response = requests.get(address + path, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        response.raise_for_status()
        content = response.json()
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(error) from None
    if not isinstance(content, dict):
        raise Unreachable("The login server's answer does not describe a realm; check MONAI_LABEL_AUTH_REALM_URI.")
    return content


def _need_realm() -> None:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise NotFound("Authentication is off: no token is needed.")


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"The login server does not answer ({type(error).__name__}); is it running?")


class _Key:
    """The realm's public key, fetched once, and again if a token does not match it: the realm may change its key."""

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
    # Keycloak names the client in "azp", not in "aud". A token without an expiry time is invalid.
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
