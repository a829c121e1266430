"""A token that a server requires if other machines can reach it.

The link with the token sets a cookie and redirects to the same page without the token, so that the token appears
neither in the history of the browser nor in links that users copy.
"""

import hmac
import secrets

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PARAMETER = "access"  # not "token", because commands mask parameters with that name in their output
_COOKIE = "pocketdit_access"


def new_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(24)


class TokenGate:
    """An ASGI application that passes requests with the token to an application, and refuses all others.

    Args:
        app: The application.
        token: The token.
        port: Port of the server. Browsers send a cookie to all ports of a host, so the port is part of its name.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token, f"{_COOKIE}_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        request = Request(scope)
        response: ASGIApp = self.app
        if PARAMETER in request.query_params:
            response = self._enter(request)
        elif not self._is_token(request.cookies.get(self.cookie, "")):
            response = self._refusal()
        await response(scope, receive, send)

    def _enter(self, request: Request) -> Response:
        if not self._is_token(request.query_params[PARAMETER]):
            return self._refusal()
        query = request.url.remove_query_params(PARAMETER).query
        path = f"/{request.url.path.lstrip('/')}"  # a path that begins with two slashes would lead to another host
        response = RedirectResponse(f"{path}?{query}" if query else path, 303)
        # A strict cookie would be missing from the redirected request if the link is on another site.
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return response

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.token.encode())

    def _refusal(self) -> Response:
        return PlainTextResponse("Open the complete link that the command printed when it started.\n", 401)
