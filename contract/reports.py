"""The base of what is shown to people and programs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Report(BaseModel):
    """Base of reports: camelCase JSON, readable by older and newer readers."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)
