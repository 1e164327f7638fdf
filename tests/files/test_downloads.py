"""Published weights: downloaded whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bfr.errors import (
    CancelledError,
    CorruptWeightsError,
    DownloadError,
    MissingWeightsError,
    OutputError,
)
from bfr.files.downloads import download, verify
from bfr.files.manifest import PublishedWeights

CONTENT = b"\x80" + bytes(range(256)) * 12000  # three chunks


SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file, badly if told so, and counts the requests."""

    content = CONTENT
    promised: int | None = len(CONTENT)
    status = 200
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        if self.server.promised is not None:
            self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(server: Server) -> PublishedWeights:
    url = f"http://127.0.0.1:{server.server_port}/net.pth"
    return PublishedWeights("net", "net.pth", "restorer", url, None, "MIT", "facerestore_models")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_with_progress(tmp_path: Path, server: Server, entry: PublishedWeights):
    steps: list[tuple[int, int]] = []
    folder = tmp_path / "models" / "made on the way"
    known = replace(entry, sha256=SHA256, size=len(CONTENT))
    path = download(known, folder, lambda done, total, _: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["net.pth"], "the manifest's checksum needs no record"
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert verify(path, known) == SHA256
    assert download(known, folder) == path
    assert server.requests == 1, "what is there and good is not downloaded again"


def test_download_of_unknown_length(tmp_path: Path, server: Server, entry: PublishedWeights):
    server.promised = None
    assert download(entry, tmp_path).read_bytes() == CONTENT


def test_first_checksum_is_recorded_and_enforced(
    tmp_path: Path, server: Server, entry: PublishedWeights
):
    path = download(entry, tmp_path)
    record = tmp_path / "net.pth.sha256"
    assert record.read_text() == f"{SHA256}  net.pth\n"
    path.write_bytes(b"\x80 damaged on the disk")
    with pytest.raises(CorruptWeightsError, match=SHA256):
        verify(path, entry)
    assert download(entry, tmp_path).read_bytes() == CONTENT, "a damaged file is replaced"
    path.unlink()
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=r"net\.pth\.sha256"):
        download(entry, tmp_path)
    assert names(tmp_path) == ["net.pth.sha256"]
    record.unlink()
    assert download(entry, tmp_path).read_bytes() == server.content


def test_wrong_checksum(tmp_path: Path, entry: PublishedWeights):
    with pytest.raises(DownloadError, match=SHA256):
        download(replace(entry, sha256="0" * 64), tmp_path)
    assert names(tmp_path) == []


def test_truncated_body(tmp_path: Path, server: Server, entry: PublishedWeights):
    server.promised = len(CONTENT) + 1
    with pytest.raises(DownloadError, match=f"{len(CONTENT) + 1} bytes, got {len(CONTENT)}"):
        download(entry, tmp_path)
    assert names(tmp_path) == []


def test_a_failed_download_leaves_the_old_file(
    tmp_path: Path, server: Server, entry: PublishedWeights
):
    (tmp_path / "net.pth").write_bytes(b"old")
    server.status = 404
    with pytest.raises(DownloadError, match="404"):
        download(replace(entry, sha256=SHA256), tmp_path)
    assert (tmp_path / "net.pth").read_bytes() == b"old"


def test_a_web_page_instead_of_weights(tmp_path: Path, server: Server, entry: PublishedWeights):
    server.content = b"<html>Please log in</html>"
    server.promised = len(server.content)
    with pytest.raises(DownloadError, match="web page"):
        download(entry, tmp_path)
    assert names(tmp_path) == []


def test_no_network_says_how_to_help_oneself(tmp_path: Path, entry: PublishedWeights):
    nowhere = replace(entry, url="http://127.0.0.1:9/net.pth")  # the discard port: refused
    with pytest.raises(DownloadError) as caught:
        download(nowhere, tmp_path)
    assert nowhere.url in str(caught.value)
    assert str(tmp_path / "net.pth") in str(caught.value)
    assert names(tmp_path) == []


def test_cancelling(tmp_path: Path, entry: PublishedWeights):
    def cancel(done: int, total: int, _: object) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        download(entry, tmp_path, cancel)
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made(tmp_path: Path, entry: PublishedWeights):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="folder"):
        download(entry, tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_full_disk(tmp_path: Path, entry: PublishedWeights):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match="disk"):
            download(entry, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_verify(tmp_path: Path, entry: PublishedWeights):
    path = tmp_path / "net.pth"
    with pytest.raises(MissingWeightsError):
        verify(path, entry)
    path.write_bytes(CONTENT)
    assert verify(path, entry) == SHA256, "nothing is known to compare with"
    with pytest.raises(CorruptWeightsError, match="bytes"):
        verify(path, replace(entry, size=5))
    with pytest.raises(CorruptWeightsError, match="sha256"):
        verify(path, replace(entry, sha256="0" * 64))
    (tmp_path / "net.pth.sha256").write_text("no checksum")
    with pytest.raises(CorruptWeightsError, match="Delete it"):
        verify(path, entry)
