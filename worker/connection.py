"""Which Temporal is meant, and a client for it.

The address is a flag's, else that of the environment or of a profile of Temporal's own configuration file (both read
by `temporalio.envconfig`, so that `ops-manager` and `temporal` agree), else that of the embedded server that runs in
the data folder, else `localhost:7233`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Plugin
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode

from worker.errors import NamespaceMissing, SettingsInvalid, TemporalUnauthorized, TemporalUnreachable
from worker.server_state import running_server

DEFAULT_ADDRESS = "localhost:7233"
DEFAULT_NAMESPACE = "default"
CONNECT_TIMEOUT_S = 3.0
"""Until an address at which nothing answers is given up; a person waits at the other end."""
RPC_TIMEOUT = timedelta(seconds=5)
"""For one call that the server answers by itself."""
QUERY_TIMEOUT = timedelta(seconds=2)
"""For a call that a worker has to answer: without one, `status` still has to answer within three seconds."""
SETTLE_S = 0.1
"""The SDK's threads may abort the interpreter at exit unless the loop runs this much longer after the last call."""
_RETRY_PAUSE_S = 0.25


@dataclass(frozen=True)
class Target:
    """A Temporal namespace, and how it was found. Never shown whole: `options` may hold an API key."""

    address: str
    namespace: str = DEFAULT_NAMESPACE
    source: str = ""
    """Where the address comes from, in words for an error message."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Further arguments of `Client.connect`: TLS, API key, gRPC metadata."""

    @property
    def cli_flags(self) -> str:
        """What makes a `temporal ...` command reach the same namespace."""
        return f"--address {self.address}" + (
            "" if self.namespace == DEFAULT_NAMESPACE else f" --namespace {self.namespace}"
        )


def resolve_target(
    data_folder: Path, *, address: str | None = None, namespace: str | None = None, profile: str | None = None
) -> Target:
    """The namespace that flags, Temporal's own configuration and a running embedded server (`data_folder`) name.

    Raises SettingsInvalid when a profile does not exist or Temporal's configuration cannot be read.
    """
    loaded = _load_profile(profile)
    namespace = namespace or loaded.namespace or DEFAULT_NAMESPACE
    options = {
        name: value
        for name, value in loaded.to_client_connect_config().items()
        if name not in ("target_host", "namespace")
    }
    if address:
        return Target(address, namespace, "given as --address", options)
    if loaded.address:
        return Target(loaded.address, namespace, _address_source(profile), options)
    # A profile that was named, or credentials, are meant for another server than the one on this machine.
    embedded = None if profile or options else running_server(data_folder)
    if embedded:
        return Target(embedded.address, namespace, f"the embedded Temporal in {data_folder}")
    return Target(DEFAULT_ADDRESS, namespace, "the default, since nothing names another", options)


def _load_profile(profile: str | None) -> ClientConfigProfile:
    try:
        return ClientConfigProfile.load(profile)
    except RuntimeError as error:
        # Further lines of the message quote the file, which may hold an API key.
        reason = str(error).partition("\n")[0]
        raise SettingsInvalid(
            f"Temporal's client configuration cannot be used: {reason}. See: temporal config list; it is read from "
            "TEMPORAL_CONFIG_FILE or its usual place, and from TEMPORAL_* variables"
        ) from None


def _address_source(profile: str | None) -> str:
    if os.environ.get("TEMPORAL_ADDRESS"):
        return "from TEMPORAL_ADDRESS"
    name = profile or os.environ.get("TEMPORAL_PROFILE") or "default"
    return f"from profile {name!r} of Temporal's configuration file"


@asynccontextmanager
async def connect(
    target: Target,
    *,
    plugins: Sequence[Plugin] | None = None,
    timeout_s: float = CONNECT_TIMEOUT_S,
    keep_trying_s: float = 0.0,
    identity: str | None = None,
) -> AsyncIterator[Client]:
    """A client for `target` with the project's plugin (or `plugins`), checked to be usable.

    `timeout_s` bounds one try, `keep_trying_s` is for how long an unreachable server is tried again. Raises
    TemporalUnreachable, NamespaceMissing or TemporalUnauthorized, all saying what to do. Nothing of the SDK may be
    awaited after the block: it lets the SDK settle, which keeps short-lived processes from aborting at exit.
    """
    try:
        yield await _dial(target, _plugins(plugins), timeout_s, keep_trying_s, identity)
    finally:
        await asyncio.sleep(SETTLE_S)


def _plugins(plugins: Sequence[Plugin] | None) -> Sequence[Plugin]:
    if plugins is not None:
        return plugins
    from workflows.plugin import ops_manager_plugin

    return [ops_manager_plugin()]


async def _dial(
    target: Target, plugins: Sequence[Plugin], timeout_s: float, keep_trying_s: float, identity: str | None
) -> Client:
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + keep_trying_s
    while True:
        try:
            return await asyncio.wait_for(_dial_once(target, plugins, timeout_s, identity), timeout_s)
        except ValueError as error:
            raise SettingsInvalid(f"{target.address!r} ({target.source}) is no host:port address: {error}") from None
        except (RuntimeError, OSError, RPCError, TimeoutError) as error:
            failure = _explain(target, error, timeout_s)
            if not isinstance(failure, TemporalUnreachable) or loop.time() >= give_up_at:
                raise failure from None
        await asyncio.sleep(_RETRY_PAUSE_S)


@cache
def _runtime() -> Runtime:
    """The SDK's threads, one set per process. Its own logs would go to stdout, where commands print their data."""
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    log_filter = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=log_filter, forwarding=forwarding)))


async def _dial_once(target: Target, plugins: Sequence[Plugin], timeout_s: float, identity: str | None) -> Client:
    client = await Client.connect(
        target.address,
        namespace=target.namespace,
        plugins=plugins,
        identity=identity,
        runtime=_runtime(),
        **target.options,
    )
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=target.namespace), timeout=timedelta(seconds=timeout_s)
        )
    except RPCError as error:
        # An identity may be allowed to use a namespace without being allowed to describe it.
        if error.status is not RPCStatusCode.PERMISSION_DENIED:
            raise
    return client


def _explain(target: Target, error: Exception, timeout_s: float) -> Exception:
    status = error.status if isinstance(error, RPCError) else None
    where = f"{target.address} ({target.source})" if target.source else target.address
    if status is RPCStatusCode.NOT_FOUND:
        return NamespaceMissing(
            f"Temporal at {where} has no namespace {target.namespace!r}. Name another with --namespace, or create it: "
            f"temporal operator namespace create --address {target.address} --namespace {target.namespace} "
            "--retention 30d"
        )
    if status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED) or "Unauthenticated" in str(error):
        return TemporalUnauthorized(
            f"Temporal at {where} refused the credentials for namespace {target.namespace!r}: check TEMPORAL_API_KEY "
            "or the TLS certificate of the profile (temporal config list)"
        )
    return TemporalUnreachable(
        f"Temporal unreachable at {where}: {_short(error, timeout_s)}. Start one with `ops-manager up`, or name the "
        "one that runs: --address HOST:PORT, TEMPORAL_ADDRESS or --profile"
    )


def _short(error: Exception, timeout_s: float) -> str:
    text = str(error)
    reasons = {
        "Connection refused": "connection refused, nothing listens there",
        "dns error": "the host name cannot be resolved",
        "InvalidContentType": "something that does not speak TLS answers there",
        "UnknownIssuer": "its TLS certificate is not trusted",
        "certificate": "its TLS certificate was not accepted",
        "no route": "no route to the host",
        "etwork is unreachable": "no network to the host",
    }
    known = next((reason for sign, reason in reasons.items() if sign in text), None)
    if known:
        return known
    if isinstance(error, TimeoutError) or "imeout" in text or "timed out" in text:
        return f"no answer within {timeout_s:g} s"
    return f"no usable answer ({text[:160]})" if text else "no usable answer"
