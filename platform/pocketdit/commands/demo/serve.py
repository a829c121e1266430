"""Serves a playground until Ctrl-C is pressed."""

import socket
from functools import partial

from starlette.types import ASGIApp

from pocketdit.commands.demo.app import MAX_BODY, build_app
from pocketdit.commands.demo.gallery import Gallery
from pocketdit.commands.demo.jobs import Jobs
from pocketdit.commands.demo.sampling import sample
from pocketdit.commands.demo.settings import Demo
from pocketdit.commands.demo.subjects import Models, find_subjects
from pocketdit.serving.browser import show
from pocketdit.serving.guard import Guard, allowed_on
from pocketdit.serving.loopback import NAMES
from pocketdit.serving.ports import listen
from pocketdit.serving.server import running
from pocketdit.serving.token import PARAMETER, TokenGate, new_token


def serve(settings: Demo) -> None:
    """Serve a playground. Images are sampled in the main thread, so that Ctrl-C stops sampling at once.

    Raises:
        UserError: A run cannot be sampled, or the address or the port cannot be used.
    """
    subjects = find_subjects(settings)
    jobs, gallery = Jobs(), Gallery(settings.out)
    app: ASGIApp = build_app(subjects, jobs, gallery)
    with listen(settings.address, settings.port, "port=") as listener:
        port = listener.getsockname()[1]
        if port != settings.port:
            print(f"Port {settings.port} is in use; using port {port}.")
        url = f"http://{_shown_host(settings.address)}:{port}/"
        if settings.address not in NAMES:
            token = new_token()
            app, url = TokenGate(app, token, port), f"{url}?{PARAMETER}={token}"
        with running(Guard(app, allowed_on(settings.address), MAX_BODY), listener):
            show(url, settings.browser)
            print(f"Images are saved in {gallery.folder}\nPress Ctrl-C to stop.", flush=True)
            try:
                jobs.work(partial(sample, models=Models(), gallery=gallery))
            except KeyboardInterrupt:
                print("\nStopped.")


def _shown_host(address: str) -> str:
    """Return the host name for the link. If the server listens on all interfaces, this is the name of the machine."""
    if address in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address
