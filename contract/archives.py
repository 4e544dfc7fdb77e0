"""Kept histories: where the history of a run that has ended lies, and the activity that puts it there.

`<archives>/<sprite>/<loopId>/<runId>.json.gz`, the history as JSON, as the Temporal CLI writes it.
"""

from __future__ import annotations

import re

from contract.errors import IdentifierInvalid
from contract.identifiers import check_loop_id, check_sprite_name, split_workflow_id
from contract.observation import History

ARCHIVES_FOLDER = "archives"
"""Below the data folder of the worker that keeps them."""
ARCHIVE_SUFFIX = ".json.gz"
_RUN_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


class ArchiveInput(History):
    """Keep the history of a run, as far as it goes now."""

    workflow_id: str
    run_id: str


class ArchiveResult(History):
    """What was kept. `complete`: the run had ended, so nothing will follow; `already`: it had been kept before."""

    event_count: int
    complete: bool
    already: bool = False


def archive_folders(workflow_id: str) -> tuple[str, str]:
    """The folders below the archives in which the runs of a supervisor lie; raises IdentifierInvalid."""
    sprite, loop_id = split_workflow_id(workflow_id)
    return check_sprite_name(sprite), check_loop_id(loop_id)


def archive_file(run_id: str) -> str:
    """The file name of a run; raises IdentifierInvalid for what is no run id."""
    if not _RUN_ID.fullmatch(run_id):
        raise IdentifierInvalid("a run id consists of letters, digits and '-'")
    return run_id + ARCHIVE_SUFFIX
