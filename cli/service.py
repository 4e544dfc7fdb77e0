"""Asking a sprite service a single question, for `doctor` and for listing loops, through the one client there is."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from activities.exchange import Answer
from activities.failures import Condition, PeerTrouble
from activities.targets import shown_url
from cli.errors import AuthProblem, TransportProblem
from cli.terminal import clean
from contract.envelopes import SCHEMA_VERSION, LoopsPage, LoopStatus
from contract.observation import Target
from worker.service_client import sprite_service_client


async def ask(target: Target, path: str, params: Mapping[str, str] | None = None) -> Answer:
    """`GET path`, whatever the status.

    Raises TransportProblem when there is no complete answer, AuthProblem when a credential cannot be read, and
    SettingsInvalid where the environment's proxy cannot be used.
    """
    async with sprite_service_client(max_loops=1) as client:
        try:
            return await client.ask(target, path, params)
        except Condition as error:
            raise AuthProblem(str(error)) from None
        except PeerTrouble as error:
            raise TransportProblem(str(error)) from None


def schema_version(answer: Answer) -> str | None:
    """`schemaVersion` of the body, if it has one."""
    version = answer.body.get("schemaVersion") if isinstance(answer.body, dict) else None
    return version if isinstance(version, str) else None


async def loops(target: Target) -> list[LoopStatus] | None:
    """The loops of the sprite; None where its service does not offer the list.

    Raises AuthProblem for a refused token, TransportProblem for an answer that is none.
    """
    answer = await ask(target, "/ops/loops")
    if answer.http_status in (401, 403):
        raise AuthProblem(refused(target, answer))
    if answer.http_status != 200:
        if answer.refusal or answer.http_status in (404, 405):
            return None
        raise TransportProblem(
            f"{shown_url(target)}/ops/loops answered {answer.http_status} without the contract's error body"
        )
    if schema_version(answer) != SCHEMA_VERSION:
        raise TransportProblem(
            f"{shown_url(target)} speaks schemaVersion {clean(schema_version(answer))[:40]!r}, this manager "
            f"{SCHEMA_VERSION!r} only: update the older side"
        )
    try:
        return LoopsPage.model_validate(answer.body).loops
    except ValidationError:
        raise TransportProblem(
            f"{shown_url(target)}/ops/loops answered with something else than a list of loops"
        ) from None


def refused(target: Target, answer: Answer) -> str:
    """What to say about a 401 or 403."""
    said = answer.refusal.message if answer.refusal else "without the contract's error body, so something before it did"
    reference = f"the token {target.token}" if target.token else "a request without a token (--token REF)"
    edge = "" if answer.refusal else "; a private sprite's URL wants --edge-auth REF"
    return f"{shown_url(target)} refused {reference}: {answer.http_status}, {clean(said)}{edge}"
