"""Processes of one sprite, simulated in one: they run step by step, are killed at any, and leave commands behind.

Only the processes and the runtime are played. The ledger's file, its locks, the audit log and the artifacts are real; a
kill gives back what the kernel gives back, and nothing else. What was done is counted by the runtime, in a file of its
own, and judged from that file alone.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.control import ControlRequest
from sprite.control.audit import Audit
from sprite.control.command import CommandRun
from sprite.control.execution import Execution, Runtime
from sprite.control.ledger import Claim, Ledger
from sprite.control.records import ControlRecord, State, fingerprint
from sprite.errors import SpriteError
from sprite.reader import SpriteReader
from tests.control.support import append, loop_repo, write_state

NEVER = float("inf")


class Killed(BaseException):
    """What a thread of a killed process meets instead of its next step."""


class Task:
    """A thread that runs from one step to the next when it is told to, and never otherwise."""

    def __init__(self, work: "Callable[[Task], None]") -> None:
        self.at = "start"
        self.done = False
        self._killed = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: "Callable[[Task], None]") -> None:
        self._go.acquire()
        with suppress(Killed):
            if not self._killed:
                work(self)
        self.done = True
        self._back.release()

    def reach(self, step: str) -> None:
        """Stop at a step, in the task's own thread."""
        self.at = step
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def advance(self) -> None:
        """Let it go on to its next step."""
        self._go.release()
        self._back.acquire()

    def kill(self) -> None:
        """Let it end where it is."""
        self._killed = True
        while not self.done:
            self.advance()


class Child:
    """A command that was started. It holds a copy of the lock, as a child does, and outlives whoever started it."""

    def __init__(self, key: str, effects: Generator[int, None, int], lock: int) -> None:
        self.key = key
        self.exit_code: int | None = None
        self._effects = effects
        self._lock = os.dup(lock)

    def advance(self) -> None:
        """Let it have its next effect, or end."""
        try:
            next(self._effects)
        except StopIteration as end:
            self._end(end.value)

    def kill(self) -> None:
        """End it here."""
        self._end(-9)

    def _end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        os.close(self._lock)


class World:
    """A sprite whose loop asks for approvals again and again, and may crash so that it has to be cleared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = loop_repo(folder / "repo")
        self.home = self.repo / ".superloop" / "loops" / "demo"
        self.reader = SpriteReader(self.repo, state_dir=folder / "state")
        self.control = folder / "control"
        self.children: list[Child] = []
        self.disturbed: set[str] = set()
        """Keys whose process or command was killed."""
        self._effects = folder / "effects"
        self._runs = 1
        self._ask()

    def effects(self, key: str) -> int:
        """How often the runtime had the effect that was asked for under a key."""
        lines = self._effects.read_text().split() if self._effects.exists() else []
        return Counter(lines)[key]

    def living(self, key: str) -> list[Child]:
        """The commands of a key that have not ended."""
        return [child for child in self.children if child.key == key and child.exit_code is None]

    # What the loop does meanwhile

    def take_up(self) -> None:
        """A run takes up what was decided, and asks anew; the runtime refuses it where a crash was not cleared."""
        approval = self.approval()
        if self._crashed() or not approval.get("decision"):
            return
        self._begin_run()
        taken = {"approved": "approval_consumed", "rejected": "approval_rejected"}[approval["status"]]
        data = approval["decision"] if taken == "approval_consumed" else {"status": "rejected"}
        append(self.repo, {"event": taken, "run_id": approval["run_id"], "data": data})
        (self.home / "approval.json").unlink()
        self._ask()

    def crash(self) -> None:
        """A run dies at work, and leaves the state active."""
        if not self._crashed():
            self._begin_run()
            write_state(self.repo, active=True, iteration=self._runs)

    def _begin_run(self) -> None:
        self._runs += 1
        append(self.repo, {"event": "loop_start", "run_id": f"R{self._runs}"})

    def _ask(self) -> None:
        run_id = f"R{self._runs}"
        request = {"status": "pending", "run_id": run_id, "iteration": 1, "requested_at": _now()}
        (self.home / "approval.json").write_text(json.dumps(request))
        append(self.repo, {"event": "approval_requested", "run_id": run_id})
        write_state(self.repo, active=False, iteration=self._runs)

    def _crashed(self) -> bool:
        state = self.repo / ".superloop" / "state.json"
        return state.exists() and bool(json.loads(state.read_text())["active"])

    def decide_by_hand(self) -> None:
        """A person in the sprite approves."""
        for _ in self._decide("a-hand", "approved", "bo"):
            pass

    def approval(self) -> dict[str, Any]:
        """approval.json."""
        content: dict[str, Any] = json.loads((self.home / "approval.json").read_text())
        return content

    # The runtime

    def start(self, key: str, argv: Sequence[str], lock: int) -> Child:
        """What `superloop.sh` does, one effect at a time."""
        if argv[1] == "cancel":
            effects = self._cancel(key)
        else:
            effects = self._decide(key, "rejected" if "--reject" in argv else "approved", argv[argv.index("--by") + 1])
        self.children.append(Child(key, effects, lock))
        return self.children[-1]

    def _decide(self, key: str, status: str, by: str) -> Generator[int, None, int]:
        approval = self.approval()
        if approval["status"] != "pending":
            return 1
        decision = {"status": status, "by": by, "note": None, "at": _now()}
        beside = self.home / "approval.json.tmp"
        beside.write_text(json.dumps({**approval, "status": status, "decision": decision}))
        yield 1
        try:
            beside.replace(self.home / "approval.json")
        except FileNotFoundError:
            return 1  # a person's command, at the same time, has moved the file of that name away
        self._note_effect(key)
        yield 2
        run_id = approval["run_id"]
        with (self.home / "decisions.jsonl").open("a") as log:
            log.write(json.dumps({"timestamp": decision["at"], "run_id": run_id, "decision": status, "by": by}) + "\n")
        yield 3
        append(self.repo, {"event": "approval_decision", "run_id": run_id, "status": status, "data": decision})
        yield 4
        return 0

    def _cancel(self, key: str) -> Generator[int, None, int]:
        state = self.repo / ".superloop" / "state.json"
        if state.exists():
            state.unlink()
            self._note_effect(key)
            yield 1
        return 0

    def _note_effect(self, key: str) -> None:
        with self._effects.open("a") as log:
            log.write(key + "\n")


class Process:
    """One process of the sprite: a service, a worker, a command line."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: list[tuple[str, Task]] = []
        self._current: dict[int, tuple[str, Task]] = {}
        self._ledger = Ledger(world.control)
        self._audit = Audit(world.control, transport="test", sprite_id=world.reader.sprite_id)
        runtime = Runtime(Path("/superloop.sh"), 30.0, run=self._run_command)
        self._execution = Execution(
            world.reader, runtime, self._ledger, self._audit, transport="test", at_step=self._at_step
        )

    def post(self, request: ControlRequest, heard: Callable[[ControlRecord | SpriteError], None]) -> None:
        """A request arrives; `heard` is what its client hears, if it hears anything."""
        key = request.idempotency_key or ""

        def work(task: Task) -> None:
            self._current[threading.get_ident()] = (key, task)
            try:
                record = self._execute(task, request, key)
            except SpriteError as error:
                task.reach("answered")
                heard(error)
            else:
                task.reach("answered")
                heard(record)

        self.tasks.append((key, Task(work)))

    def _execute(self, task: Task, request: ControlRequest, key: str) -> ControlRecord:
        task.reach("arrived")
        claimed = self._ledger.claim(request, key, fingerprint(self.world.reader.sprite_id, request))
        if not isinstance(claimed, Claim):
            return claimed
        task.reach("claimed")
        return self._execution.run(request, claimed, until=NEVER, check=lambda: task.reach("waiting"))[0]

    def look_up(self, key: str) -> ControlRecord | None:
        """What the ledger knows."""
        return self._execution.recovery.look_up("demo", key)

    def advance(self, number: int) -> None:
        """Let one of its requests go on."""
        self.tasks[number][1].advance()
        self.tasks = [one for one in self.tasks if not one[1].done]

    def kill(self) -> None:
        """kill -9: nothing is given back but what the kernel gives back."""
        self.world.disturbed |= {key for key, _ in self.tasks}
        self._ledger.give_back = lambda claim, *, orphaned: None  # type: ignore[method-assign]
        for _, task in self.tasks:
            task.kill()
        self.tasks = []
        if self._ledger._holder._lock is not None:
            os.close(self._ledger._holder._lock)

    def _at_step(self, step: str) -> None:
        self._current[threading.get_ident()][1].reach(step)

    def _run_command(self, argv: Sequence[str], *, inherited: Sequence[int], **_: object) -> CommandRun:
        key, task = self._current[threading.get_ident()]
        child = self.world.start(key, argv, inherited[0])
        while child.exit_code is None:
            task.reach("command")
        return CommandRun(child.exit_code, "")


def acknowledges(answer: ControlRecord) -> bool:
    """Whether a client hears that what it asked for was done."""
    return answer.state is State.EXECUTED and answer.answer.result.exit_code == 0


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
