"""Finds ports on which servers can listen."""

import socket
from errno import EADDRINUSE

from pocketdit.errors import ConfigError, RunError

_PORTS_TRIED = 20


def listen(address: str, first: int, option: str = "--port ") -> socket.socket:
    """Listen on the first port at or above ``first`` that is not in use.

    Args:
        address: IP address of the interface.
        first: Preferred port.
        option: Text that error messages show before the port, such as ``--port``.

    Raises:
        ConfigError: ``first`` is not a valid port number.
        RunError: Twenty ports in a row are in use, the user may not use the port, or the machine does not have this
            address.
    """
    if not 0 < first < 65536:
        raise ConfigError(f"{option}{first}: must be from 1 to 65535")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        try:
            return socket.create_server((address, port), family=family)
        except PermissionError:
            raise RunError(f"{option}{port}: only an administrator may use this port; choose one above 1023") from None
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise RunError(f"{address}: cannot listen on this address ({error.strerror})") from None
    raise RunError(f"ports {first} to {first + _PORTS_TRIED - 1} are all in use; choose another with {option.strip()}")
