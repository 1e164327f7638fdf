"""One folder, one writer."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bfr.errors import BusyError, InputError
from bfr.files.lock import only_writer
from tests.forks import CONTEXT, begin


def hold(folder: Path, held: Connection) -> None:
    with only_writer(folder):
        held.send(None)
        time.sleep(60)


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path):
    with only_writer(tmp_path):
        with pytest.raises(BusyError, match=rf"process {os.getpid()} "), only_writer(tmp_path):
            pass
        with pytest.raises(BusyError), only_writer(tmp_path, wait=0.2):
            pass
    with only_writer(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_holds_no_folder(tmp_path: Path):
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = begin(hold, tmp_path, theirs)
    ours.recv()
    with pytest.raises(BusyError, match=rf"process {process.pid} "), only_writer(tmp_path):
        pass
    process.kill()
    process.join()
    with only_writer(tmp_path):
        pass


def test_a_holder_that_is_no_text_is_not_believed(tmp_path: Path):
    with only_writer(tmp_path):
        (tmp_path / ".lock.holder").write_bytes(b"\xff[[")
        with pytest.raises(BusyError, match="another process"), only_writer(tmp_path):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("name", [".lock", ".lock.holder"])
def test_nothing_is_written_through_a_link_in_the_locks_place(tmp_path: Path, name: str):
    ours, folder = tmp_path / "ours.txt", tmp_path / "set"
    ours.write_text("kept")
    folder.mkdir()
    (folder / name).symlink_to(ours)
    with pytest.raises(InputError, match=name), only_writer(folder):
        pass
    assert ours.read_text() == "kept"
