"""Create a virtual environment with uv in it: ``python3 .ci/make_venv.py FOLDER``.

Needs nothing but Python's standard library and PyPI. Debian ships Python without ensurepip
(it is in python3-venv); then pip's wheel is fetched from PyPI and checked, which needs no root.
An environment that already works is kept.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

OLDEST = (3, 11)
PIP = "https://pypi.org/pypi/pip/json"


def fetch_pip(folder):
    """Download pip's newest wheel into ``folder``; a wheel of pip can be run in place."""
    with urllib.request.urlopen(PIP) as answer:
        files = json.load(answer)["urls"]
    wheel = next(file for file in files if file["filename"].endswith(".whl"))
    with urllib.request.urlopen(urljoin(PIP, wheel["url"])) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != wheel["digests"]["sha256"]:
        sys.exit("pip arrived damaged from PyPI. Run the command again.")
    path = Path(folder, wheel["filename"])
    path.write_bytes(data)
    return path


def main(folder):
    if sys.version_info < OLDEST:
        sys.exit(
            "Python {}.{} or newer is needed, {} is {}.{}. Install one and name it: "
            "make PYTHON=/path/to/python3.11 test".format(
                *OLDEST, sys.executable, *sys.version_info[:2]
            )
        )
    python = Path(folder, "bin", "python")
    if python.exists() and not subprocess.call([python, "-c", "import uv"], stderr=-3):
        return
    subprocess.check_call([sys.executable, "-m", "venv", "--clear", "--without-pip", folder])
    with tempfile.TemporaryDirectory() as temporary:
        if subprocess.call([python, "-m", "ensurepip"], stdout=-3, stderr=-3):
            pip = [fetch_pip(temporary) / "pip"]
        else:
            pip = ["-m", "pip"]
        subprocess.check_call([python, *pip, "install", "--quiet", "uv"])


if __name__ == "__main__":
    main(sys.argv[1])
