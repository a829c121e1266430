"""Implements ``lightning preference serve``."""

import socket
from threading import Event
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from evaluation.preference.invitations import FILE_NAME, read_tokens, write_links
from evaluation.preference.open import open_study
from evaluation.preference.plans import planner
from evaluation.preference.settings import Preference
from evaluation.preference.storage.store import Store
from evaluation.preference.tokens import digest
from evaluation.preference.web.app import Limits, Study, create_app
from pocketdit.config.load import Loaded
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import ConfigError, RunError
from pocketdit.serving.guard import Allowed, Guard, allowed_on
from pocketdit.serving.loopback import NAMES, host_name, is_same_origin
from pocketdit.serving.ports import listen
from pocketdit.serving.server import running

MAX_BODY = 4096  # in bytes; a form with all answers has fewer than 200


def serve(loaded: Loaded[Preference], host: str, port: int, url: str) -> None:
    """Serve a study until Ctrl-C is pressed.

    Args:
        loaded: The settings.
        host: Address of the interface. On all but the loopback interface, raters need an invitation.
        port: Preferred port. If it is in use, the next free port is used.
        url: Address at which raters reach the server through a proxy; "" without a proxy.

    Raises:
        ConfigError: A setting has changed since the study was created, or the port or ``url`` is invalid.
        RunError: The study has not been created, nobody has been invited, no port is free, or the database does not
            respond.
    """
    settings = loaded.config
    _public_name(url)  # reports an invalid address before anything is opened
    store = open_study(loaded)
    if not _is_open(host, url) and not read_tokens(settings.folder / FILE_NAME):
        command = command_line("preference", "create", operand(loaded.path), *map(str, loaded.overrides), "raters=20")
        raise RunError(f"raters: only invited raters can reach {url or host}; invite some with: {command}")
    listener = listen(host, port)
    actual = listener.getsockname()[1]
    if actual != port:
        print(f"Port {port} is in use; using port {actual}.")
    address = url.rstrip("/") or _address(listener.getsockname()[0], actual)
    with running(application(settings, store, host, url), listener):
        print(address, flush=True)
        if not _is_open(host, url):
            print(f"Send each rater a different link from {write_links(settings.folder, address)}.")
        print("Press Ctrl-C to stop.", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("\nStopped. All answers are stored; run the same command to continue.")


def application(settings: Preference, store: Store, host: str, url: str = "", limits: Limits | None = None) -> ASGIApp:
    """Return the guarded application.

    Args:
        settings: The settings.
        store: The study in the database.
        host: Address of the interface.
        url: Address at which raters reach the server through a proxy; "" without a proxy.
        limits: Limits on the rate of requests.
    """
    plan = planner(settings, len(store.prompts()))
    is_secure = url.startswith("https:")
    # Browsers send a cookie to all ports of a host, where other studies may be served.
    cookie = f"rater_{digest(min(store.images().values()))[:16]}"
    study = Study(settings, store, plan, cookie, _is_open(host, url), is_secure, limits or Limits())
    return Guard(create_app(study), _allowed(host, _public_name(url)), MAX_BODY)


def _is_open(host: str, url: str) -> bool:
    """Return whether only this machine can reach the server, so that raters need no invitation."""
    return host in NAMES and not url


def _public_name(url: str) -> str | None:
    """Return the host name in a public address."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.query:
            return parts.hostname
    except ValueError:
        pass
    raise ConfigError(f"--url {url}: must be http:// or https:// and a host without a path")


def _allowed(host: str, public: str | None) -> Allowed:
    """Return a predicate that accepts requests for the server's own names and for its public name."""
    own = allowed_on(host)

    def is_allowed(target: str | None, origin: str | None) -> bool:
        is_public = public is not None and host_name(target) == public and is_same_origin(target, origin)
        return is_public or own(target, origin)

    return is_allowed


def _address(host: str, port: int) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
