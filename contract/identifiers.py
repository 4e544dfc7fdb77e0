"""Names: loop ids, sprite names, workflow ids, task queues."""

from __future__ import annotations

import re

from contract.errors import IdentifierInvalid

MAX_LOOP_ID_CHARS = 128
_MAX_FILE_NAME_BYTES = 255
_SPRITE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_loop_id(loop_id: object) -> str:
    """Return `loop_id` if it may be used as a folder name and an argument, else raise IdentifierInvalid (D11).

    Refused: anything but a string, empty, `/`, backslash, `..`, `.`, a leading `-`, control or other unprintable
    characters, more than 128 characters. Nothing has been read or written when this raises.
    """
    if loop_id is None or loop_id == "":
        raise IdentifierInvalid("loopId is required")
    if not isinstance(loop_id, str):
        raise IdentifierInvalid(f"loopId must be a string, not {type(loop_id).__name__}")
    problem = _loop_id_problem(loop_id)
    if problem:
        raise IdentifierInvalid(f"loopId {_shown(loop_id)} {problem}")
    return loop_id


def _loop_id_problem(loop_id: str) -> str | None:
    if len(loop_id) > MAX_LOOP_ID_CHARS:
        return f"is longer than {MAX_LOOP_ID_CHARS} characters"
    if "/" in loop_id or "\\" in loop_id:
        return "must not contain a slash"
    if ".." in loop_id or loop_id == ".":
        return "must not contain '..'"
    if loop_id.startswith("-"):
        return "must not begin with '-'"
    if not loop_id.isprintable() or loop_id != loop_id.strip():
        return "must not contain control characters or surrounding spaces"
    if len(loop_id.encode("utf-8", "replace")) > _MAX_FILE_NAME_BYTES:
        return f"is longer than {_MAX_FILE_NAME_BYTES} bytes"
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def check_sprite_name(sprite: str) -> str:
    """Return `sprite` if it is a usable name (at most 63 letters, digits, `.`, `_`, `-`); raises IdentifierInvalid."""
    if not _SPRITE_NAME.fullmatch(sprite):
        raise IdentifierInvalid(
            f"sprite name {_shown(sprite)} must be 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning and ending with a letter or digit"
        )
    return sprite


def workflow_id(sprite: str, loop_id: str) -> str:
    """The id of the one supervisor of a loop: `loop:<sprite>:<loopId>`."""
    return f"loop:{check_sprite_name(sprite)}:{check_loop_id(loop_id)}"


def split_workflow_id(text: str) -> tuple[str, str]:
    """`(sprite, loop id)` of a workflow id made by `workflow_id`; raises IdentifierInvalid for any other."""
    prefix, _, rest = text.partition(":")
    sprite, _, loop_id = rest.partition(":")
    if prefix != "loop" or not sprite or not loop_id:
        raise IdentifierInvalid(f"{_shown(text)} is not a supervisor's workflow id (loop:<sprite>:<loopId>)")
    return sprite, loop_id


def observe_task_queue(queue: str) -> str:
    """The queue of `observe` through the service: its own, so that a thousand observers never starve control."""
    return f"{queue}-observe"


def control_task_queue(queue: str) -> str:
    """The queue of `execute_control`, `look_up_control` and `probe` through the service."""
    return f"{queue}-control"


def notices_task_queue(queue: str) -> str:
    """The queue of `deliver`: its own, so that a receiver that hangs never starves control."""
    return f"{queue}-notices"


def local_task_queue(queue: str, sprite: str) -> str:
    """The queue of one sprite's local transport: `<queue>-local-<sprite>`, never shared between sprites."""
    return f"{queue}-local-{check_sprite_name(sprite)}"
