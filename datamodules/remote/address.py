"""Addresses of data sets in remote storage, such as s3://BUCKET/FOLDER."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
from fsspec.registry import known_implementations

from pocketdit.config.errors import nearest
from pocketdit.config.secrets import mask
from pocketdit.errors import ConfigError

KEY = "data.init_args.path"
WEB = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
_LOCAL = ("file", "local")


def protocol_of(path: str) -> str | None:
    """Return the protocol of an address, for example "s3", or None for a local folder."""
    match = _SCHEME.match(path)
    protocol = match[1].lower() if match else None
    return None if protocol in _LOCAL else protocol


def local_folder(path: str) -> Path:
    """Return the local folder for a path without a remote protocol."""
    match = _SCHEME.match(path)
    return Path(path[match.end() :] if match else path).expanduser()


def require_readable(address: str) -> None:
    """Check that an address can be read with the installed packages, and that reading it cannot reveal a secret.

    An address may come from a downloaded YAML file, and is sent to the server that it specifies. Therefore, it must not
    contain passwords, tokens, or the values of environment variables in which these are stored.

    Raises:
        ConfigError: The address is invalid or contains a secret, or a package is missing.
    """
    protocol = protocol_of(address)
    shown = mask(address)
    if shown != address:
        raise ConfigError(
            f"{KEY}: {shown} contains a password or token, which would be sent to the server in the address; remove "
            "it, and configure credentials as the documentation of the storage client describes"
        )
    if "::" in address:
        raise ConfigError(
            f"{KEY}: {address} chains protocols; use the address of the folder itself, such as s3://BUCKET/FOLDER"
        )
    if protocol not in known_implementations:
        near = nearest(protocol or "", known_implementations)
        hint = f"did you mean {near}://?" if near else "use s3://, gs://, hf:// or https://"
        raise ConfigError(f"{KEY}: {address} has the unknown protocol {protocol!r}; {hint}")
    parts = urlsplit(address)
    if not parts.netloc or ".." in parts.path.split("/"):
        raise ConfigError(
            f"{KEY}: {address} is not the address of a folder, such as s3://BUCKET/FOLDER or https://HOST/FOLDER"
        )
    if protocol in WEB and (parts.query or parts.fragment or "@" in parts.netloc):
        raise ConfigError(f"{KEY}: {address} is not the address of a folder: it must not contain a user, '?' or '#'")
    if protocol in WEB and any(fsspec.config.conf.get(name) for name in WEB):
        raise ConfigError(
            f"{KEY}: the options for {protocol}:// in fsspec's configuration would be sent to the server of any "
            f"address; unset them (the variables FSSPEC_{protocol.upper()}...) to read {address}"
        )
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ConfigError(f"{KEY}: {address} needs a package that is not installed: {error}") from error
