"""Settings: a TOML file, the environment (`OPS_MANAGER_*`) and flags.

Precedence: flags, then environment, then TOML file, then default; tables are merged key by key. The file is the one
named by `--config`, else by `OPS_MANAGER_CONFIG`, else `./ops-manager.toml`, else
`~/.config/superloop-ops-manager/config.toml`; only a file that was named has to exist.

    task_queue = "ops-manager"
    max_loops = 2000
    graceful_shutdown = "10s"

    [supervision]
    idle_poll_interval = "2m"

    [sprites.acme]
    service_url = "https://acme.example.net"
    token = "env:ACME_OPS_TOKEN"
    repo_path = "/home/sprite/project"

    [webhook]
    url = "env:OPS_WEBHOOK_URL"
    secret = "env:OPS_WEBHOOK_SECRET"

In the environment a table's key is reached with two underscores: `OPS_MANAGER_SPRITES__ACME__TOKEN=file:/run/token`.

How Temporal is reached is no setting: that is read from where the Temporal CLI reads it (`worker.connection`).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from contract.errors import IdentifierInvalid
from contract.identifiers import check_sprite_name
from contract.secrets import SecretReference
from contract.supervision import SupervisorOptions
from worker.durations import Duration, Interval
from worker.errors import SettingsInvalid

APPLICATION = "superloop-ops-manager"
ENV_PREFIX = "OPS_MANAGER_"
CONFIG_VARIABLE = "OPS_MANAGER_CONFIG"
_NESTED = "__"
_TABLES = {
    "sprites": '{"acme": {"service_url": "https://acme.example.net", "token": "env:ACME_OPS_TOKEN"}}',
    "supervision": '{"idle_poll_interval": "2m"}',
    "webhook": '{"url": "env:OPS_WEBHOOK_URL", "secret": "env:OPS_WEBHOOK_SECRET"}',
}
"""What is given as JSON when it is given in one variable, and what that may look like."""
_SURELY_A_TYPO = 0.85
"""Similarity from which a variable is taken for a misspelt setting; OPS_MANAGER_TOKEN may be a person's own."""


def default_data_folder() -> Path:
    """`$XDG_DATA_HOME/superloop-ops-manager`, by default below `~/.local/share`."""
    return _xdg("XDG_DATA_HOME", "~/.local/share") / APPLICATION


def _xdg(variable: str, default: str) -> Path:
    # The XDG specification: a relative value is to be ignored.
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else Path(default).expanduser()


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _not_empty(path: object) -> object:
    if isinstance(path, str) and not path.strip():
        raise ValueError("must not be empty, which would mean the current folder: name it, or leave it out")
    return path


AbsolutePath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_absolute)]
"""A path, made absolute from the current folder; `~` is the home folder."""


def _check_service_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        raise ValueError("is not a URL such as https://acme.example.net") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError("must be an http or https URL such as https://acme.example.net")
    if parts.username or parts.password:
        raise ValueError("must not carry a user name or password: name the token by reference instead")
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without ? or #: requests add their own")
    return url.rstrip("/")


ServiceUrl = Annotated[str, AfterValidator(_check_service_url)]
"""The base URL of a sprite service, without credentials and without a trailing slash."""


class SpriteSettings(BaseModel):
    """How one sprite is reached: through its service, on this machine's disk, or both. Secrets only by reference."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    service_url: ServiceUrl | None = None
    token: SecretReference | None = None
    """The service's token, sent as X-Ops-Token: `env:NAME` or `file:PATH`."""
    edge_auth: SecretReference | None = None
    """What the URL of a private sprite wants in Authorization: `env:NAME` or `file:PATH`."""
    repo_path: AbsolutePath | None = None
    """The repo on this machine: a worker here can serve the sprite's local transport."""

    @model_validator(mode="after")
    def _reachable(self) -> SpriteSettings:
        if self.service_url is None and self.repo_path is None:
            raise ValueError("needs service_url (with token) or repo_path: otherwise there is no way to reach it")
        if self.service_url is None and (self.token or self.edge_auth):
            raise ValueError("has a token or edge_auth but no service_url to use it with")
        return self


class SupervisionSettings(BaseModel):
    """How patient a supervisor is, for those started from here; what is left out is `SupervisorOptions`' default.

    Each setting is the option of that name without its `_s`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    observe_max: Interval | None = None
    idle_poll_interval: Interval | None = None
    running_poll_interval: Interval | None = None
    stale_after: Duration | None = None
    recorded_wait: Duration | None = None
    cancel_confirm_wait: Duration | None = None
    default_not_after: Duration | None = None
    probe_interval: Interval | None = None
    probe_max_interval: Interval | None = None
    scrub_interval: Interval | None = None
    transport_failure_limit: Annotated[int, Field(ge=1, le=100)] | None = None
    continue_as_new_events: Annotated[int, Field(ge=50, le=40_000)] | None = None

    def options(self) -> SupervisorOptions:
        """What a supervisor is started with."""
        given: dict[str, Any] = {}
        for name, value in self:
            if isinstance(value, timedelta):
                given[f"{name}_s"] = value.total_seconds()
            elif value is not None:
                given[name] = value
        return SupervisorOptions(**given)


class WebhookSettings(BaseModel):
    """Where notices go, for supervisors started from here; both by reference, because a URL may hold a secret, too."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: SecretReference
    """The receiver's URL: `env:NAME` or `file:PATH`, read where the worker runs."""
    secret: SecretReference | None = None
    """What notices are signed with, likewise; without it they are not signed."""


def _check_sprite_names(sprites: dict[str, SpriteSettings]) -> dict[str, SpriteSettings]:
    for name in sprites:
        try:
            check_sprite_name(name)
        except IdentifierInvalid as error:
            raise ValueError(str(error)) from None
    return sprites


class Settings(BaseSettings):
    """Everything that can be configured. `load_settings` reads it from where it belongs."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=_NESTED,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    task_queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "ops-manager"
    """Base name of the task queues (`contract.identifiers` derives the others)."""
    data_folder: AbsolutePath = Field(default_factory=default_data_folder)
    """Where the embedded Temporal keeps its database, its log and the address it is reached at."""
    max_loops: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """Loops that one worker can supervise at a time: slots for observers and cached workflows."""
    graceful_shutdown: Duration = Field(default="10s", validate_default=True)
    """How long running observations get to return by themselves when a worker shuts down."""
    sprites: Annotated[dict[str, SpriteSettings], AfterValidator(_check_sprite_names)] = Field(default_factory=dict)
    """Known sprites by name."""
    supervision: SupervisionSettings = Field(default_factory=SupervisionSettings)
    """For supervisors started from here."""
    webhook: WebhookSettings | None = None
    """Where notices of supervisors started from here go; None: nobody is told."""

    _source_file: Path | None = PrivateAttr(default=None)

    @property
    def source_file(self) -> Path | None:
        """The TOML file that these settings came from, if any."""
        return self._source_file

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and environment only: .env and secrets folders are not read, the TOML file is `load_settings`'s."""
        return init_settings, env_settings


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """The settings in force; `flags` that are None were not given.

    Raises SettingsInvalid naming the key, where it was set and what it should be, never the value.
    """
    path = find_config(config)
    toml = _read_toml(path) if path else {}
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_misspelt_variables()
    try:
        environment = EnvSettingsSource(Settings)
        sources = (InitSettingsSource(Settings, given), environment, InitSettingsSource(Settings, toml))
        origins = {"given as a flag": given, "set in the environment": environment(), f"in {path}": toml}
        settings = Settings(_build_sources=(sources, {}))
    except SettingsError as error:
        # Tables are the only values read as JSON. What was given is not shown: it may hold a secret.
        table = next((name for name in _TABLES if f'"{name}"' in str(error)), "sprites")
        raise SettingsInvalid(f"{ENV_PREFIX}{table.upper()} must be a JSON object such as {_TABLES[table]}") from None
    except ValidationError as error:
        reasons = [_reason(detail, origins) for detail in error.errors(include_url=False, include_input=False)[:5]]
        raise SettingsInvalid("\n".join(reasons)) from None
    settings._source_file = path
    return settings


def find_config(config: Path | None = None) -> Path | None:
    """The TOML file to read, or None; raises SettingsInvalid when the one that was named does not exist."""
    named = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        path = _absolute(named)
        if not path.is_file():
            by = "--config" if config else CONFIG_VARIABLE
            raise SettingsInvalid(f"there is no settings file {path} (named by {by}): create it, or leave {by} out")
        return path
    usual = (Path("ops-manager.toml"), _xdg("XDG_CONFIG_HOME", "~/.config") / APPLICATION / "config.toml")
    return next((path.absolute() for path in usual if path.is_file()), None)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{path} is not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path} cannot be read: {type(error).__name__}") from None


def _refuse_misspelt_variables() -> None:
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    for variable in os.environ:
        top = variable.upper().partition(_NESTED)[0]
        if not top.startswith(ENV_PREFIX) or top in known or top == CONFIG_VARIABLE:
            continue
        close = difflib.get_close_matches(top, known, n=1, cutoff=_SURELY_A_TYPO)
        # A nested name can only be meant for us; any other may be somebody's own, such as a token referred to by name.
        if close or _NESTED in variable:
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise SettingsInvalid(f"environment variable {variable} is no setting: {hint}")


def _reason(detail: Any, origins: Mapping[str, Mapping[str, Any]]) -> str:
    location = [str(part) for part in detail["loc"]]
    where = ".".join(location) or "the settings"
    origin = next((name for name, values in origins.items() if _holds(values, location)), "")
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        problem = "is no setting: " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")
    else:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        problem = message[:1].lower() + message[1:]
    return f"{where}{f' ({origin})' if origin else ''}: {problem}"


def _known_keys(table: list[str]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "sprites": SpriteSettings,
        "supervision": SupervisionSettings,
        "webhook": WebhookSettings,
    }
    return list(tables.get(table[0] if table else "", Settings).model_fields)


def _holds(values: Any, location: list[str]) -> bool:
    for key in location:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
