"""The embedded server: what it offers, and what it survives."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError
from temporalio.worker import Worker

from tests.worker.tiny import Waiting, eventually, servers_of, start_holder, start_waiting
from worker.bootstrap import read_retention
from worker.connection import Target, connect
from worker.embedded import EmbeddedTemporal
from worker.errors import EmbeddedFailed
from worker.server_state import read_state, running_server, state_for, write_state
from workflows.search_attributes import ALL


async def status_of(server: EmbeddedTemporal, workflow_id: str) -> WorkflowExecutionStatus | None:
    async with connect(server.target, plugins=[], keep_trying_s=20) as client:
        return (await client.get_workflow_handle(workflow_id).describe()).status


async def test_started_server_listens_on_loopback_only_with_ui(temporal: EmbeddedTemporal) -> None:
    assert temporal.pid is not None
    assert os.getsid(temporal.pid) != os.getsid(0), "Ctrl-C in the terminal must not reach the server"
    listening = [c.laddr.ip for c in psutil.Process(temporal.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert listening
    assert set(listening) == {"127.0.0.1"}
    async with httpx.AsyncClient() as http:
        assert (await http.get(temporal.ui, follow_redirects=True)).status_code == 200


async def test_started_server_keeps_closed_runs_for_thirty_days(client: Client) -> None:
    assert (await read_retention(client)).days == 30


async def test_started_server_accepts_queries_by_every_search_attribute(client: Client) -> None:
    for key in ALL:
        assert (await client.count_workflows(f"{key.name} IS NOT NULL")).count == 0


async def test_running_server_is_found_from_outside_and_stopped_one_is_not(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server:
        found = running_server(tmp_path)
        assert found
        assert (found.address, found.ui, found.pid) == (server.address, server.ui, server.pid)
    assert running_server(tmp_path) is None
    assert servers_of(tmp_path) == []


async def test_restart_keeps_address_and_workflows(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server:
        address = server.address
        async with connect(server.target, plugins=[]) as client:
            started = await start_waiting(client)
    async with EmbeddedTemporal(tmp_path) as server:
        assert server.address == address
        assert await status_of(server, started.id) is WorkflowExecutionStatus.RUNNING
        async with connect(server.target, plugins=[]) as client:
            assert (await read_retention(client)).days == 30


async def test_restart_when_port_was_taken_meanwhile_moves_and_keeps_workflows(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server:
        address = server.address
        async with connect(server.target, plugins=[]) as client:
            started = await start_waiting(client)
    with listening_on(address):
        async with EmbeddedTemporal(tmp_path) as server:
            assert server.address != address
            assert await status_of(server, started.id) is WorkflowExecutionStatus.RUNNING


@contextmanager
def listening_on(address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        yield


async def test_killed_server_is_back_at_its_address_and_workers_go_on(tmp_path: Path) -> None:
    events: list[str] = []
    async with (
        EmbeddedTemporal(tmp_path, on_event=events.append) as server,
        connect(server.target, plugins=[]) as client,
        Worker(client, task_queue="tiny", workflows=[Waiting]),
    ):
        started = await start_waiting(client)
        address, killed = server.address, server.pid
        assert killed
        os.kill(killed, signal.SIGKILL)

        async def is_back() -> bool:
            return server.pid not in (None, killed) and await answers(client, started.id)

        await eventually(is_back, "the server answers again")
        assert server.address == address
        await started.signal(Waiting.say, "still here")
        assert await started.result() == "still here"
    assert any("SIGKILL" in event and address in event for event in events)


async def test_server_killed_again_while_it_starts_comes_back_all_the_same(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server, connect(server.target, plugins=[]) as client:
        started = await start_waiting(client)
        for delay_s in (0.0, 0.1, 0.25, 0.4):
            killed = server.pid
            assert killed
            os.kill(killed, signal.SIGKILL)

            async def is_another(killed: int = killed) -> bool:
                return server.pid not in (None, killed)

            await eventually(is_another, "another server starts")
            await asyncio.sleep(delay_s)  # not a wait for anything: the instant of the next kill
        await eventually(lambda: answers(client, started.id), "the server answers again")


async def answers(client: Client, workflow_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return False
    return True


@pytest.mark.parametrize("binding", ["bound", "unbound"])
async def test_killed_parent_leaves_a_folder_that_the_next_can_use(tmp_path: Path, binding: str) -> None:
    holder, address, first_pid = await start_holder(tmp_path, binding)
    state = read_state(tmp_path)
    assert state
    async with connect(Target(address), plugins=[]) as client:
        started = await start_waiting(client)
    holder.kill()
    await holder.wait()
    async with EmbeddedTemporal(tmp_path) as server:
        assert server.address == address
        assert (server.pid == first_pid) == (binding == "unbound"), "an unbound server is adopted, a bound one ends"
        assert [process.pid for process in servers_of(tmp_path)] == [server.pid]
        assert await status_of(server, started.id) is WorkflowExecutionStatus.RUNNING
    assert servers_of(tmp_path) == []


async def test_killed_parent_takes_its_server_along(tmp_path: Path) -> None:
    holder, _, _ = await start_holder(tmp_path, "bound")
    holder.kill()
    await holder.wait()

    async def is_gone() -> bool:
        return not servers_of(tmp_path)

    await eventually(is_gone, "the server of a killed parent ends")


async def test_adopted_server_that_dies_is_started_again_at_its_address(tmp_path: Path) -> None:
    holder, address, first_pid = await start_holder(tmp_path, "unbound")
    holder.kill()
    await holder.wait()
    async with EmbeddedTemporal(tmp_path) as server, connect(server.target, plugins=[]) as client:
        assert server.pid == first_pid
        os.kill(first_pid, signal.SIGKILL)

        async def is_back() -> bool:
            return server.pid not in (None, first_pid)

        await eventually(is_back, "another server runs")
        started = await start_waiting(client)
        assert server.address == address
        assert await status_of(server, started.id) is WorkflowExecutionStatus.RUNNING


@pytest.mark.slow
async def test_orphan_that_answers_nothing_is_replaced(tmp_path: Path) -> None:
    holder, _, first_pid = await start_holder(tmp_path, "unbound")
    holder.kill()
    await holder.wait()
    os.kill(first_pid, signal.SIGSTOP)
    async with EmbeddedTemporal(tmp_path) as server:
        assert server.pid != first_pid
        assert [process.pid for process in servers_of(tmp_path)] == [server.pid]


async def test_second_user_of_the_folder_shares_the_server_and_takes_over(tmp_path: Path) -> None:
    events: list[str] = []
    async with EmbeddedTemporal(tmp_path) as holder:
        async with connect(holder.target, plugins=[]) as client:
            started = await start_waiting(client)
        guest = EmbeddedTemporal(tmp_path, on_event=events.append)
        await guest.__aenter__()
        assert (guest.address, guest.pid, guest.is_holder) == (holder.address, holder.pid, False)
        assert len(servers_of(tmp_path)) == 1
        address = holder.address
    try:

        async def runs_again() -> bool:
            return guest.is_holder and guest.pid is not None

        await eventually(runs_again, "the guest holds the server")
        assert guest.address == address
        assert await status_of(guest, started.id) is WorkflowExecutionStatus.RUNNING
    finally:
        await guest.__aexit__(None, None, None)
    assert servers_of(tmp_path) == []


async def test_guest_of_a_killed_holder_takes_over_at_the_same_address(tmp_path: Path) -> None:
    holder, address, _ = await start_holder(tmp_path, "bound")
    async with EmbeddedTemporal(tmp_path) as guest, connect(guest.target, plugins=[]) as client:
        assert (guest.address, guest.is_holder) == (address, False)
        started = await start_waiting(client)
        holder.kill()
        await holder.wait()

        async def goes_on() -> bool:
            return guest.is_holder and await answers(client, started.id)

        await eventually(goes_on, "the guest holds a server that knows the workflow")
        assert guest.address == address


async def test_state_file_of_another_process_names_no_server(tmp_path: Path) -> None:
    write_state(tmp_path, state_for(7233, 8233, pid=os.getpid()))
    assert running_server(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", '{"address": "x", "ui": "y", "pid": 1}', "[]"])
async def test_unreadable_state_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "embedded.json").write_text(content)
    assert running_server(tmp_path) is None
    assert read_state(tmp_path) is None


async def test_database_that_is_none_fails_with_the_servers_words(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").write_bytes(b"this is no database" * 1_000)
    with pytest.raises(EmbeddedFailed, match="not a database") as raised:
        async with EmbeddedTemporal(tmp_path):
            pass
    assert str(tmp_path) in str(raised.value)
    assert servers_of(tmp_path) == []


async def test_folder_that_cannot_be_used_fails_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedFailed, match="OPS_MANAGER_DATA_FOLDER"):
        async with EmbeddedTemporal(tmp_path / "file"):
            pass
