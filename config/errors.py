"""Every error that liveloc raises on purpose, in one tree.

    LivelocError
    ├── SettingsError            a setting is unknown, mistyped or out of range
    ├── SourceError              frames cannot be had
    │   ├── SourceUnreadable     a file is missing, empty, truncated, or of a kind that cannot hold camera frames
    │   └── SourceStopped        a running camera stopped, vanished or hung
    ├── CalibrationMissing       ADU cannot be turned into photons
    ├── ModelError               a model cannot be used
    │   ├── ModelFileInvalid     a model file is missing, damaged or of an unknown version
    │   ├── RuntimeUnavailable   the runtime or device that was asked for is not there
    │   └── ExportMismatch       an exported model does not give what the network gives
    ├── TableError               a localisation table cannot be read or written
    ├── WireError                a message from the wire is not what it should be, or keys are missing
    ├── RunError                 a run cannot go on
    │   ├── RecorderFailed       localisations cannot be written to disk
    │   └── ClusterFailed        the cluster cannot be reached, or its workers fail
    └── TrainingError            a training cannot start, resume or go on

A message says what was expected, what was found, and what to do. The front door prints the message alone and
exits with 2; anything outside this tree is a bug and keeps its traceback.
"""

from __future__ import annotations


class LivelocError(Exception):
    """Root of the tree."""


class SettingsError(LivelocError):
    """A setting is unknown, mistyped or out of range."""


class SourceError(LivelocError):
    """Frames cannot be had."""


class SourceUnreadable(SourceError):
    """A file is missing, empty, truncated, or of a kind that cannot hold camera frames."""


class SourceStopped(SourceError):
    """A running camera stopped, vanished or hung."""


class CalibrationMissing(LivelocError):
    """ADU cannot be turned into photons."""


class ModelError(LivelocError):
    """A model cannot be used."""


class ModelFileInvalid(ModelError):
    """A model file is missing, damaged or of an unknown version."""


class RuntimeUnavailable(ModelError):
    """The runtime or device that was asked for is not there."""


class ExportMismatch(ModelError):
    """An exported model does not give what the network gives."""


class TableError(LivelocError):
    """A localisation table cannot be read or written."""


class WireError(LivelocError):
    """A message from the wire is not what it should be, or keys are missing."""


class RunError(LivelocError):
    """A run cannot go on."""


class RecorderFailed(RunError):
    """Localisations cannot be written to disk."""


class ClusterFailed(RunError):
    """The cluster cannot be reached, or its workers fail."""


class TrainingError(LivelocError):
    """A training cannot start, resume or go on."""
