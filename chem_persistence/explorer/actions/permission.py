"""Who may change flows: a browser that was opened with the key, on a page of the explorer."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

__all__ = ["Permission", "permission_of"]

COOKIE: Final = "explorer_key"
MOST_BYTES = 1_000_000
"""The limit of a form: an answer may be some text."""


class Permission:
    """The key of one run of the server, which the address that is printed holds.

    The browser keeps the key in a cookie that no other site makes it send (SameSite, RFC 6265bis)
    and no script reads. Each form repeats a value that is derived from the key, and its request
    must come from a page of the explorer itself, by its Origin. So a page of another site can
    neither send a form nor learn what to send.
    """

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(32)
        self.form_key = hmac.digest(self.key.encode(), b"form", hashlib.sha256).hex()

    async def enter(self, request: Request) -> Response:
        """Answer a request for the address with the key: keep it in a cookie, and go on.

        Raises:
            HTTPException: 403, it is not the key of this server.
        """
        if not self._is_key(request.query_params.get("key", "")):
            raise HTTPException(403, "that is not the key of this server: open the printed address")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self.key, httponly=True, samesite="strict")
        return answer

    def check_reader(self, request: Request) -> None:
        """Check that a browser may see the forms.

        Raises:
            HTTPException: 403, it was not opened with the key.
        """
        if not self._is_key(request.cookies.get(COOKIE, "")):
            raise HTTPException(403, "open the address with the key that the command has printed")

    async def form(self, request: Request) -> Mapping[str, str]:
        """Return the fields of a form, if it may be sent.

        Raises:
            HTTPException: 403, the form is not one of a page of this server; 413, it is too long.
        """
        self.check_reader(request)
        origin = request.headers.get("origin", "")
        if urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "a form is accepted from a page of this server only")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise HTTPException(413, "the form is too long")
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        given = {name: values[0] for name, values in fields.items()}
        if not hmac.compare_digest(given.get("form_key", "").encode(), self.form_key.encode()):
            raise HTTPException(403, "the page is of an earlier run of this server: open it again")
        return given

    def _is_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.key.encode())


def permission_of(request: Request) -> Permission:
    """Return the permission of the application that answers a request."""
    permission: Permission = request.app.state.permission
    return permission
