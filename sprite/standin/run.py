"""`superloop.sh run`: from the checks to the exit trap."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sprite.standin.approval import approval_file, conclusion_of, decision_of, read_approval
from sprite.standin.config import CONFIG_FILE, LoopConfig, load_config, loop_config
from sprite.standin.console import complain, say
from sprite.standin.disk import CommandError, Disk, RepoFiles, now, pretty, read_object
from sprite.standin.events import EventLog, loop_start_data
from sprite.standin.iteration import play_iteration, stop_at_maximum
from sprite.standin.scenario import Scenario
from sprite.standin.summary import append_summary, write_gate_notes
from sprite.standin.work import LoopEnd, LoopRun, write_state

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Touched when a loop starts, written by the agents of the real runtime.
_REPORTS = ("plan.md", "implementer.md", "test-report.md", "review.md")


class Terminated(BaseException):
    """The process was told to end by a signal; it exits as a shell would say it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.code = 128 + signal_number


class Run:
    """One run process."""

    def __init__(self, repo: Path, scenario: Scenario, *, config: Path | None, only: str | None) -> None:
        self._files = RepoFiles(repo)
        self._scenario = scenario
        self._disk = Disk(scenario.pace, event_chunk_bytes=scenario.event_chunk_bytes)
        self._only = only
        self._config_path = config or repo / CONFIG_FILE

    def execute(self, *, validate: bool, dry_run: bool) -> int:
        """Run the loops; return the exit code.

        Raises:
            CommandError: the run was not accepted; nothing was written.
            Terminated: a signal ended it.
        """
        for number in _SIGNALS:
            signal.signal(number, _on_signal)
        if validate:
            say("Validating config before starting loop...")
            self._pause(self._scenario.pace.validate_ms)
        loops = self._chosen_loops(load_config(self._config_path))
        if validate:
            say("Config validation passed.\n")
        if dry_run:
            say("Dry run: nothing was started.")
            return 0
        self._refuse_reentry()
        try:
            self._write_active_run("run_start", self._only)
            self._pause(self._scenario.pace.gate_ms)
            return self._play(loops)
        finally:
            # The EXIT trap. It deletes the file even if another run has overwritten it meanwhile.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            self._disk.delete(self._files.active_run)

    def _chosen_loops(self, config: Mapping[str, Any]) -> list[LoopConfig]:
        loops = [
            loop_config(config, index, self._scenario.loop(str(loop["id"])))
            for index, loop in enumerate(config["loops"])
            if self._only is None or loop["id"] == self._only
        ]
        if not loops:
            raise CommandError(f"error: loop id not found: {self._only}")
        for loop in loops:
            if loop.spec_file and not (self._files.repo / loop.spec_file).exists():
                raise CommandError(f"error: spec file not found for loop '{loop.loop_id}': {loop.spec_file}")
        return loops

    def _refuse_reentry(self) -> None:
        state, path = read_object(self._files.state), self._files.state
        if state.get("active") is not True:
            return
        if self._only is None:
            idle = '{"active": false, "loop_index": 0, "iteration": 0}'
            raise CommandError(
                "Error: A loop is already running (state.json shows active: true)\n\n"
                "To start a new loop run:\n"
                "  1. Stop the running loop first, OR\n"
                "  2. Reset the state manually:\n"
                f"     echo '{idle}' > {path}"
            )
        if state.get("current_loop_id") == self._only:
            raise CommandError(
                f"Error: loop '{self._only}' is already running (reentrant run blocked)\n\n"
                f"Active loop id from state: {self._only}\n"
                f"State file: {path}\n\n"
                "Wait for the active run to finish, or clear stale state only if you are sure no run is active."
            )

    def _play(self, loops: list[LoopConfig]) -> int:
        for position, loop in enumerate(loops):
            if position:
                self._pause(self._scenario.pace.between_loops_ms)
            end = self._play_loop(loop)
            if end is not LoopEnd.COMPLETE:
                return 0 if end is LoopEnd.PAUSED else 1
        if self._only is None:
            write_state(self._files, self._disk, False, len(loops), 0, "")
            say("All loops complete.")
        return 0

    def _play_loop(self, loop: LoopConfig) -> LoopEnd:
        folder = self._files.loop(loop.loop_id)
        self._write_active_run("loop_start", loop.loop_id)
        for name in ("", "logs", "prompts", "last_messages"):
            self._disk.make_folder(folder / name)
        for name in _REPORTS:
            self._disk.touch(folder / name)
        self._pause(self._scenario.pace.config_ms)
        streak = int(read_object(folder / "stuck.json").get("streak", 0))
        if loop.stuck_threshold and streak >= loop.stuck_threshold:
            complain(f"error: loop '{loop.loop_id}' is stuck ({streak}/{loop.stuck_threshold}); run refused")
            return LoopEnd.FAILED

        log = EventLog(folder / "events.jsonl", loop.loop_id, self._disk)
        script = self._scenario.loop(loop.loop_id).run(log.working_runs())
        run = LoopRun(
            files=self._files,
            config=loop,
            script=script,
            pace=self._scenario.pace,
            disk=self._disk,
            log=log,
            run_id=self._new_run_id(log),
            alone=self._only is not None,
        )
        approval = read_approval(self._files, loop.loop_id)
        works = approval is None or approval["status"] == "rejected"
        log.on_written = _Interference(run).after_event if works else None
        log.emit("loop_start", run.run_id, 1, data=loop_start_data(loop))
        if approval is not None:
            end = _ANSWERS.get(str(approval["status"]), _wait_for_approval)(run, approval)
            if end is not None:
                return end
        return _iterate(run)

    def _new_run_id(self, log: EventLog) -> str:
        run_id = now()
        while self._scenario.distinct_run_ids and log.has_run(run_id):
            self._pause(50)
            run_id = now()
        return run_id

    def _write_active_run(self, stage: str, loop_id: str | None) -> None:
        content = {
            "repo": str(self._files.repo),
            "pid": os.getpid(),
            "pgid": os.getpgid(0),
            "loop_id": loop_id,
            "iteration": 1,
            "stage": stage,
            "updated_at": now(),
        }
        self._disk.make_folder(self._files.root)
        self._disk.truncate_write(self._files.active_run, pretty(content))

    def _pause(self, milliseconds: int) -> None:
        self._disk.pause(milliseconds)


class _Interference:
    """What the scenario does to a working run beside its iterations."""

    def __init__(self, run: LoopRun) -> None:
        self._run = run
        self._busy = False
        if run.script.ignore_term:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def after_event(self, event: str, run_id: str, iteration: int) -> None:
        """Add the extra events that belong after this one, and crash if it was the last one wanted."""
        if self._busy:
            return
        self._busy = True
        for extra in self._run.script.iteration(iteration).extra_events:
            if extra.after == event:
                kind = {"role": extra.role, "status": extra.status, "data": extra.data}
                self._run.log.emit(extra.event, run_id, iteration, **kind)
        self._busy = False
        if event == self._run.script.crash_after:
            os.kill(os.getpid(), signal.SIGKILL)


def _iterate(run: LoopRun) -> LoopEnd:
    iteration, end = 0, None
    while end is None:
        iteration += 1
        if iteration > run.config.max_iterations:
            return stop_at_maximum(run, iteration)
        end = play_iteration(run, iteration)
    if end is LoopEnd.COMPLETE:
        _settle_complete(run)
    return end


def _settle_complete(run: LoopRun) -> None:
    # A run over all loops leaves the state of a finished loop as it is until the next one starts.
    if run.alone:
        run.write_state(active=False, iteration=1)


def _wait_for_approval(run: LoopRun, approval: Mapping[str, Any]) -> LoopEnd:
    path = run.files.relative(approval_file(run.files, run.config.loop_id))
    run.log.emit("approval_wait", run.run_id, 1, data={"status": "pending", "approval_file": path})
    run.write_state(active=False, iteration=1)
    repo, loop_id = run.files.repo, run.config.loop_id
    say(f"Approval pending for loop '{loop_id}'. Run: superloop.sh approve --repo {repo} --loop {loop_id}")
    return LoopEnd.PAUSED


def _consume_approval(run: LoopRun, approval: Mapping[str, Any]) -> LoopEnd:
    conclusion = conclusion_of(approval, run.config)
    run_id, iteration = conclusion.run_id, conclusion.iteration
    run.log.emit("approval_consumed", run_id, iteration, data=decision_of(approval))
    write_gate_notes(run.files, run.config, run.disk, conclusion)
    run.pause(run.pace.summary_ms)
    append_summary(run.files, run.config, run.disk, conclusion)
    run.log.emit("loop_complete", run_id, iteration, data={"iteration": iteration, "run_id": run_id, "approval": True})
    run.disk.delete(approval_file(run.files, run.config.loop_id))
    say(f"Loop '{run.config.loop_id}' complete at iteration {iteration} (approved).")
    _settle_complete(run)
    return LoopEnd.COMPLETE


def _start_over(run: LoopRun, approval: Mapping[str, Any]) -> None:
    path = approval_file(run.files, run.config.loop_id)
    data = {"status": "rejected", "approval_file": run.files.relative(path)}
    run.log.emit("approval_rejected", run.run_id, 1, data=data)
    run.disk.delete(path)


_ANSWERS = {"approved": _consume_approval, "rejected": _start_over}


def _on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)
