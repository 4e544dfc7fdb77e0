"""Search attributes: what the state calls for, and that only a change is worth an event."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.converter import encode_typed_search_attribute_value

from contract.observation import Contact
from contract.status import SearchAttribute
from tests.rules.world import Runtime, World, running, waiting
from workflows import transport
from workflows.search_attributes import ALL, OBSERVED_AT_REFRESH_S, updates, values

SERVER_LIMIT_BYTES = 2_048
DATABASE_LIMIT_CHARS = 255


class Published:
    """What was upserted so far."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}
        self.observed_at: datetime | None = None
        self.events = 0

    def publish(self, world: World) -> dict[str, Any]:
        """As the workflow does: upsert what changed, remember it; returns what was upserted."""
        changed = updates(world.state, self.written, self.observed_at)
        if changed:
            self.events += 1
            self.written.update(values(world.state))
            self.observed_at = world.state.observed_at
        return {update.key.name: update.value for update in changed}


def test_every_attribute_of_the_contract_is_kept() -> None:
    assert [key.name for key in ALL] == [attribute.value for attribute in SearchAttribute]


def test_first_publication_tells_what_is_known_and_the_first_look_the_rest() -> None:
    world, published = World(), Published()
    world.state.target = world.state.target.model_copy(update={"sprite_id": None})
    assert published.publish(world) == {"LoopAttention": "none", "LoopTransport": "sprite_service", "LoopId": "demo"}
    world.look(sprite_id="sprite-1")
    assert published.publish(world) == {
        "SpriteId": "sprite-1",
        "LoopStatus": "not_started",
        "LoopObservedAt": world.state.observed_at,
    }


def test_only_changes_are_written() -> None:
    world, published = Runtime(), Published()
    world.start()
    world.look()
    published.publish(world)
    for _ in range(20):
        world.event("recovery_proposed")
        world.look(1)
        assert published.publish(world) == {}
    world.work()
    world.look()
    assert published.publish(world) == {"LoopStatus": "running", "LoopObservedAt": world.state.observed_at}
    assert published.publish(world) == {}
    assert published.events == 2


def test_observed_at_alone_is_written_every_five_minutes_of_news_and_never_without() -> None:
    world, published = running(), Published()
    published.publish(world)
    begun = world.state.observed_at
    assert begun is not None
    for _ in range(30):
        world.look(60)
        published.publish(world)
    assert published.events == 1 + 30 * 60 // int(OBSERVED_AT_REFRESH_S)
    world.tick(86_400)
    assert published.publish(world) == {}
    assert published.observed_at is not None
    assert published.observed_at - begun <= timedelta(minutes=30)


def test_status_and_attention_change_together_with_the_time() -> None:
    world, published = waiting(), Published()
    published.publish(world)
    world.decide("approved", iteration=2)
    world.look()
    assert published.publish(world) == {
        "LoopStatus": "decided",
        "LoopAttention": "approved_not_resumed",
        "LoopObservedAt": world.state.observed_at,
    }


def test_transport_change_is_written_though_nothing_was_observed() -> None:
    world, published = running(), Published()
    published.publish(world)
    transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
    assert published.publish(world)["LoopTransport"] == "local"
    transport.failed(world.state.transport, world.state.transport.active, "no worker", world.now)
    assert published.publish(world) == {
        "LoopTransport": "blind",
        "LoopAttention": "blind",
        "LoopObservedAt": world.state.observed_at,
    }


def test_status_is_not_written_while_a_log_is_being_read_up_to_its_head() -> None:
    world, published = Runtime(), Published()
    world.start()
    world.work()
    world.complete()
    world.look(upto=2, at_head=False)
    assert "LoopStatus" not in published.publish(world)
    world.look()
    assert published.publish(world)["LoopStatus"] == "complete"
    world.new_epoch()
    world.look(upto=2, at_head=False)
    world.contact(Contact.RUNTIME_ERROR, "502")
    assert published.publish(world).get("LoopStatus", "complete") == "complete"
    world.look()
    assert values(world.state)["LoopStatus"] == "complete"


def test_loop_that_cannot_be_read_at_all_is_listed_as_unknown() -> None:
    world, published = World(), Published()
    world.contact(Contact.UNAUTHORIZED, "401")
    told = published.publish(world)
    assert (told["LoopStatus"], told["LoopAttention"]) == ("unknown", "unauthorized")


@pytest.mark.parametrize(
    "shown",
    ["s" * 5_000, "\U0001f600" * 5_000, "half \ud83d of it", "a\x00b\x1b[31m\n"],
    ids=["long", "long in bytes", "half a character", "control characters"],
)
def test_whatever_a_sprite_calls_itself_the_server_takes_it(shown: str) -> None:
    world, published = World(loop_id="\U0001f600" * 128), Published()
    world.state.target = world.state.target.model_copy(update={"sprite_id": None})
    world.look(sprite_id=shown)
    told = published.publish(world)
    assert len(told["SpriteId"]) <= DATABASE_LIMIT_CHARS
    assert told["SpriteId"].isprintable()
    keys = {key.name: key for key in ALL}
    encoded = [encode_typed_search_attribute_value(keys[name], value) for name, value in told.items()]
    assert max(len(payload.data) for payload in encoded) <= SERVER_LIMIT_BYTES
    # It is compared as it was written: nothing is written again and again.
    assert published.publish(world) == {}


def test_names_as_long_as_the_contract_allows_are_told_as_they_are() -> None:
    world, published = World(loop_id="l" * 128), Published()
    world.state.target = world.state.target.model_copy(update={"sprite_id": None})
    world.look(sprite_id="s" * 128)
    told = published.publish(world)
    assert (told["LoopId"], told["SpriteId"]) == ("l" * 128, "s" * 128)
