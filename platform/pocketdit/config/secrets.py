"""Passwords and tokens: they are read from the environment, stored as references, and masked in every output.

A configuration refers to a secret as ``${oc.env:NAME}``. What is written to files and to MLflow contains the reference,
never the value, so a file that is read again resolves it again.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from pocketdit.errors import ConfigError

MASK = "***"

_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*([A-Za-z_]\w*)")
# The password of scheme://user:password@host, and the values of secret parameters of a URL.
_PASSWORD = re.compile(r"(?<=://)([^/\s:@'\"]*):((?:\$\{[^}]*\}|[^/\s'\"])+)@")
_PARAMETER = re.compile(r"(?i)([?&](?:\w*password|passwd|\w*token|\w*secret|api_?key)=)((?:\$\{[^}]*\}|[^&\s'\"])+)")
_SECRET_NAME = re.compile(r"(?i)pass|token|secret|key|credential|auth|pw")
# Shorter values, such as "1", also occur in text that is not secret.
_LEAST_LENGTH = 4

_seen: set[str] = set()


class Reference(str):
    """An interpolation that is stored as it was written."""


def mask(text: str) -> str:
    """Replace the passwords and tokens in a text, and the secrets that a configuration read from the environment."""
    for value in sorted(_seen, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    return _PARAMETER.sub(rf"\1{MASK}", text)


def is_masked(uri: str) -> bool:
    """Return whether a URI lacks its password because it was masked."""
    return MASK in uri


def require_no_password(text: str) -> None:
    """Check that a value as it was written does not contain a password.

    Raises:
        ValueError: It does. The message does not repeat it.
    """
    written = [match[2] for pattern in (_PASSWORD, _PARAMETER) for match in pattern.finditer(text)]
    if any("${" not in secret and secret != MASK for secret in written):
        raise ValueError(
            "contains a password, which would be stored in plain text; put it in an environment variable and write "
            "${oc.env:NAME} in its place"
        )


def resolve(text: str) -> str:
    """Resolve the interpolations of a command-line value that is not part of a configuration.

    Raises:
        ConfigError: The value contains a password, or an interpolation that cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        require_no_password(text)
        remember(text)
        return str(OmegaConf.to_container(OmegaConf.create({"value": text}), resolve=True)["value"])  # type: ignore[call-overload, index]
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"{mask(text)}: {str(error).splitlines()[0]}") from None


def environment_values(written: Any) -> set[str]:
    """Return the values of all environment variables that nested values, as they were written, refer to."""
    names = {name for text in _texts(written) for name in _ENVIRONMENT.findall(text)}
    return {value for name in names if (value := os.environ.get(name))}


def remember(written: Any) -> None:
    """Mask, from now on, the values of the variables in ``written`` whose names say that they are secret."""
    names = {name for text in _texts(written) for name in _ENVIRONMENT.findall(text) if _SECRET_NAME.search(name)}
    _seen.update(value for name in names if len(value := os.environ.get(name, "")) >= _LEAST_LENGTH)


def with_references(resolved: Any, written: Any, values: set[str]) -> Any:
    """Put back the interpolations whose result contains the value of an environment variable.

    Args:
        resolved: Nested plain values.
        written: The same values before interpolations were resolved.
        values: The values of the environment variables.
    """
    if isinstance(written, str) and "${" in written:
        secret = _ENVIRONMENT.search(written) or any(value in text for text in _texts(resolved) for value in values)
        return Reference(written) if secret else resolved
    if isinstance(resolved, dict) and isinstance(written, dict):
        return {name: with_references(value, written.get(name), values) for name, value in resolved.items()}
    if isinstance(resolved, list) and isinstance(written, list) and len(resolved) == len(written):
        return [with_references(*pair, values) for pair in zip(resolved, written, strict=True)]
    return resolved


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings in nested values, and all other scalars as text."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)
