"""Addresses that only this machine can reach, and how a small service is run on one.

Knows hosts and uvicorn's settings; knows nothing of what is served.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than localhost counts as reachable.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(number, "ipv4_mapped", None) or number).is_loopback


def server_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's settings for a service inside a program: no logs, no web sockets, the same parts everywhere."""
    import uvicorn

    return uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11", loop="asyncio", **options
    )
