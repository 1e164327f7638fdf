"""A real ComfyUI with only this pack in it, run in a folder of its own and spoken to by HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness import PACK, PACK_NAME

PROBE = Path(__file__).with_name("probe")
START_SECONDS = 300


def find_comfyui() -> Path | None:
    """ComfyUI's folder: $COMFYUI_PATH or $COMFYUI, the one this pack lies in, or ../ComfyUI."""
    named = os.environ.get("COMFYUI_PATH") or os.environ.get("COMFYUI")
    if named:
        if not (Path(named) / "main.py").is_file():
            raise FileNotFoundError(f"{named} holds no ComfyUI: it has no main.py.")
        return Path(named)
    above = [PACK.parent.parent] if PACK.parent.name == "custom_nodes" else []
    candidates = [*above, PACK.parent / "ComfyUI"]
    return next((path for path in candidates if (path / "main.py").is_file()), None)


def find_python(comfyui: Path) -> str:
    """ComfyUI's own interpreter, else this one."""
    names = [comfyui / venv / "bin" / "python" for venv in (".venv", "venv")]
    python = os.environ.get("COMFYUI_PYTHON")
    return python or next((str(name) for name in names if name.is_file()), sys.executable)


class PromptRefused(Exception):
    """ComfyUI did not accept a node of a prompt; ``errors`` are its messages by node id."""

    def __init__(self, reply: dict[str, Any]):
        super().__init__(json.dumps(reply)[:2000])
        self.errors: dict[str, Any] = reply.get("node_errors", {})


@dataclass(frozen=True)
class Result:
    """The outcome of a prompt: its history entry, made easier to read."""

    history: dict[str, Any]

    @property
    def messages(self) -> dict[str, dict[str, Any]]:
        return dict(self.history["status"]["messages"])

    @property
    def succeeded(self) -> bool:
        return self.history["status"]["status_str"] == "success"

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes that did not run again."""
        return set(self.messages["execution_cached"]["nodes"])

    @property
    def error(self) -> dict[str, Any]:
        """``node_id``, ``node_type``, ``exception_type`` and ``exception_message``."""
        return self.messages["execution_error"]

    def output(self, node: str) -> dict[str, Any]:
        return self.history["outputs"][node]


@dataclass
class Server:
    """A running ComfyUI."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return reply.read()

    def post(self, path: str, data: Any) -> Any:
        body = json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any], client: str = "") -> str:
        """Sends an API-format prompt and returns its id.

        Args:
            prompt: the prompt.
            client: who gets the events of its run, by the name given to the web socket.

        Raises:
            PromptRefused: if any node was refused; ComfyUI runs what does not depend on it.
        """
        try:
            reply = self.post("/prompt", {"prompt": prompt, "client_id": client})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            reply = json.loads(error.read())
        if reply.get("node_errors"):
            raise PromptRefused(reply)
        return reply["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 300) -> Result:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry["status"]["messages"]:
                return Result(entry)
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended:\n{self.log_text()[-3000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"The prompt took more than {seconds} s:\n{self.log_text()[-3000:]}")

    def run(self, prompt: dict[str, Any]) -> Result:
        return self.wait(self.queue(prompt))

    def image(self, entry: dict[str, str]) -> np.ndarray:
        """H×W×C uint8 pixels of an image that a node saved or previewed."""
        data = self.read("/view?" + urllib.parse.urlencode(entry))
        return np.asarray(Image.open(io.BytesIO(data)))

    def images(self, result: Result, node: str) -> list[np.ndarray]:
        return [self.image(entry) for entry in result.output(node)["images"]]

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        return bool(self.get("/queue")["queue_running"])

    def free(self) -> None:
        """Does what the editor's 'unload models and clear cache' does, and waits for it.

        It is asked for until it is done: a busy ComfyUI may miss it. A probe in the middle of it
        would hold what is just let go, so each time it gets a second.
        """
        end = time.monotonic() + 60
        while time.monotonic() < end:
            self.post("/free", {"unload_models": True, "free_memory": True})
            time.sleep(1)
            if not self.get("/probe/loaded")["cached"]:
                break


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_server(comfyui: Path, base: Path, pack: Path = PACK) -> Iterator[Server]:
    """Starts ComfyUI on the CPU with this pack and the probe, and ends it afterwards.

    Args:
        comfyui: its folder; nothing is written there.
        base: an empty folder for its models, inputs, outputs and settings.
        pack: this pack's folder.
    """
    for name in ("models", "custom_nodes", "input", "output", "temp", "user"):
        (base / name).mkdir()
    (base / "custom_nodes" / PACK_NAME).symlink_to(pack, target_is_directory=True)
    (base / "custom_nodes" / "probe").symlink_to(PROBE, target_is_directory=True)
    port, log = free_port(), base / "comfyui.log"
    command = [find_python(comfyui), "main.py", "--cpu", "--disable-auto-launch"]
    command += ["--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--user-directory", str(base / "user")]
    command += ["--database-url", f"sqlite:///{base / 'comfyui.db'}", "--disable-api-nodes"]
    command += shlex.split(os.environ.get("COMFYUI_ARGS", ""))
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=comfyui, stdout=sink, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}", base, log, process)
    try:
        _wait_until_up(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            server.read("/system_stats")
            return
        time.sleep(0.25)
    raise RuntimeError(f"ComfyUI did not start:\n{server.log_text()[-5000:]}")
