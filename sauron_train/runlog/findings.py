"""What a check of a run folder finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["damaged", "missing", "contradiction", "left over", "not listed"]
_HARMLESS: tuple[Kind, ...] = ("left over", "not listed")


@dataclass(frozen=True)
class Finding:
    """Something about a file, relative to the run, that is not as it should be.

    Attributes:
        kind: "left over" of a write that was cut off and "not listed" in the checksums lose nothing.
        file: which.
        what: in a sentence.
        repair: what repairing would do about it; "" = nothing can be done.
    """

    kind: Kind
    file: str
    what: str
    repair: str = ""

    @property
    def harmless(self) -> bool:
        """Whether nothing is lost by it."""
        return self.kind in _HARMLESS


def epochs_have(numbers: Sequence[int]) -> str:
    """The beginning of a sentence about some epochs: "epochs 3, 4 have"."""
    some = ", ".join(map(str, numbers[:3])) + (", …" if len(numbers) > 3 else "")
    return f"epoch {some} has" if len(numbers) == 1 else f"epochs {some} have"
