"""Run folders that look like real ones, written by the writer that training uses.

The maps are mixtures of a few views of the probe image (blurred, edges, gradients); filters of the same family draw
nearer as epochs pass, the nearest go, and the tables follow from the very same numbers.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from sauron_train.analysis.clusterability import Clusterability, clusterability
from sauron_train.config import Config, parse
from sauron_train.runlog import (
    EpochRow,
    LayerDistances,
    LayerInfo,
    LayerMaps,
    LayerRow,
    Probe,
    Pruning,
    RemovedFilter,
    RunInfo,
    RunWriter,
)
from sauron_train.runlog.schema import Array

LABELS = {"background": 0, "ventricle": 1, "lesion": 2}
OMEGA = 2


@dataclass(frozen=True)
class Spec:
    """What sample to write. `widest` gives one layer at full resolution that many filters."""

    dim: int = 2
    side: int = 48
    levels: int = 3
    init: int = 8
    epochs: int = 12
    every: int = 4
    images: int = 2
    pruning: bool = True
    maps: bool = True
    widest: int | None = None
    max_filters: int = 480
    dataset: str = "Rats"
    seed: int = 7
    created: str = "2024-05-01T09:00:00+00:00"


def unet_layers(spec: Spec) -> tuple[LayerInfo, ...]:
    """The prunable layers of a U-Net, in the order of the network."""
    width = [min(spec.init * 2**level, spec.max_filters) for level in range(spec.levels)]
    layers = [
        LayerInfo(f"enc_conv_{2 * level + block}", "conv", "encoder", level + 1, width[level])
        for level in range(spec.levels)
        for block in (1, 2)
    ]
    for step, level in enumerate(range(spec.levels - 1, 0, -1), start=1):
        layers.append(LayerInfo(f"dec_trans_{step}", "trans", "decoder", level, width[level - 1]))
        layers += [
            LayerInfo(f"dec_conv_{2 * step - 1 + i}", "conv", "decoder", level, width[level - 1]) for i in (0, 1)
        ]
    if spec.widest:
        last = layers[-2]
        layers[-2] = LayerInfo(last.name, last.kind, last.part, last.level, spec.widest)
    return tuple(layers)


def phantom(spec: Spec, number: int) -> tuple[Array, Array]:
    """One probe image (1, *spatial) and its labels: a head with two ventricles and a lesion."""
    rng = np.random.default_rng([spec.seed, number])
    shape = (max(8, spec.side // 4),) * (spec.dim - 2) + (spec.side, spec.side)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    y, x = grid[-2], grid[-1]
    z = grid[0] * 0.8 if spec.dim == 3 else np.zeros_like(x)
    head = (x / 0.78) ** 2 + (y / 0.9) ** 2 + z**2 < 1
    image = head * (0.6 + 0.15 * np.cos(5 * y + number) + 0.1 * np.sin(7 * x))
    labels = np.zeros(shape, np.uint8)
    for side in (-1, 1):
        labels[((x - 0.2 * side) / 0.11) ** 2 + ((y + 0.05) / 0.34) ** 2 + z**2 < 1] = 1
    cx, cy = rng.uniform(-0.45, 0.45), rng.uniform(0.3, 0.6)
    labels[((x - cx) / 0.2) ** 2 + ((y - cy) / 0.15) ** 2 + z**2 < 1] = 2
    image = np.where(labels == 1, 0.15, np.where(labels == 2, 1.0, image))
    image = ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 0.03, shape)
    return ((image - image.mean()) / image.std()).astype(np.float32)[None], labels


@dataclass
class SampleRun:
    """A run that grows one epoch per `step`."""

    path: Path
    spec: Spec
    alive: dict[str, Array] = field(default_factory=dict)
    epoch: int = 0
    last_loss: float = 1.4
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        spec = self.spec
        self.layers = unet_layers(spec)
        pairs = [phantom(spec, n) for n in range(spec.images)]
        self.probe = Probe(
            images=np.stack([image for image, _ in pairs]),
            labels=np.stack([labels for _, labels in pairs]),
            names=tuple(f"rat_{31 + 4 * n:03d}" for n in range(spec.images)),
            spacing=(1.0, 0.12, 0.12)[-spec.dim :],
        )
        for layer in self.layers:
            self.alive.setdefault(layer.name, np.arange(layer.filters))
        self.writer = RunWriter.create(self.path, self._config(), self._info())
        if spec.maps:
            self.writer.write_probe(self.probe)

    def run(self, until: int | None = None) -> SampleRun:
        """Write epochs up to `until`, or all of them."""
        while self.epoch < (self.spec.epochs if until is None else until):
            self.step()
        return self

    def step(self) -> None:
        """Train one epoch, so to speak."""
        self.epoch += 1
        spec, epoch = self.spec, self.epoch
        stored = spec.maps and (epoch % spec.every == 0 or epoch in (1, spec.epochs))
        rows, prunings, lies = [], [], {}
        for index, layer in enumerate(self.layers):
            rng = np.random.default_rng([spec.seed, epoch, index])
            delta = self._delta_prune(layer, index, rng)
            before = self.alive[layer.name]
            row, pruning = self._cut(layer, index, delta, rng)
            if stored:
                self._store(layer, index, delta[np.isin(before, self.alive[layer.name])])
            found, lie = self._lie(layer, index)
            lies[layer.name] = lie
            cells: dict[str, Any] = found.cells() | {"delta_opt": row.delta_opt}
            rows.append(replace(row, **cells))
            prunings += [pruning] if pruning else []
        self.writer.write_distances(epoch, lies)
        if stored:
            self.writer.write_prediction(epoch, self._prediction())
        self.writer.commit_epoch(self._epoch_row(sum(row.removed for row in rows)), rows, prunings)

    def _progress(self, epoch: int | None = None) -> float:
        return 1 - np.exp(-2.5 * (self.epoch if epoch is None else epoch) / self.spec.epochs)

    def _maps(self, layer: LayerInfo, index: int, number: int) -> Array:
        """Maps (C, *spatial) of the filters that are left, for one probe image."""
        spec = self.spec
        image = self.probe.images[number, 0]
        step = 2 ** (layer.level - 1)
        small = image[tuple(slice(None, None, step if n >= step * 2 else 1) for n in image.shape)]
        views = [ndimage.gaussian_filter(small, 1), ndimage.gaussian_gradient_magnitude(small, 0.8), small]
        views += [ndimage.sobel(small, axis=axis) for axis in range(small.ndim)]
        views = [np.maximum(v, -0.2 * v) / (v.std() + 1e-6) for v in views]
        families = np.random.default_rng([spec.seed, 99, index]).integers(0, 6, layer.filters)
        own = np.random.default_rng([spec.seed, 98, index]).normal(0, 1, (layer.filters, len(views)))
        centre = np.random.default_rng([spec.seed, 97, index]).normal(0, 1, (6, len(views)))
        apart = 0.9 * (1 - 0.8 * self._progress())
        weights = centre[families] + apart * own
        maps = np.tensordot(weights[self.alive[layer.name]], np.stack(views), axes=1)
        noise = np.random.default_rng([spec.seed, 96, index, number]).normal(0, 0.12, maps.shape)
        return np.maximum(maps + noise, 0.01 * maps).astype(np.float32)

    def _delta_prune(self, layer: LayerInfo, index: int, rng: np.random.Generator) -> Array:
        count = len(self.alive[layer.name])
        families = np.random.default_rng([self.spec.seed, 99, index]).integers(0, 6, layer.filters)
        reference = int(rng.integers(count))
        same = families[self.alive[layer.name]] == families[self.alive[layer.name][reference]]
        near = 1 - 0.85 * self._progress()
        values = np.where(same, rng.uniform(0.02, 0.35, count) * near, rng.uniform(0.3, 1, count))
        values[reference] = 0.0
        self._reference = reference
        return (values / max(values.max(), 1e-6)).astype(np.float32)

    def _threshold(self, index: int) -> tuple[float, int]:
        rises = max(0, self.epoch - 3 - index % 3) * 24 // self.spec.epochs
        return 0.001 + 0.299 * min(rises, 15) / 15, 5 - (self.epoch + index) % 6

    def _lie(self, layer: LayerInfo, index: int) -> tuple[Clusterability, LayerDistances]:
        """How the maps lie to each other: families that draw together as training goes on."""
        alive = self.alive[layer.name]
        rng = np.random.default_rng([self.spec.seed, 95, index])
        families, centres = rng.integers(0, 6, layer.filters), 0.5 * rng.random((6, 3))
        points = centres[families] + 0.6 * (1 - 0.8 * self._progress()) * rng.random((layer.filters, 3))
        apart = np.linalg.norm(points[alive][:, None] - points[alive][None], axis=-1)
        found = clusterability(np.minimum(apart, 1.0)[None])
        return found, LayerDistances(
            filters=alive.astype(np.int32),
            nearest=np.where(found.nearest >= 0, alive[found.nearest], -1).astype(np.int32),
            nearest_distance=found.nearest_distance.astype(np.float32),
            reference_distance=apart[0].astype(np.float32),
            histogram=found.histogram.astype(np.float32),
        )

    def _store(self, layer: LayerInfo, index: int, delta: Array) -> None:
        maps = np.stack([self._maps(layer, index, n) for n in range(self.spec.images)])
        self.writer.write_maps(
            LayerMaps(
                epoch=self.epoch,
                layer=layer.name,
                maps=maps,
                distances=np.stack([distances(m) for m in maps]),
                filters=self.alive[layer.name],
                delta_prune=delta if self.spec.pruning else np.full_like(delta, np.nan),
                pooling=1,
            )
        )

    def _cut(
        self, layer: LayerInfo, index: int, delta: Array, rng: np.random.Generator
    ) -> tuple[LayerRow, Pruning | None]:
        alive = self.alive[layer.name]
        opt = float(0.05 + 0.3 * (1 - self._progress()) * (1 - 0.012 * index) + rng.normal(0, 0.004))
        if not self.spec.pruning:
            return LayerRow(self.epoch, layer.name, len(alive), opt), None
        threshold, patience = self._threshold(index)
        gone = (delta < threshold) & (np.arange(len(alive)) != self._reference)
        gone &= np.cumsum(gone) <= max(1, len(alive) // 16)
        gone &= np.cumsum(gone) <= max(0, len(alive) - 2)
        left = np.delete(delta, self._reference)
        quantiles = np.quantile(left, (0, 0.25, 0.5, 0.75))
        kept, pruning = alive[~gone], None
        if gone.any():
            near = np.random.default_rng([index, self.epoch]).choice(kept, int(gone.sum()))
            removed = tuple(
                RemovedFilter(int(f), float(d), int(n), float(0.3 * d + 0.01))
                for f, d, n in zip(alive[gone], delta[gone], near, strict=True)
            )
            pruning = Pruning(
                self.epoch, layer.name, threshold, patience, int(alive[self._reference]), len(alive), len(kept), removed
            )
        row = LayerRow(
            self.epoch,
            layer.name,
            len(kept),
            opt,
            delta_prune_min=float(quantiles[0]),
            delta_prune_q25=float(quantiles[1]),
            delta_prune_median=float(quantiles[2]),
            delta_prune_q75=float(quantiles[3]),
            threshold=threshold,
            patience=patience,
            raised=patience == 5,
            reference=int(alive[self._reference]),
            removed=int(gone.sum()),
        )
        self.alive[layer.name] = kept
        return row, pruning

    def _epoch_row(self, removed: int) -> EpochRow:
        rng = np.random.default_rng([self.spec.seed, self.epoch])
        grown = self._progress()
        loss = 1.5 * (1 - grown) + 0.16 + rng.normal(0, 0.012)
        dice = float(np.clip(0.25 + 0.72 * grown + rng.normal(0, 0.008), 0, 1))
        left = sum(len(kept) for kept in self.alive.values())
        cost = 3.0 * removed / left
        share = left / sum(layer.filters for layer in self.layers)
        delta = 0.3 * (1 - grown) + 0.04
        return EpochRow(
            epoch=self.epoch,
            train_loss=loss + 0.5 * delta,
            train_segmentation_loss=loss,
            train_delta_opt=delta,
            val_loss=loss * 1.1 + cost / 2,
            val_dice=dice - cost / 12,
            val_loss_before_cut=loss * 1.1,
            val_dice_before_cut=dice,
            lr=1e-3 * (1 - (self.epoch - 1) / self.spec.epochs) ** 0.9,
            filters=left,
            filters_removed=removed,
            parameters=int(7_367_686 * share**1.9),
            flops=int(2.4e10 * share**1.8),
            seconds=12.5 + float(rng.normal(0, 0.4)),
            seconds_training=9.0,
            memory_mb=1800.0,
            dice={"ventricle": min(1.0, dice + 0.02), "lesion": dice - 0.02},
            hd95={"ventricle": 3.0 - 2 * grown, "lesion": 6.0 - 4 * grown},
        )

    def _prediction(self) -> Array:
        shift = round(4 * (1 - self._progress()))
        return np.roll(self.probe.labels, shift, axis=-1)

    def _config(self) -> Config:
        spec = self.spec
        # No U-Net goes deeper; what is drawn of one that does, as of a network of one's own, does not depend on it.
        levels = min(spec.levels, 8)
        return parse(
            {
                "name": self.path.name,
                "epochs": spec.epochs,
                "data": {"patch": [max(32, 2 ** (levels - 1))] * spec.dim},
                "network": {
                    "dim": spec.dim,
                    "levels": levels,
                    "init_filters": spec.init,
                    "max_filters": spec.max_filters,
                },
                "prune": {"enabled": spec.pruning},
                "probe": {"images": spec.images},
                "maps": {"every": spec.every},
            }
        )

    def _info(self) -> RunInfo:
        return RunInfo(
            status="running",
            created=self.spec.created,
            ended=None,
            message="",
            host=socket.gethostname(),
            pid=self.pid,
            seed=self.spec.seed,
            device="cpu",
            versions={"sauron": "0.1"},
            dataset=self.spec.dataset,
            data_root="/nowhere/data",
            fingerprint="0" * 12,
            channels=("T2",),
            labels=LABELS,
            train_cases=tuple(f"rat_{n:03d}" for n in range(24)),
            validation_cases=self.probe.names,
            probe_images=self.probe.names,
            layers=self.layers,
            parameters=7_367_686,
            flops=24_000_000_000,
            epochs_planned=self.spec.epochs,
        )


def distances(maps: Array) -> Array:
    """RMS distances (C, C) between maps scaled to [0, 1] and pooled with ω = 2."""
    flat = maps.reshape(len(maps), -1)
    low, high = flat.min(1, keepdims=True), flat.max(1, keepdims=True)
    scaled = ((flat - low) / np.maximum(high - low, 1e-8)).reshape(maps.shape)
    for axis in range(1, maps.ndim):
        if scaled.shape[axis] >= OMEGA:
            scaled = scaled.take(range(scaled.shape[axis] // OMEGA * OMEGA), axis=axis)
            shape = (*scaled.shape[:axis], scaled.shape[axis] // OMEGA, OMEGA, *scaled.shape[axis + 1 :])
            scaled = scaled.reshape(shape).mean(axis=axis + 1)
    flat = scaled.reshape(len(maps), -1).astype(np.float64)
    squares = (flat**2).sum(1)
    gram = squares[:, None] + squares[None] - 2 * flat @ flat.T
    return np.sqrt(np.maximum(gram, 0) / flat.shape[1])


def write_run(path: Path, spec: Spec | None = None, status: str = "finished", until: int | None = None) -> Path:
    """Write a whole run; `status` "running" leaves it as if this process were training it."""
    sample = SampleRun(path, spec or Spec()).run(until)
    if status != "running":
        sample.writer.finish(status, "CUDA out of memory" if status == "failed" else "")  # type: ignore[arg-type]
    return path


def write_gallery(root: Path) -> Path:
    """Runs as rich as real ones, for looking at: `python tests/viz/sample.py FOLDER`."""
    write_run(root / "rats-sauron", Spec(side=64, levels=5, init=32, epochs=60, every=5, images=4))
    write_run(root / "rats-running", Spec(side=64, levels=5, init=16, epochs=60, every=5), "running", until=23)
    write_run(root / "kits-3d", Spec(dim=3, side=48, levels=4, init=12, epochs=40, every=10, dataset="KiTS19"))
    write_run(root / "rats-off", Spec(side=64, levels=4, init=16, epochs=30, every=10, pruning=False))
    write_run(root / "wide", Spec(side=64, levels=2, init=8, epochs=24, every=2, images=1, widest=480))
    write_run(root / "no-maps-yet", Spec(epochs=10, maps=False), "running", until=3)
    write_run(root / "failed", Spec(epochs=10), "failed", until=5)
    return root


if __name__ == "__main__":
    import sys

    write_gallery(Path(sys.argv[1]))
