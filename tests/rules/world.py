"""A loop as its supervisor sees it, without Temporal: events are appended, facts set, and `look()` is an observation.

`Runtime` below writes what superloop.md says the runtime writes, event by event and file by file.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload

from contract.clock import format_utc
from contract.intents import Intent
from contract.observation import (
    ApprovalDigest,
    Contact,
    ControlOutcome,
    ControlOutcomeKind,
    CursorPosition,
    EventDigest,
    LogReset,
    Observation,
    ProcessDigest,
    ProcessRun,
    SnapshotDigest,
    Target,
    Transport,
)
from contract.status import IntentRecord, IntentStage
from workflows import conditions, confirmation, messages, records, transport
from workflows.ingest import apply_observation
from workflows.judgement import Verdict, judge
from workflows.state import SupervisorState
from workflows.wording import judged

BEGIN = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
RECHECK_S = 2.0
CANCEL_EFFECT_S = 135.0
LOOP = "demo"
FIRST_RUN = "first-run"
REPO = "/srv/sprite/demo repo"


class World:
    """One supervised loop, its clock, and the log and facts that an observation shows."""

    def __init__(self, loop_id: str = LOOP, *, service: bool = True) -> None:
        target = Target(
            sprite="acme",
            loop_id=loop_id,
            sprite_id="sprite-1",
            repo_path=REPO,
            service_url="http://127.0.0.1:1" if service else None,
        )
        self.state = SupervisorState(target=target, transport=transport.initial(target, not service))
        self.now = BEGIN
        self.log: list[EventDigest] = []
        self.facts: dict[str, Any] = {"process": ProcessDigest(state="dead", source="scan")}
        self.epoch = 1

    def tick(self, seconds: float = 1.0) -> None:
        self.now += timedelta(seconds=seconds)

    def event(self, name: str, run: str = "R1", iteration: int = 1, **fields: Any) -> int:
        """Append one event; unknown keywords become `data`. Returns its line."""
        known = {key: fields.pop(key) for key in ("status", "role", "message") if key in fields}
        line = len(self.log) + 1
        self.log.append(
            EventDigest(
                line=line,
                h=f"{line:016x}",
                name=name,
                timestamp=format_utc(self.now),
                run_id=run,
                iteration=iteration,
                data=fields,
                **known,
            )
        )
        return line

    def fact(self, **facts: Any) -> None:
        """Change what snapshots show."""
        self.facts.update(facts)

    def snapshot(self) -> SnapshotDigest:
        return SnapshotDigest.model_validate(
            {"emitted_at": format_utc(self.now), "status": "unknown", "event_count": len(self.log), **self.facts}
        )

    def observation(self, *, upto: int | None = None, **changes: Any) -> Observation:
        """What an observer with the next number would bring: the lines after the cursor, up to line `upto`."""
        upto = len(self.log) if upto is None else upto
        since = self.state.cursor.line
        seen = {
            "observer": self.state.observer + 1,
            "transport": self.state.transport.active,
            "contact": Contact.OK,
            "contact_at": self.now,
            "digest": f"digest at {self.now}",
            "cursor": CursorPosition(epoch=self.epoch, line=max(upto, since), chain=f"{upto:064x}"),
            "events": self.log[since:upto],
            "at_head": upto >= len(self.log),
            "snapshot": self.snapshot(),
            "sprite_id": self.state.target.sprite_id,
            **changes,
        }
        return Observation.model_validate(seen)

    def apply(self, seen: Observation) -> None:
        """Apply as the workflow does: the observer's number counted up, open intents settled afterwards."""
        if seen.observer != self.state.observer:
            self.state.observer, self.state.observer_since = seen.observer, self.now
        self.fold(seen)
        self.settle()

    def fold(self, seen: Observation) -> None:
        """The rules alone, whatever the number of the observer."""
        apply_observation(self.state, seen, self.now, crash_recheck_s=RECHECK_S, cancel_effect_s=CANCEL_EFFECT_S)

    def settle(self) -> None:
        for record in self.state.confirming():
            confirmation.settle_decision(record, self.state.snapshot, self.state.target, self.now)
        conditions.settle(self.state, self.now, FIRST_RUN)

    def look(self, after_s: float = 1.0, **changes: Any) -> None:
        """One observation, `after_s` later."""
        self.tick(after_s)
        self.apply(self.observation(**changes))

    def look_twice(self) -> None:
        """Two readings, far enough apart for what rests on absence."""
        self.look()
        self.look(RECHECK_S)

    def contact(self, contact: Contact, detail: str = "", after_s: float = 1.0) -> None:
        """The other side answers, but with no snapshot."""
        self.look(after_s, contact=contact, detail=detail, snapshot=None, events=[], at_head=False, upto=0)

    def new_epoch(self, reason: str = "events_rewritten") -> None:
        """The log was replaced; the next looks read the new one from line 1."""
        reset = LogReset.model_validate(
            {"reason": reason, "at_line": self.state.cursor.line, "line_count": len(self.log)}
        )
        self.look(reset=reset, events=[], at_head=False)
        self.epoch += 1

    def round_trip(self) -> None:
        """Continue-as-new: the state leaves as JSON and comes back."""
        self.state = SupervisorState.model_validate(self.state.model_dump(mode="json"))

    @property
    def lifecycles(self) -> list[str]:
        """The sequence of lifecycles, as recorded, nothing collapsed."""
        return [transition.lifecycle.value for transition in self.state.projection.transitions]

    @property
    def now_is(self) -> tuple[str, str]:
        """(lifecycle, reason)."""
        return self.state.projection.lifecycle.value, self.state.projection.reason

    # Intents, through the same steps as the workflow takes.

    def send(
        self, name: str, body: str | bytes | None = '{"by":"ana"}', encoding: bytes = b"json/plain"
    ) -> IntentRecord:
        """A signal arrives."""
        payload = Payload(
            metadata={"encoding": b"binary/null" if body is None else encoding},
            data=body.encode() if isinstance(body, str) else body or b"",
        )
        return self.receive(name, [payload])

    def receive(self, name: str, payloads: list[Payload]) -> IntentRecord:
        return messages.receive(
            self.state,
            name,
            payloads,
            now=self.now,
            first_run_id=FIRST_RUN,
            trace_id="trace",
            default_not_after_s=900.0,
        )

    def judge(self, record: IntentRecord) -> Verdict:
        """Observe afresh (unless the loop has nothing to show), judge, and bind if accepted."""
        if self.state.condition is None:
            self.look()
        verdict = judge(record, self.state)
        if verdict.refusal is not None:
            records.refuse(record, self.now, verdict.refusal)
            return verdict
        record.run_id, record.run_line, record.iteration = verdict.run_id, verdict.run_line, verdict.iteration
        record.process_pid, record.process_start_time = verdict.process_pid, verdict.process_start_time
        record.clears_crash = verdict.clears_crash
        record.baseline_line = self.state.cursor.line
        record.baseline_at = self.state.snapshot.emitted_at if self.state.snapshot else None
        records.reach(record, IntentStage.ACCEPTED, self.now, judged(self.state.cursor.line, verdict.expect))
        records.reach(record, IntentStage.EXECUTING, self.now, "through sprite_service")
        return verdict

    def outcome(self, record: IntentRecord, kind: str = "executed", after_s: float = 1.0, **fields: Any) -> None:
        """The command's answer comes."""
        self.tick(after_s)
        if kind == "executed":
            fields.setdefault("exit_code", 0)
        outcome = ControlOutcome(
            kind=ControlOutcomeKind(kind), transport=Transport.SPRITE_SERVICE, sent_at=self.now, **fields
        )
        confirmation.take_outcome(
            record, outcome, self.state.target, self.now, recorded_wait_s=15.0, cancel_confirm_wait_s=60.0
        )
        confirmation.refute(record, self.state.snapshot, self.now)
        self.settle()

    def lose(self, record: IntentRecord) -> None:
        """A try goes out and no answer comes; the sprite, asked by key, does not know of it."""
        record.lost_at = self.now

    def order(self, intent: Intent, body: str = '{"by":"ana"}') -> IntentRecord:
        """An accepted intent whose command is under way."""
        record = self.send(intent.value, body)
        verdict = self.judge(record)
        assert verdict.refusal is None, verdict.refusal
        return record

    def overdue(self, after_s: float) -> None:
        """The wait ends."""
        self.tick(after_s)
        for record in self.state.intents:
            confirmation.overdue(record, self.state.snapshot, self.state.target, self.now)

    def follow(self, record: IntentRecord) -> IntentRecord:
        """The record of the same message after a round trip."""
        return next(known for known in self.state.intents if known.sequence == record.sequence)


class Runtime(World):
    """A loop driven by superloop: every step writes its events and files in the order of superloop.md."""

    pid = 100

    def start(self, run: str = "R1") -> None:
        """A run is accepted: a process, active-run.json, then `loop_start`."""
        self.pid += 1
        self.alive()
        self.fact(active_run_present=True, active_run_pid=self.pid, active_run_loop_id=self.state.target.loop_id)
        self.event("loop_start", run, max_iterations=5)

    def alive(self, *others: ProcessRun) -> None:
        own = ProcessRun(pid=self.pid, start_time=f"{self.pid}.00", loop_id=self.state.target.loop_id)
        self.processes(own, *others)

    def processes(self, *runs: ProcessRun) -> None:
        """These and no other run processes live in the repo."""
        first = runs[0].model_dump() if runs else {}
        process = ProcessDigest(state="alive" if runs else "dead", source="scan", runs=list(runs), **first)
        self.fact(process=process)

    def no_processes(self, state: str = "dead") -> None:
        self.fact(process=ProcessDigest.model_validate({"state": state, "source": "scan"}))

    def work(self, run: str = "R1", iteration: int = 1) -> None:
        """The run works: state.json becomes active, an iteration begins, a role speaks."""
        self.write_state(active=True, iteration=iteration)
        self.event("iteration_start", run, iteration)
        self.event("role_start", run, iteration, role="implementer")

    def write_state(self, *, active: bool, iteration: int = 1, loop_id: str | None = None) -> None:
        self.fact(
            state_present=True,
            state_active=active,
            state_loop_id=self.state.target.loop_id if loop_id is None else loop_id,
            state_iteration=iteration,
            status="running" if active else "idle",
        )

    def remove_state(self) -> None:
        self.fact(state_present=False, state_active=False, state_loop_id=None, state_iteration=None, status="unknown")

    def exit(self) -> None:
        """The process ends and its EXIT trap removes active-run.json."""
        self.no_processes()
        self.fact(active_run_present=False, active_run_pid=None, active_run_loop_id=None)

    def killed(self) -> None:
        """SIGKILL: the process is gone, the files stay."""
        self.no_processes()

    def ask(self, run: str = "R1", iteration: int = 1) -> None:
        """The candidate is good: approval.json, `approval_requested`, exit."""
        self.fact(approval=self.approval("pending", run, iteration))
        self.event("approval_requested", run, iteration)
        self.write_state(active=False, iteration=iteration)
        self.fact(status="awaiting_approval")
        self.exit()

    def approval(self, status: str, run: str = "R1", iteration: int = 1, by: str | None = None) -> ApprovalDigest:
        decided = {"decision_status": status, "decision_by": by, "decision_at": format_utc(self.now)} if by else {}
        return ApprovalDigest(
            status=status, run_id=run, iteration=iteration, sha256="a1b2c3d4" * 8, promise=True, **decided
        )

    def decide(self, status: str, by: str = "ana", run: str = "R1", iteration: int = 1) -> int:
        """`superloop.sh approve [--reject]`."""
        self.fact(approval=self.approval(status, run, iteration, by), status="idle")
        return self.event(
            "approval_decision", run, iteration, role="human", status=status, by=by, at=format_utc(self.now)
        )

    def consume(self, run: str = "R1", iteration: int = 1) -> int:
        """A run takes an approval up and completes R1 with it."""
        line = self.event("approval_consumed", run, iteration, status="approved")
        self.event("loop_complete", run, iteration, run_id=run, approval=True)
        self.fact(approval=None)
        self.finish_files()
        return line

    def complete(self, run: str = "R1", iteration: int = 1) -> None:
        self.event("loop_complete", run, iteration)
        self.finish_files()

    def finish_files(self) -> None:
        self.write_state(active=False)
        self.fact(status="complete")
        self.exit()

    def cancelled(self) -> None:
        """`superloop.sh cancel`: state.json first, then the process, then active-run.json; no event."""
        self.remove_state()
        self.exit()

    def base_service(self) -> None:
        """A service of the base contract: it shows no processes."""
        self.fact(process=ProcessDigest())


def waiting() -> Runtime:
    """A loop that has asked for approval of R1, iteration 2."""
    world = Runtime()
    world.start()
    world.work(iteration=1)
    world.work(iteration=2)
    world.look()
    world.ask(iteration=2)
    world.look()
    return world


def running() -> Runtime:
    """A loop at work in R1."""
    world = Runtime()
    world.start()
    world.look()
    world.work()
    world.look()
    return world
