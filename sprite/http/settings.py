"""The limits of the service, each with its reason: a slow or hostile client costs bounded time and memory (D21)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class ServiceSettings:
    """Limits of the HTTP service; the defaults are what production uses, tests shorten the times."""

    max_wait_s: float = 25.0
    """Cap of `waitSeconds`: below the read time-outs of usual clients and proxies (contract.md)."""
    page_max_events: int = 5_000
    page_max_bytes: int = 8 * MIB
    pages_in_memory_bytes: int = 64 * MIB
    """Pages being sent at one time, in all; when it gets tight, new pages become smaller instead of fewer."""
    page_min_bytes: int = 64 * 1024
    page_builders: int = 2
    """Pages being built at one time: building one costs several times its size, and one processor anyway."""
    read_threads: int = 8

    max_body_bytes: int = 64 * 1024
    """A control request with the longest note is under 20 KiB."""
    body_timeout_s: float = 10.0
    head_timeout_s: float = 10.0
    """From the first byte (or the connection) to a complete request head."""
    keep_alive_s: float = 30.0
    """Longer than clients keep idle connections (httpx: 5 s), so that they never reuse one just being closed."""
    linger_s: float = 3.0
    """After an answer that comes before the whole request: read on and throw away, or the client never sees it."""
    linger_bytes: int = 4 * MIB
    max_connections: int = 1_024
    """Beyond it the oldest connection without an authorised request in progress is closed to make room."""
    max_closing: int = 128
    """Refused connections that get a moment to read why; beyond it the oldest is cut off."""
    backlog: int = 1_024
    """Connections that wait in the kernel, where they cost us nothing."""
    accept_burst: int = 64
    """Connections taken in at one turn of the event loop, each of which holds a descriptor before it can push out
    another one."""
    write_window_s: float = 10.0
    min_write_bytes: int = 256 * 1024
    """A client has to take this much of a waiting answer per window (25 KiB/s), or the connection is dropped."""
    graceful_s: float = 40.0
    """After SIGTERM: a command that runs (at most 30 s, and 4 s to end it) is brought to its end and recorded."""
