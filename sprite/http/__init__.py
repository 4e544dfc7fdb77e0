"""The HTTP service of a sprite (contract.md, "HTTP service"): one service serves one repo."""

from sprite.http.app import create_app
from sprite.http.auth import TokenInvalid, read_token_file, token_warnings, write_new_token
from sprite.http.logs import configure_logging
from sprite.http.server import BindFailed, serve
from sprite.http.settings import ServiceSettings

__all__ = [
    "BindFailed",
    "ServiceSettings",
    "TokenInvalid",
    "configure_logging",
    "create_app",
    "read_token_file",
    "serve",
    "token_warnings",
    "write_new_token",
]
