"""No program of the tests reaches another machine, token services included."""

import sys


def stay_here() -> None:
    """Refuses, from now on in this process, connections to any other machine."""
    sys.addaudithook(_refuse)


def _refuse(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event == "socket.getaddrinfo":
        host = arguments[0] or "localhost"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in ("localhost", "::1") and not host.startswith("127."):
        raise PermissionError(f"a test tried to reach {host}")
