"""``POST /auth/token``: user name and password go to the realm, its token comes back."""

from __future__ import annotations

from typing import Any

import requests
from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings

from ..errors import NotFound, Unreachable
from .authentication import ask_realm

router = APIRouter(prefix="/auth", tags=["Auth"])


@router.post("/token", summary="Log in")
def token(form: OAuth2PasswordRequestForm = Depends()) -> dict[str, Any]:
    """A token of the realm. MONAI Label answers 500 to a wrong password; here it is 401."""
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise NotFound("Authentication is off: no token is needed.")
    address = ask_realm("/.well-known/openid-configuration").get("token_endpoint")
    login = {
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "username": form.username,
        "password": form.password,
        "grant_type": "password",
    }
    try:
        response = requests.post(str(address), data=login, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        told = response.json()
    except (requests.RequestException, ValueError) as error:
        raise Unreachable(f"The login server does not answer ({type(error).__name__}); is it running?") from None
    if response.status_code in (400, 401):
        raise HTTPException(401, "User name or password is wrong.", {"WWW-Authenticate": "Bearer"})
    if not response.ok or "access_token" not in told:
        raise Unreachable(f"The login server answered {response.status_code}; its log says why.")
    return {"access_token": told["access_token"], "token_type": told.get("token_type", "Bearer")}
