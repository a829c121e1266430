"""The web application of the playground."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as WebRequest
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pocketdit.commands.demo.gallery import Gallery
from pocketdit.commands.demo.jobs import Job, Jobs
from pocketdit.commands.demo.request import AGAINST, Request, parse_request, size_text
from pocketdit.commands.demo.subjects import Subject
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import UserError
from pocketdit.names import one_line

MAX_BODY = 200_000  # bytes
_FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_PACKAGE = "pocketdit.commands.demo"


def build_app(subjects: Sequence[Subject], jobs: Jobs, gallery: Gallery) -> Starlette:
    """Build the web application of the playground.

    Args:
        subjects: The run to sample from and, optionally, a second run to compare with it.
        jobs: The queue of requests.
        gallery: The images of the session.
    """
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("page.html.jinja")

    async def show(web: WebRequest) -> Response:
        """Show the page with the settings in the query or, if these are invalid, with the run's own settings."""
        error = ""
        try:
            request = await run_in_threadpool(parse_request, web.url.query, subjects)
        except UserError as invalid:
            error = one_line(str(invalid))
            request = await run_in_threadpool(parse_request, "", subjects)
        page = template.render(**page_values(request, subjects), error=error)
        return HTMLResponse(page, 400 if error else 200, {"Cache-Control": "no-store"})

    async def sample(web: WebRequest) -> Response:
        """Queue a request, and stream its events. The request is canceled if the client disconnects."""
        body = (await web.body()).decode(errors="replace")
        try:
            request = await run_in_threadpool(parse_request, body, subjects)
        except UserError as invalid:
            return PlainTextResponse(one_line(str(invalid)), 400)
        job = Job(request)
        if not jobs.add(job):
            return PlainTextResponse("the queue is full; try again in a minute", 503)
        return StreamingResponse(_lines(job, jobs, web), media_type="application/x-ndjson")

    async def list_pictures(web: WebRequest) -> Response:
        """Return all images of the session, oldest first."""
        return JSONResponse(
            [picture.as_json() for picture in gallery.pictures()], headers={"Cache-Control": "no-store"}
        )

    async def image(web: WebRequest) -> Response:
        """Return an image of the session."""
        path = gallery.file(web.path_params["name"])
        if path is None:
            return PlainTextResponse("no such image", 404)
        # "no-cache" makes the browser check for changes, because the next session reuses the file names.
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "no-cache"})

    routes = [
        Route("/", show),
        Route("/sample", sample, methods=["POST"]),
        Route("/gallery", list_pictures),
        Route("/images/{name}", image),
    ]
    return Starlette(routes=[*routes, *(_file_route(name, media_type) for name, media_type in _FILES.items())])


def page_values(request: Request, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the values for the page's template: the settings of a request, and the available choices."""
    sides = []
    for subject, prefix in zip(subjects, ("", AGAINST), strict=False):
        chosen = next((side for side in request.sides if side.subject == subject), None)
        sampling = chosen.sampling if chosen else subject.experiment.sampling
        sides.append(
            {
                "prefix": prefix,
                "run": subject.name,
                "chosen": chosen is not None,
                "widths": [(f"{width:g}", chosen is None or width in chosen.widths) for width in subject.widths],
                "steps": sampling.steps,
                "sampler": sampling.sampler,
                "guidance": f"{sampling.guidance:.15g}",
                "decoders": subject.decoders,
                "decoder": chosen.decoder if chosen else subject.decoders[0],
            }
        )
    return {
        "prompts": request.sampling.prompts,
        "seed": request.sampling.seed,
        "size": size_text(request.sampling),
        "sides": sides,
        "samplers": get_args(SamplerName),
        "notices": list(dict.fromkeys(subject.notice for subject in subjects if subject.notice)),
    }


def _file_route(name: str, media_type: str) -> Route:
    content = files(_PACKAGE).joinpath("page", name).read_bytes()

    async def answer(web: WebRequest) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return Route(f"/{name}", answer)


async def _lines(job: Job, jobs: Jobs, web: WebRequest) -> AsyncIterator[str]:
    """Yield the events of a request as JSON lines. Cancel the request if the client stops reading them."""
    watch = asyncio.create_task(_cancel_on_disconnect(job, jobs, web))
    try:
        async for event in job.events():
            yield json.dumps(event) + "\n"
    finally:
        watch.cancel()
        jobs.cancel(job)


async def _cancel_on_disconnect(job: Job, jobs: Jobs, web: WebRequest) -> None:
    while (await web.receive())["type"] != "http.disconnect":
        pass
    jobs.cancel(job)
