"""Imports of the benchmarks' cases, loaded once in the process that they are forked from."""

import kornia  # noqa: F401
import torchvision  # noqa: F401
from facexlib.utils import face_restoration_helper  # noqa: F401

import bfr.faces.paste
import bfr.prior.sample
import bfr.restore.restorer  # noqa: F401
