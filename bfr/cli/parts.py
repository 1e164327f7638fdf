"""Entries of a report that a cluster has not finished, as files next to it."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import OutputError
from ..files.places import files_below, is_remote, same_in_every_folder
from ..files.reports import write_text
from ..files.sources import Source

log = logging.getLogger(__name__)

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """Entries of a report that is not written yet, in one file per photograph.

    A worker writes an entry as soon as its photograph is done, so that nothing is lost if the
    command stops early. The finished report replaces them.

    Attributes:
        report: the report's file.
        made_with: what the entries depend on besides their photographs; others are not read.
    """

    report: Path
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _all(self) -> Path:
        return self.report.with_name(f"{self.report.name}.parts")

    @property
    def folder(self) -> Path:
        """The folder of the entries."""
        if not self.made_with:
            return self._all
        text = json.dumps(self.made_with, sort_keys=True, default=str)
        return self._all / hashlib.sha256(text.encode()).hexdigest()[:16]

    def anywhere(self) -> Parts:
        """The same for a process with another working folder."""
        return Parts(same_in_every_folder(self.report), self.made_with)

    def write(self, source: Source, entry: Entry) -> None:
        """Writes the entry of a photograph, whole or not at all."""
        folder = self.folder
        if not is_remote(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"Cannot make {folder}: {error.strerror}. Check its permissions."
                ) from error
        name = hashlib.sha256(f"{source.path}\n{source.name}".encode()).hexdigest()[:32]
        write_text(folder / f"{name}.json", json.dumps(entry) + "\n")

    def read(self) -> dict[str, Entry]:
        """The entries by their photographs' paths; a damaged one is left out."""
        known: dict[str, Entry] = {}
        for path, content in _contents(self.folder).items():
            try:
                entry = json.loads(content)
                known[entry["path"]] = entry
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                log.warning("%s is no entry of a report and does not count: %s", path, error)
        return known

    def remove(self) -> None:
        """Deletes the entries, once the report holds them."""
        folder = self._all
        if not is_remote(folder):
            shutil.rmtree(folder, ignore_errors=True)
        elif files_below(folder):
            remote = cast(Any, folder)
            remote.fs.rm(remote.path, recursive=True)


def _contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; remote ones are fetched many at once."""
    files = files_below(folder)
    if not is_remote(folder):
        return {str(file): file.read_bytes() for file in files}
    remote = cast(Any, folder)
    return remote.fs.cat([cast(Any, file).path for file in files]) if files else {}
