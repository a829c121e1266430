"""Random tokens by which the server recognizes raters."""

import hashlib
import re
import secrets

_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a random token of 256 bits, which can be part of a URL."""
    return secrets.token_urlsafe(_BYTES)


def is_token(text: str) -> bool:
    """Return whether a string has the form of a token."""
    return _FORM.fullmatch(text) is not None


def digest(token: str) -> str:
    """Return the SHA-256 of a token. It needs no salt, because tokens are random."""
    return hashlib.sha256(token.encode()).hexdigest()
