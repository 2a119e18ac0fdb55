"""Who asks, from the token of the realm: MONAI Label's switch, with a check that current PyJWT lets pass.

MONAI Label names no algorithm, which PyJWT 2 answers by refusing every token; and it asks for the realm's key inside
the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import jwt
import requests
from fastapi import Depends, FastAPI, HTTPException
from monailabel.config import settings
from monailabel.endpoints.user.auth import User, get_current_user, oauth2_scheme

from ..errors import Unreachable

# Signed with the realm's private key; never HMAC, whose secret would be the public key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_AGE_S = 60.0  # a realm may change its key; a token that does not fit makes us ask again, this often at most


def authenticate(api: FastAPI) -> None:
    """Check tokens where MONAI Label would, if its switch is on."""
    if settings.MONAI_LABEL_AUTH_ENABLE:
        api.dependency_overrides[get_current_user] = current_user


def current_user(token: str = Depends(oauth2_scheme)) -> User:
    """The user whose token this is.

    Raises:
        HTTPException: 401 for a token that is forged, damaged or has expired.
        Unreachable: if the realm does not answer.
    """
    try:
        return _user(_read(token))
    except jwt.InvalidTokenError as error:
        why = "it has expired" if isinstance(error, jwt.ExpiredSignatureError) else "it is not one of this realm"
        sentence = f"The token was refused: {why}; log in again."
        raise HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"}) from None


def ask_realm(path: str = "") -> dict[str, Any]:
    """What the realm says of itself.

    Raises:
        Unreachable: if it does not answer with that.
    """
    address = settings.MONAI_LABEL_AUTH_REALM_URI.rstrip("/")
    try:
        response = requests.get(address + path, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        response.raise_for_status()
        told = response.json()
    except (requests.RequestException, ValueError) as error:
        raise Unreachable(f"The login server does not answer ({type(error).__name__}); is it running?") from None
    if not isinstance(told, dict):
        raise Unreachable("The login server gave an answer that is none of a realm; check MONAI_LABEL_AUTH_REALM_URI.")
    return told


class _Key:
    def __init__(self) -> None:
        self._lock, self._pem, self._asked = threading.Lock(), "", float("-inf")

    def get(self, again: bool = False) -> str:
        with self._lock:
            if not self._pem or (again and time.monotonic() - self._asked > KEY_AGE_S):
                told = ask_realm()
                if "public_key" not in told:
                    raise Unreachable("The login server names no public key; check MONAI_LABEL_AUTH_REALM_URI.")
                self._pem = f"-----BEGIN PUBLIC KEY-----\n{told['public_key']}\n-----END PUBLIC KEY-----"
                self._asked = time.monotonic()
            return self._pem


_key = _Key()


def _read(token: str) -> dict[str, Any]:
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
