"""A log that was edited in place, as a snapshot shows it: the same size, and another hash (D8).

Every service shows size and hash of its log, also one of the base contract that keeps no chain. Snapshots are not
taken in one instant: a log that grows meanwhile may show the size of one moment and the hash of another. So an image is
trusted only when two readings in a row have shown it, and a change counts only when two in a row show that.
"""

from __future__ import annotations

from dataclasses import replace

from activities.reading import Reading
from contract.observation import Contact, LogImage, LogReset


class Stillness:
    """Remembers the image of the log that two readings agreed on."""

    def __init__(self, trusted: LogImage | None) -> None:
        self.trusted = trusted
        self._last: LogImage | None = None

    def judge(self, reading: Reading, cursor_line: int) -> Reading:
        """The reading, as one of a rewritten log where its image shows that."""
        image, before = reading.image, self._last
        if reading.contact is not Contact.OK or reading.reset is not None or image is None:
            return reading
        self._last = image
        if image != before:
            return reading
        if self._was_edited(image):
            detail = f"edited in place: still {image.size_bytes} bytes, but another hash ({image.sha256})"
            reset = LogReset(reason="events_rewritten", at_line=cursor_line, line_count=image.line_count, detail=detail)
            return replace(reading, reset=reset, at_head=False)
        self.trusted = image
        return reading

    def _was_edited(self, image: LogImage) -> bool:
        known = self.trusted
        same_size = known is not None and (known.line_count, known.size_bytes) == (image.line_count, image.size_bytes)
        return same_size and known is not None and known.sha256 != image.sha256
