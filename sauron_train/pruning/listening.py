"""Finds where a layer's map is: the end of the block that its convolution begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from sauron_train.pruning import operations as ops
from sauron_train.pruning.recording import Recording, Step, Value
from sauron_train.pruning.taps import Again, Heard, Tap

_CHANGES = (*ops.NORMS, *ops.ACTIVATIONS, nn.GroupNorm, nn.PReLU)


def find_taps(recording: Recording, model: nn.Module, layers: Mapping[str, str]) -> dict[str, Tap]:
    """The taps of all layers that a recording calls; of one that it calls more than once the last call's.

    Args:
        recording: the network on one of its ways.
        model: the network.
        layers: names of the prunable layers, by module path.
    """
    finder = _Finder(recording, model)
    return {
        layers[step.module]: finder.tap(step)
        for step in recording.steps
        if step.module is not None and step.module in layers
    }


class _Finder:
    def __init__(self, recording: Recording, model: nn.Module) -> None:
        self.recording = recording
        self.modules = dict(model.named_modules())
        self.users = recording.users()
        self.makers = {value: step for step in recording.steps for value in step.outputs}
        self.known: dict[int, Tap | None] = {}

    def tap(self, convolution: Step) -> Tap:
        """Follow the map from its convolution while exactly one step reads it and that step belongs to the block."""
        at = found = convolution.outputs[0]
        while at not in self.recording.results and len(self.users.get(at, [])) == 1:
            step = self.users[at][0]
            if len(step.outputs) != 1 or not (self._goes_on(step) or self._is_block_end(step)):
                break
            at = step.outputs[0]
            if not self._silent(step):
                found = at
        expression = self._expression(found)
        return expression if expression is not None else Heard(str(convolution.module), convolution.call)

    def _goes_on(self, step: Step) -> bool:
        if step.module is None:
            return ops.activates(step) or ops.silent(step)
        return type(self.modules[step.module]) in _CHANGES + ops.SILENT

    def _is_block_end(self, step: Step) -> bool:
        shapes = [self.recording.shapes[value] for value in step.inputs]
        result = self.recording.shapes[step.outputs[0]]
        replayable = all(self._expression(value) is not None for value in step.inputs)
        return step.module is None and ops.sums(step) and all(shape == result for shape in shapes) and replayable

    def _silent(self, step: Step) -> bool:
        return ops.silent(step) if step.module is None else type(self.modules[step.module]) in ops.SILENT

    def _expression(self, value: int) -> Tap | None:
        """How to have a value again in a later pass; None where more than functions of each number must be repeated.

        Layers whose block ends in the same value get the very same tap, so that it is made once.
        """
        if value not in self.known:
            self.known[value] = self._express(value)
        return self.known[value]

    def _express(self, value: int) -> Tap | None:
        step = self.makers.get(value)
        if step is None:
            return None
        if step.module is not None:
            return Heard(step.module, step.call) if len(step.outputs) == 1 else None
        if not (ops.activates(step) or ops.silent(step) or ops.sums(step)) or len(step.outputs) != 1:
            return None
        parts = {v: self._expression(v) for v in step.inputs}
        if any(part is None for part in parts.values()):
            return None
        if not step.in_place and any(self._overwritten(v) for v in step.inputs):
            return None

        def filled(argument: Any) -> Any:
            return parts[argument.number] if isinstance(argument, Value) else argument

        keywords = {name: filled(argument) for name, argument in step.keywords.items()}
        return Again(step.operation, tuple(map(filled, step.arguments)), keywords, step.in_place)

    def _overwritten(self, value: int) -> bool:
        """Whether a step changes the tensor in place, so that it is another one when the pass is over."""
        return any(
            step.inputs[0] == value
            and (step.in_place or (step.module is not None and getattr(self.modules[step.module], "inplace", False)))
            for step in self.users.get(value, [])
        )
