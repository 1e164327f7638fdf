"""The errors of the core: each says what was expected, what it got and what to do."""

from __future__ import annotations


class FaceRestorationError(Exception):
    """Base of every error this package raises on purpose."""

    __module__ = "bfr"  # short, for editors show it with the name; here and in what derives

    def __init_subclass__(cls) -> None:
        cls.__module__ = "bfr"


class InputError(FaceRestorationError, ValueError):
    """An argument or a tensor is not what the function takes."""


class ImageError(FaceRestorationError):
    """An image file cannot be read, or is no usable image."""


class BusyError(FaceRestorationError):
    """Another process is writing to the folder; the message says which."""


class OutputError(FaceRestorationError, OSError):
    """A result cannot be written: disk full, folder missing or read-only."""


class WeightsError(FaceRestorationError):
    """Base of the errors about weights files."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """The weights file is not there; the message names where it belongs."""


class CorruptWeightsError(WeightsError):
    """The weights file is truncated, has the wrong checksum or holds NaN."""


class UnsafeWeightsError(WeightsError):
    """The weights file holds pickled code, which is never run."""


class WrongArchitectureError(WeightsError):
    """The weights belong to a network that this slot does not take."""


class DownloadError(WeightsError):
    """A download failed, or what arrived is not what the manifest promises."""


class LossError(FaceRestorationError):
    """A loss or its gradient is not finite; the message names the step and its pairs."""


class OutOfMemoryError(FaceRestorationError, MemoryError):
    """There is not enough memory, not even for a single face; the message says what needs less."""


class MissingPackageError(FaceRestorationError, ImportError):
    """An optional package is needed; the message gives the install command."""


class LostProcessError(FaceRestorationError):
    """Another process of the run has died or hangs; the message says which."""


class CancelledError(FaceRestorationError):
    """Raised by a progress callback to stop a long function."""
