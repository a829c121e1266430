"""The web application of a preference study.

    GET  /                  instructions and progress
    POST /begin             adds a rater; only on the loopback interface
    GET  /join/TOKEN        stores an invited rater's token in a cookie
    GET  /next              redirects to the first comparison that lacks answers
    GET  /compare/ID        a comparison with the answers so far
    POST /compare/ID        stores answers
    GET  /done              the last page
    GET  /image/ID          an image of one of the rater's comparisons
    GET  /static/NAME       the style sheet, the script and the icon

Every response depends only on the database, so pages can be reloaded, opened twice and reached in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from evaluation.preference.pictures import path_of
from evaluation.preference.questions import CHOICES, QUESTIONS
from evaluation.preference.settings import Preference
from evaluation.preference.storage.store import Plan, Store
from evaluation.preference.tokens import digest, is_token, new_token
from evaluation.preference.web.limits import RateLimiter

_STATIC = {"style.css": "text/css", "compare.js": "text/javascript", "icon.svg": "image/svg+xml"}
_FOREVER = "private, max-age=31536000, immutable"
_COOKIE_SECONDS = 90 * 24 * 3600
_MESSAGES = {
    400: "This request is not valid.",
    401: "Open your personal link to take part.",
    403: "This study is open to invited raters only.",
    404: "This page does not exist.",
    429: "Too many requests. Wait a few seconds, then reload this page.",
    503: "The answers cannot be stored at the moment. Wait a minute, then reload this page.",
}


@dataclass(frozen=True)
class Limits:
    """How many requests per second a client can send in the long run, and how many at once.

    Strangers are clients without a rater's token. They are identified by their address.
    """

    rater: tuple[float, int] = (20.0, 200)
    stranger: tuple[float, int] = (10.0, 100)


class Study:
    """The handlers of the application.

    Args:
        settings: The settings of the study.
        store: The study in the database.
        plan: Returns a new rater's comparisons.
        cookie: Name of the cookie with the token.
        is_open: Whether anyone who reaches the server can take part without an invitation.
        is_secure: Whether raters reach the server over HTTPS.
        limits: Limits on the rate of requests.
    """

    def __init__(
        self,
        settings: Preference,
        store: Store,
        plan: Plan,
        cookie: str,
        is_open: bool,
        is_secure: bool,
        limits: Limits,
    ) -> None:
        self.settings, self.store, self.plan = settings, store, plan
        self.cookie, self.is_open, self.is_secure = cookie, is_open, is_secure
        self._raters, self._strangers = RateLimiter(*limits.rater), RateLimiter(*limits.stranger)
        environment = Environment(
            loader=PackageLoader("evaluation.preference.web"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._page = environment.get_template
        self._static = {name: (Path(__file__).parent / "static" / name).read_bytes() for name in _STATIC}

    def home(self, request: Request) -> Response:
        """Show the instructions and the rater's progress."""
        rater = self._rater(request)
        missing, total = self.store.progress(rater, len(self.settings.questions)) if rater is not None else ([], 0)
        planned = total or len(self.plan(0))
        return self._html(
            "home.html.jinja", is_rater=rater is not None, is_open=self.is_open, total=planned,
            answered=total - len(missing), token=new_token(),
        )  # fmt: skip

    async def begin(self, request: Request) -> Response:
        """Add a rater, and redirect to the first comparison. Sending the same form twice adds only one rater."""
        fields = await _fields(request)

        def add() -> Response:
            token, rater = fields.get("token", ""), self._rater(request)
            if not self.is_open:
                raise HTTPException(403)
            if not is_token(token):
                raise HTTPException(400)
            if rater is None:
                self.store.add_rater(digest(token), self.plan)
                return self._with_cookie(RedirectResponse("/next", 303), token)
            return RedirectResponse("/next", 303)

        return await run_in_threadpool(add)

    def join(self, request: Request) -> Response:
        """Store an invited rater's token in a cookie, and redirect to a page whose address does not contain it."""
        self._limit_stranger(request)
        token = request.path_params["token"]
        if not is_token(token) or self.store.rater(digest(token)) is None:
            raise HTTPException(404)
        return self._with_cookie(RedirectResponse("/", 303), token)

    def next(self, request: Request) -> Response:
        """Redirect to the first comparison that lacks answers."""
        missing, _ = self.store.progress(self._require_rater(request), len(self.settings.questions))
        return RedirectResponse(f"/compare/{missing[0]}" if missing else "/done", 303)

    def compare(self, request: Request) -> Response:
        """Show a comparison with the answers so far."""
        shown = self.store.comparison(self._require_rater(request), request.path_params["id"])
        if shown is None:
            raise HTTPException(404)
        questions = [(name, QUESTIONS[name]) for name in self.settings.questions]
        return self._html(
            "compare.html.jinja", shown=shown, questions=questions, ties=self.settings.ties,
            is_incomplete="incomplete" in request.query_params,
        )  # fmt: skip

    async def answer(self, request: Request) -> Response:
        """Store answers. The form field ``go`` determines the next page; without it, the response is empty."""
        fields = await _fields(request)
        go = fields.pop("go", "")
        choices = CHOICES if self.settings.ties else tuple(choice for choice in CHOICES if choice != "tie")
        known = all(name in self.settings.questions and choice in choices for name, choice in fields.items())

        def store() -> Response:
            rater, identifier = self._require_rater(request), request.path_params["id"]
            if not known or go not in ("", "back", "next"):
                raise HTTPException(400)
            if not self.store.record(rater, identifier, fields):
                raise HTTPException(404)
            if not go:
                return Response(status_code=204)
            shown = self.store.comparison(rater, identifier)
            assert shown is not None  # its answers have just been stored
            if go == "back":
                return RedirectResponse(f"/compare/{shown.before}" if shown.before else "/", 303)
            if len(shown.answers) < len(self.settings.questions):
                return RedirectResponse(f"/compare/{identifier}?incomplete", 303)
            return RedirectResponse(f"/compare/{shown.after}" if shown.after else "/next", 303)

        return await run_in_threadpool(store)

    def done(self, request: Request) -> Response:
        """Thank the rater, or state how many comparisons lack answers."""
        missing, total = self.store.progress(self._require_rater(request), len(self.settings.questions))
        return self._html("done.html.jinja", missing=len(missing), total=total)

    def image(self, request: Request) -> Response:
        """Return an image of one of the rater's comparisons."""
        identifier = request.path_params["id"]
        if not self.store.shows(self._require_rater(request), identifier):
            raise HTTPException(404)
        path = path_of(self.settings.folder, identifier)
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": _FOREVER})

    def static(self, request: Request) -> Response:
        """Return the style sheet, the script or the icon."""
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        return Response(self._static[name], media_type=_STATIC[name], headers={"Cache-Control": "no-cache"})

    def error(self, request: Request, error: Exception) -> Response:
        """Show an error as a page."""
        status = error.status_code if isinstance(error, HTTPException) else 503
        page = self._page("error.html.jinja").render(status=status, message=_MESSAGES.get(status, _MESSAGES[400]))
        return HTMLResponse(page, status, {"Cache-Control": "no-store"})

    def _rater(self, request: Request) -> int | None:
        """Apply the rate limits, and return the key of the rater whose token is in the cookie, or None."""
        token = request.cookies.get(self.cookie, "")
        rater = self.store.rater(digest(token)) if is_token(token) else None
        if rater is None:
            self._limit_stranger(request)
        elif not self._raters.allow(str(rater)):
            raise HTTPException(429)
        return rater

    def _require_rater(self, request: Request) -> int:
        rater = self._rater(request)
        if rater is None:
            raise HTTPException(401)
        return rater

    def _limit_stranger(self, request: Request) -> None:
        if not self._strangers.allow(request.client.host if request.client else ""):
            raise HTTPException(429)

    def _with_cookie(self, response: Response, token: str) -> Response:
        # Lax, not strict: if a rater follows an invitation link on another site, browsers do not send a strict cookie
        # with the redirected request.
        response.set_cookie(
            self.cookie, token, max_age=_COOKIE_SECONDS, httponly=True, samesite="lax", secure=self.is_secure
        )
        return response

    def _html(self, template: str, **values: object) -> Response:
        return HTMLResponse(self._page(template).render(values), headers={"Cache-Control": "no-store"})


def create_app(study: Study) -> Starlette:
    """Return the application."""
    routes = [
        Route("/", study.home),
        Route("/begin", study.begin, methods=["POST"]),
        Route("/join/{token}", study.join),
        Route("/next", study.next),
        Route("/compare/{id}", study.compare),
        Route("/compare/{id}", study.answer, methods=["POST"]),
        Route("/done", study.done),
        Route("/image/{id}", study.image),
        Route("/static/{name}", study.static),
    ]
    handler = cast(Callable[[Request, Exception], Response], study.error)
    app = Starlette(routes=routes, exception_handlers={HTTPException: handler, SQLAlchemyError: handler})
    app.router.redirect_slashes = False  # would redirect //host/ to another host
    return app


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form. A field that occurs twice is not valid."""
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20
        )
    except ValueError:
        raise HTTPException(400) from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise HTTPException(400)
    return fields
