"""Passwords and tokens, which are read from the environment, stored as references, and masked in all output.

A configuration refers to a secret as ``${oc.env:NAME}``. Files and MLflow only contain this reference and never the
value. The reference is resolved whenever a file is loaded.
"""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from pocketdit.errors import ConfigError

MASK = "***"

_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*([A-Za-z_]\w*)")
_DEFAULT = re.compile(r"\$\{\s*oc\.env\s*:[^}]*,")  # ${oc.env:NAME,default}
# The password in scheme://user:password@host. Digits before a slash are a port, as in http://host:5000/a@b.
_PASSWORD = re.compile(r"(?<=://)(?!\[)([^/\s:@'\"]*):(?!\d+[/?#'\"])((?:\$\{[^}]*\}|[^\s@])+)@")
# Values of parameters that contain secrets, as in ?token=VALUE, or as in ;PWD=VALUE in an ODBC string, which may be
# percent-encoded in a URL.
_PARAMETER = re.compile(
    r"(?i)((?:[?&;#]|%3B|%26)(?:[\w.-]*(?:password|passwd|pwd|token|secret|signature|credential|(?:api|access)[_-]?key)"
    r"|pass|sig|auth|key)(?:=|%3D))((?:\$\{[^}]*\}|[^&;\s'\"])+)"
)
_SECRET_NAME = re.compile(r"(?i)pass|token|secret|key|credential|auth|pw")
# Shorter values, such as "1", are not masked, because they also occur in ordinary text.
_LEAST_LENGTH = 4

_seen: set[str] = set()


class Reference(str):
    """An interpolation that is stored in its original form."""


def mask(text: str) -> str:
    """Mask the passwords and tokens in text, including secrets that a configuration has read from the environment."""
    for value in sorted(_seen, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    return _PARAMETER.sub(rf"\1{MASK}", text)


def is_masked(uri: str) -> bool:
    """Return whether a URI contains a masked password."""
    return MASK in uri


def require_no_password(text: str) -> None:
    """Check that a value of a configuration does not contain a password in plain text.

    Raises:
        ValueError: The value contains a password. The message does not include it.
    """
    secrets = (secret for secret in _secrets(text) if secret != MASK)
    if any("${" not in secret or _DEFAULT.search(secret) for secret in secrets):
        raise ValueError(
            "contains a password, which would be stored in plain text; set an environment variable and refer to it "
            "as ${oc.env:NAME}"
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


def _secrets(text: str) -> list[str]:
    """Return the passwords and the values of secret parameters in the URLs of a text."""
    return [match[2] for pattern in (_PASSWORD, _PARAMETER) for match in pattern.finditer(text)]


def environment_values(written: Any) -> set[str]:
    """Return the values of all environment variables to which the nested values in ``written`` refer."""
    names = {name for text in _texts(written) for name in _ENVIRONMENT.findall(text)}
    return {value for name in names if (value := os.environ.get(name))}


def remember(written: Any) -> None:
    """Remember the values of environment variables in ``written`` that contain secrets, so that ``mask`` hides them.

    A variable contains a secret if its name suggests one, or if it is the password or a secret parameter of a URL.
    """
    names = {name for text in _texts(written) for name in _ENVIRONMENT.findall(text) if _SECRET_NAME.search(name)}
    secrets = (secret for text in _texts(written) for secret in _secrets(text))
    names |= {name for secret in secrets for name in _ENVIRONMENT.findall(secret)}
    for value in (value for name in names if len(value := os.environ.get(name, "")) >= _LEAST_LENGTH):
        _seen.update((value, unquote(value), quote(value, safe="")))  # libraries may decode or encode URLs


def with_references(resolved: Any, written: Any, values: set[str]) -> Any:
    """Restore the interpolations whose results contain the value of an environment variable.

    Args:
        resolved: Nested plain values.
        written: The same values before interpolations were resolved.
        values: Values of the environment variables.
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
    """Yield all scalars in nested values as strings."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)
