"""Errors that a user can act on.

Every message is one sentence that says what is wrong and what to do. The commands print the sentence and leave
with exit code 2; a traceback from Sauron is always a bug in Sauron.
"""

from __future__ import annotations


class SauronError(Exception):
    """Base of all errors that are the input's fault, not the program's."""


class ConfigError(SauronError):
    """A recipe, a configuration key or a value that cannot be used."""


class DataError(SauronError):
    """A data set, a case or an image that cannot be used."""


class RunError(SauronError):
    """A run folder that is missing, damaged, in use or of a newer format."""


class TrainingError(SauronError):
    """Training cannot go on."""


class PruningError(SauronError):
    """A cut that must not be made; raised before anything has changed."""


class UnknownLayerError(PruningError):
    """A layer that the network does not have, or that must stay whole, such as one that makes its output."""


class UnknownFilterError(PruningError):
    """A filter that its layer does not have, or not any more."""


class EmptyLayerError(PruningError):
    """A cut that would leave a layer without filters."""


class MismatchError(PruningError):
    """A network or an optimizer whose tensors do not have the shapes that a cut needs."""
