"""What can go wrong before and around supervision, and the exit code that goes with it.

WorkerError                      `exit_code` is what a command should end with; `str()` says what to do next
├── SettingsInvalid              2: a setting, a flag or a settings file is wrong; nothing was started
├── TemporalUnauthorized         8: Temporal answered and refused the credentials
└── TemporalUnavailable          9: there is no usable Temporal; a later try may succeed
    ├── TemporalUnreachable      9: nothing answers at the address
    ├── NamespaceMissing         9: it answers, but not for this namespace
    ├── SearchAttributesMissing  9: the namespace lacks search attributes and they could not be registered
    ├── EmbeddedFailed           9: the embedded server could not be started
    └── WorkerStopped            9: a worker ended by itself, usually because Temporal refused it
"""

from __future__ import annotations

from typing import ClassVar


class WorkerError(Exception):
    """Something around supervision is wrong. The message says what, where, and what to do next; never a secret."""

    exit_code: ClassVar[int] = 1


class SettingsInvalid(WorkerError):
    """A setting is wrong. A retry without a change cannot help."""

    exit_code = 2


class TemporalUnauthorized(WorkerError):
    """Temporal refused the credentials of the connection. A retry without a change cannot help."""

    exit_code = 8


class TemporalUnavailable(WorkerError):
    """There is no usable Temporal at the address."""

    exit_code = 9


class TemporalUnreachable(TemporalUnavailable):
    """Nothing answers at the address, or not in time. A retry may help."""


class NamespaceMissing(TemporalUnavailable):
    """Temporal answers, but does not know the namespace."""


class SearchAttributesMissing(TemporalUnavailable):
    """The namespace lacks search attributes that every supervisor sets, and they could not be registered."""


class EmbeddedFailed(TemporalUnavailable):
    """The embedded Temporal server could not be started."""


class WorkerStopped(TemporalUnavailable):
    """A worker ended by itself; the cause is chained."""
