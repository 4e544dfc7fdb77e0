"""What starts a supervisor: the loop, where to reach it, and the durations it waits."""

from __future__ import annotations

from pydantic import Field

from contract.notices import WebhookTarget
from contract.observation import History, Target


class SupervisorOptions(History):
    """Durations (seconds) and bounds of one supervisor.

    `observe_max_s`: longest life of one `observe`; a minute would cost 8,640 history events a day, an hour 144.
    `recorded_wait_s`: how long a decision may take to show in the log before its intent is called ambiguous.
    `cancel_confirm_wait_s`: the runtime alone may take 11 s to stop a run. `crash_recheck_s`: a process is called gone
    only on two readings this far apart. `default_not_after_s`: an intent not started by then expires.
    `scrub_interval_s`: how often the whole log is hashed again, to find an edit in its middle.
    `continue_as_new_events`: leave for a fresh run at this history length even before the server suggests it.
    """

    observe_max_s: float = 3600.0
    idle_poll_interval_s: float = 60.0
    running_poll_interval_s: float = 2.0
    long_poll_wait_s: float = 25.0
    prompt_interval_s: float = 1.0
    stale_after_s: float = 300.0
    transport_failure_limit: int = 3
    recorded_wait_s: float = 15.0
    cancel_confirm_wait_s: float = 60.0
    default_not_after_s: float = 900.0
    crash_recheck_s: float = 2.0
    probe_interval_s: float = 5.0
    probe_max_interval_s: float = 60.0
    scrub_interval_s: float = 3600.0
    continue_as_new_events: int = 4_000


class SupervisorStart(History):
    """The input of `LoopSupervisor`.

    `task_queue` is the base queue name, from which the queues of activities are derived. `carried` is the state of
    the previous run of the same supervisor, as JSON that only `workflows/state.py` reads; None for a fresh start.
    `webhook`: where notices go; None means that nobody is told.
    """

    target: Target
    task_queue: str = "ops-manager"
    local_only: bool = False
    options: SupervisorOptions = Field(default_factory=SupervisorOptions)
    carried: dict[str, object] | None = None
    webhook: WebhookTarget | None = None
