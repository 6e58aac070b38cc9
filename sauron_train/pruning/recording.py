"""What a network does with an input, written down while it runs.

The network is run once, with real numbers, and everything that reads or makes a tensor is noted: calls of torch's own
modules as one step each, and outside of these every single operation. Unlike symbolic tracing this follows any Python
in `forward`, and no operation can be missed: whatever is not understood later is at least known to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from sauron_train.errors import PruningError


@dataclass(frozen=True)
class Value:
    """Stands for a tensor, by number, in the arguments of an operation."""

    number: int


@dataclass(frozen=True)
class Step:
    """One step of a network: the `call`-th call of a module (from 0), or an operation called inside `where`.

    `inputs` and `outputs` are numbers of values. An operation that works in place makes a new value of the tensor that
    it changes.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    module: str | None = None
    call: int = 0
    operation: Any = None
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def in_place(self) -> bool:
        """Whether the first argument of an operation becomes its result."""
        return self.operation is not None and self.operation._schema.name.endswith("_")

    @property
    def name(self) -> str:
        """The operation's name without its overload, such as `add` for `aten::add.Tensor`; empty for modules.

        One of somebody else's keeps its namespace: `theirs::add` may do anything.
        """
        if self.operation is None:
            return "" if self.module is not None else "a tensor that is made unseen"
        return str(self.operation._schema.name).removeprefix("aten::")


@dataclass(frozen=True)
class Recording:
    """All steps of one run, in order, the shape of every value, and which values the network returned.

    `parameters` are the values that are parameters of the network and were read by operations, not by their modules.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    results: tuple[int, ...]
    parameters: Mapping[int, nn.Parameter]

    def users(self) -> dict[int, list[Step]]:
        """The steps that read each value."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            for value in step.inputs:
                found.setdefault(value, []).append(step)
        return found


def record(model: nn.Module, example: tuple[Any, ...], training: bool) -> Recording:
    """Run a network on an example and write its steps down; neither it nor any random generator is changed.

    Args:
        model: the network.
        example: its positional arguments.
        training: whether to follow the way it takes while it trains, or the one in evaluation.

    Raises:
        PruningError: it cannot be run on the example.
    """
    recorder = _Recorder(model)
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    arguments = plain(example)
    try:
        with undisturbed(model, training), torch.random.fork_rng(devices), torch.no_grad(), recorder.attached():
            results = model(*arguments)
    except Exception as error:  # whatever somebody's forward raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PruningError(
            f"the network cannot be run on the example input ({reason}); give one of the shape it is trained with"
        ) from error
    tensors = tensors_in(results)
    if not tensors:
        raise PruningError("the network returns no tensor, so there is nothing its filters could be cut for")
    values = tuple(recorder.value(tensor) for tensor in tensors)
    return Recording(tuple(recorder.steps), tuple(recorder.shapes), values, dict(recorder.parameters))


def plain(example: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same tensors without the subclasses that data loaders give them, which hide what is done with them."""
    result: tuple[Any, ...] = tree_map_only(
        Tensor, lambda t: t if isinstance(t, nn.Parameter) else t.as_subclass(Tensor), example
    )
    return result


def is_leaf(module: nn.Module) -> bool:
    """Whether a call of the module is one step: torch's own layers, and containers that hold nothing."""
    return type(module).__module__.startswith("torch.nn.modules.") and not any(True for _ in module.children())


def ours(hook: Any) -> Any:
    """Mark a hook as one of ours, which only listen."""
    hook._sauron = True
    return hook


def is_ours(hook: Any) -> bool:
    """Whether a hook is one of ours."""
    return getattr(hook, "_sauron", False) is True


def _is_one_step(module: nn.Module) -> bool:
    # What somebody's hook does to a map is seen only where the module's call is taken apart.
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return is_leaf(module) and all(map(is_ours, hooks))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.steps: list[Step] = []
        self.shapes: list[tuple[int, ...]] = []
        self.parameters: dict[int, nn.Parameter] = {}
        self._known = {id(p) for p in model.parameters()}
        self._values: Any = WeakIdKeyDictionary()
        # Tensors are kept until the end: memory that is used again would look like the tensor that lay there before.
        self._kept: list[Tensor] = []
        self._memory: dict[int, list[Tensor]] = {}
        self._calls: Counter[str] = Counter()
        self._path: list[str] = []
        self._leaf: tuple[str, tuple[int, ...]] | None = None

    def value(self, tensor: Tensor) -> int:
        """The number of a tensor; one that comes from nowhere gets a new one."""
        if tensor not in self._values:
            if known := self._memory.get(_address(tensor)):
                return self._alias(tensor, known)
            self._renew(tensor)
            if id(tensor) in self._known and isinstance(tensor, nn.Parameter):
                self.parameters[self._values[tensor]] = tensor
        return int(self._values[tensor])

    def _renew(self, tensor: Tensor) -> int:
        self._values[tensor] = len(self.shapes)
        self.shapes.append(tuple(tensor.shape))
        self._kept.append(tensor)
        if _address(tensor):
            self._memory.setdefault(_address(tensor), []).append(tensor)
        return len(self.shapes) - 1

    def _alias(self, tensor: Tensor, known: list[Tensor]) -> int:
        """A tensor that was made unseen out of one that is known, as by `as_subclass` or by way of NumPy."""
        for other in reversed(known):
            place = (tensor.data_ptr(), tensor.shape, tensor.stride())
            if place == (other.data_ptr(), other.shape, other.stride()):
                self._values[tensor] = int(self._values[other])
                self._kept.append(tensor)
                return int(self._values[tensor])
        sources = tuple(dict.fromkeys(int(self._values[other]) for other in known))
        made = self._renew(tensor)
        self.steps.append(Step(sources, (made,), where=self._path[-1] if self._path else ""))
        return made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if self._leaf is not None:
            return func(*args, **keywords)
        inputs = tuple(self.value(t) for t in tensors_in((args, keywords)))
        noted = tree_map_only(Tensor, lambda t: Value(self.value(t)), (args, keywords))
        result = func(*args, **keywords)
        outputs = tuple(self._renew(t) for t in tensors_in(result))
        where = self._path[-1] if self._path else ""
        step = Step(inputs, outputs, operation=func, arguments=noted[0], keywords=noted[1], where=where)
        self.steps.append(step)
        return result

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = []
        for name, module in self.model.named_modules():
            before, after = self._hooks(name, _is_one_step(module))
            handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, with_kwargs=True),
            ]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, name: str, leaf: bool) -> tuple[Any, Any]:
        def before(_module: nn.Module, args: Any, keywords: Any) -> None:
            self._path.append(name)
            if leaf and self._leaf is None:
                self._leaf = name, tuple(self.value(t) for t in tensors_in((args, keywords)))

        def after(_module: nn.Module, _args: Any, _keywords: Any, result: Any) -> None:
            self._path.pop()
            if leaf and self._leaf is not None and self._leaf[0] == name:
                inputs = self._leaf[1]
                self._leaf = None
                outputs = tuple(self._renew(t) for t in tensors_in(result))
                self.steps.append(Step(inputs, outputs, module=name, call=self._calls[name], where=name))
                self._calls[name] += 1

        return before, after


def _address(tensor: Tensor) -> int:
    """Where a tensor's memory begins; 0 for tensors without memory of their own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


@contextmanager
def undisturbed(model: nn.Module, training: bool) -> Iterator[None]:
    """Put the model on the wanted way, with torch's own layers in evaluation, and everything back afterwards."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for module in model.modules():
        # A norm would count the example in, and dropout throw a die; neither changes which way the network takes.
        module.training = training and not is_leaf(module)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in nested lists, tables and dataclasses."""
    found: list[Tensor] = []
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dataclass_fields__"):
            found += tensors_in([getattr(leaf, name) for name in leaf.__dataclass_fields__])
    return found
