"""The one client of sprite services, made where the environment it depends on can be explained."""

from __future__ import annotations

import os

import httpx

from activities.client import SpriteServiceClient
from worker.errors import SettingsInvalid

_PROXY_VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")


def sprite_service_client(max_loops: int) -> SpriteServiceClient:
    """A client for up to `max_loops` observers; raises SettingsInvalid where the environment's proxy cannot be used."""
    try:
        return SpriteServiceClient(max_loops=max_loops)
    except (ImportError, ValueError, httpx.InvalidURL):
        # Neither the library's text nor the value: an address of a proxy may hold a password.
        given = [name for name in os.environ if name.upper() in _PROXY_VARIABLES]
        raise SettingsInvalid(
            f"the proxy that {' or '.join(sorted(given)) or 'the environment'} names cannot be used: it has to be an "
            "http or https URL such as http://proxy.example.net:3128 (SOCKS is not supported). Change or unset it; a "
            "service on this machine is reached without a proxy in any case"
        ) from None
