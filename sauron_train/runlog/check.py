"""Looks whether a run folder is whole: tables, arrays, weights, and how they fit together. Changes nothing."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sauron_train.errors import SauronError
from sauron_train.runlog import files
from sauron_train.runlog.findings import Finding, Kind, epochs_have
from sauron_train.runlog.ledger import CHECKSUMS, Entry, Sum, latest
from sauron_train.runlog.reader import Run, whole_lines
from sauron_train.runlog.schema import RunInfo
from sauron_train.runlog.tables import Tables

TABLES = (files.EPOCHS, files.LAYERS, files.PRUNINGS)
EPOCH = re.compile(r"(?:epoch|resume)_(\d+)")


@dataclass
class Checked:
    """What was found.

    Attributes:
        files: that were read.
        bytes: of them.
        listed: how many of them have a checksum.
        epochs: the last that is told in full.
        findings: what is not as it should be.
        whole: files with arrays in which nothing is wrong.
        torn: one epoch more is told, but not in full.
    """

    files: int = 0
    bytes: int = 0
    listed: int = 0
    epochs: int = 0
    findings: list[Finding] = field(default_factory=list)
    whole: dict[str, Sum] = field(default_factory=dict)
    torn: bool = False

    @property
    def lost(self) -> list[Finding]:
        """Findings by which something is lost, or may not be true."""
        return [finding for finding in self.findings if not finding.harmless]


def check(run: Run, on_progress: Callable[[int, int, str], None] | None = None) -> Checked:
    """Read everything in a run folder, and compare it with its checksums and with each other.

    Args:
        run: which; it may still be training, then what comes meanwhile is not looked at.
        on_progress: told how many of how many bytes are read, and of which file next.

    Raises:
        RunError: `run.json` cannot be read, so there is no telling what should be there.
    """
    info, found = run.info, Checked()
    found.findings += _leftovers(run)
    if (bad := _said(lambda: run.config)) is not None:
        found.findings.append(Finding("damaged", files.CONFIG, bad))
    tables = Tables.read(run, info)
    found.findings += tables.findings
    found.epochs, found.torn = tables.last, tables.torn
    listed = _listed(run, tables, info.status == "finished", found)
    _compare_tables(run, listed, tables, found)
    _read_files(run, listed, tables, found, on_progress or (lambda done, total, name: None))
    absent = [*_gone(run, listed), *_absent(run, info, tables)]
    found.findings += {finding.file: finding for finding in reversed(absent)}.values()
    if run.status == "running":
        # What the next epoch has begun to write is there for a reason.
        found.findings = [finding for finding in found.findings if finding.kind != "left over"]
        if run.last_epoch > tables.last:
            # What an epoch that ended meanwhile took away: states to go on from, and weights of before.
            found.findings = [each for each in found.findings if not each.file.startswith(f"{files.CHECKPOINTS}/")]
    return found


def _leftovers(run: Run) -> Iterator[Finding]:
    for path in sorted(run.path.rglob(".*")):
        name = path.relative_to(run.path).as_posix()
        if files.is_temporary(path) or (path.is_dir() and path.name.startswith(".revision.")):
            yield Finding("left over", name, "a write that was cut off left it", "it is removed")


def _said(of: Callable[[], object]) -> str | None:
    try:
        of()
    except (SauronError, UnicodeDecodeError) as error:
        return str(error)
    return None


def _listed(run: Run, tables: Tables, finished: bool, found: Checked) -> dict[str, Entry]:
    path = run.path / CHECKSUMS
    if not path.is_file():
        return {}
    lines = whole_lines(path).splitlines()
    if any(Entry.of(line) is None for line in lines):
        found.findings.append(Finding("damaged", CHECKSUMS, "a line is none", "it is made again of what is whole"))
    once = max((entry.epoch for entry in latest(lines).values()), default=0)
    # The list is one epoch ahead where a run was cut off between the two, never by more, and not in one that finished.
    last = tables.last
    if once > last + (tables.torn or not finished) and (run.path / files.EPOCHS).is_file():
        what = (
            f"the run had {once} epochs when they were listed in {CHECKSUMS}; those after epoch {last} are gone from it"
        )
        found.findings.append(Finding("damaged", files.EPOCHS, what))
    return latest(line for line in lines if (entry := Entry.of(line)) is not None and entry.epoch <= last)


def _compare_tables(run: Run, listed: dict[str, Entry], tables: Tables, found: Checked) -> None:
    for name in TABLES:
        entry, path = listed.get(name), run.path / name
        if entry is None or not path.is_file():
            continue
        found.files, found.bytes, found.listed = found.files + 1, found.bytes + entry.sum.length, found.listed + 1
        if Sum.of_file(path, entry.sum.length) != entry.sum:
            what = f"it is not what it was when epoch {entry.epoch} was written"
            if not any(f.file == name and not f.harmless for f in tables.findings):
                what += ", though every line of it can be read"
            found.findings.append(Finding("damaged", name, what))


def _read_files(
    run: Run,
    listed: dict[str, Entry],
    tables: Tables,
    found: Checked,
    on_progress: Callable[[int, int, str], None],
) -> None:
    trusted = not any(finding.file == files.LAYERS and not finding.harmless for finding in found.findings)
    sizes = {path: _size(path) for path in _arrays(run) if (_epoch_of(path) or 0) <= tables.last}
    done, total, unlisted = 0, sum(sizes.values()), 0
    for path, size in sizes.items():
        name = path.relative_to(run.path).as_posix()
        on_progress(done, total, name)
        finding, content = _read_file(path, name, listed.get(name), tables)
        if finding is not None and finding.kind == "contradiction" and finding.repair and not trusted:
            finding = replace(finding, repair="")  # which of the two is wrong cannot be told
        done += size
        found.files, found.bytes = found.files + 1, found.bytes + size
        found.listed += name in listed
        unlisted += name not in listed
        if finding is not None:
            found.findings.append(finding)
        if content is not None:
            found.whole[name] = content
    on_progress(total, total, "")
    # The list is written with the first epoch.
    if unlisted and tables.last:
        which = "a file has" if unlisted == 1 else f"{unlisted} files have"
        what = (
            f"{which} no checksum: an earlier version wrote {'it' if unlisted == 1 else 'them'}, or the list is damaged"
        )
        found.findings.append(Finding("not listed", CHECKSUMS, what, "they are listed, if they can be read"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _arrays(run: Run) -> Iterator[Path]:
    for folder in (files.CHECKPOINTS, files.DISTANCES, files.MAPS):
        for path in sorted((run.path / folder).rglob("*")):
            if path.suffix in (".safetensors", ".pt") and path.is_file() and not path.name.startswith("."):
                yield path


def _epoch_of(path: Path) -> int | None:
    match = EPOCH.match(path.stem) or EPOCH.match(path.parent.name)
    return int(match[1]) if match else None


def _read_file(path: Path, name: str, entry: Entry | None, tables: Tables) -> tuple[Finding | None, Sum | None]:
    aside = "it is moved to the folder damaged, so that nothing reads it"
    if path.suffix == ".pt":
        aside = "it is moved to the folder damaged; without a copy of it the run can be looked at but not gone on with"
    try:
        content = Sum.of_file(path)
        unreadable = _unreadable(path, tables)
    except FileNotFoundError:
        return None, None  # training has taken it away meanwhile; otherwise it is told of as missing
    except OSError as error:
        return Finding("damaged", name, f"it cannot be read: {error.strerror}", aside), None
    if entry is not None and content != entry.sum:
        what = f"it is not what was written at epoch {entry.epoch}"
        if content.length != entry.sum.length:
            what = f"it has {content.length} bytes instead of {entry.sum.length}"
        return Finding("damaged", name, what, aside), None
    if unreadable is None:
        return None, content
    kind, what = unreadable
    if entry is not None and kind == "contradiction":
        return Finding(kind, files.LAYERS, f"{name} is as it was written and says otherwise: {what}"), content
    return Finding(kind, name, what, aside), None


def _unreadable(path: Path, tables: Tables) -> tuple[Kind, str] | None:
    if path.suffix == ".pt":
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except (zipfile.BadZipFile, NotImplementedError):
            return "damaged", "it is not whole"
        return ("damaged", f"{bad} in it is not whole") if bad else None
    try:
        with safe_open(path, framework="np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        return _unfitting(path, {key: json.loads(text) for key, text in metadata.items()}, shapes, tables)
    except (SafetensorError, ValueError) as error:
        return "damaged", f"it cannot be read: {error}"


def _unfitting(
    path: Path, metadata: dict[str, Any], shapes: dict[str, list[int]], tables: Tables
) -> tuple[Kind, str] | None:
    """What a file of arrays says otherwise than `layers.csv`."""
    epoch = _epoch_of(path)
    expected = tables.filters.get(epoch or 0, {})
    if path.parent.name == files.CHECKPOINTS:
        has = {layer: len(numbers) for layer, numbers in dict(metadata.get("filters", {})).items()}
    elif path.parent.name == files.DISTANCES:
        has = {key.rpartition("/")[0]: shape[0] for key, shape in shapes.items() if key.endswith("/filters")}
    elif "maps" in shapes:
        has = {path.stem: shapes["maps"][1]}
    else:
        return None
    wrong = [layer for layer, count in has.items() if expected.get(layer, count) != count]
    if not wrong:
        return None
    layer = wrong[0]
    return "contradiction", f"it has {has[layer]} filters of {layer}, but {files.LAYERS} has {expected[layer]}"


def _at(folder: Path, last: int) -> list[int]:
    """Finished epochs of which a folder holds something."""
    found = (EPOCH.fullmatch(path.stem) for path in folder.glob("epoch_*"))
    return sorted(epoch for match in found if match and (epoch := int(match[1])) <= last)


def _gone(run: Run, listed: dict[str, Entry]) -> Iterator[Finding]:
    """Files that were there once; weights and states are taken away by training itself."""
    for name, entry in listed.items():
        if (run.path / files.DAMAGED / name).is_file() and not (run.path / name).is_file():
            yield Finding("missing", name, f"it was damaged, and lies in {files.DAMAGED}")
        elif name.startswith((f"{files.MAPS}/", f"{files.DISTANCES}/")) and not (run.path / name).is_file():
            yield Finding(
                "missing", name, f"it was written at epoch {entry.epoch}" if entry.epoch else "it was written"
            )


def _absent(run: Run, info: RunInfo, tables: Tables) -> Iterator[Finding]:
    """Files that a run of so many epochs has."""
    if not tables.last:
        return
    if not (run.path / files.checkpoint_file(tables.last)).is_file():
        yield Finding("missing", files.checkpoint_file(tables.last), "the weights of the last epoch")
    if not (run.path / files.MAPS / files.PROBE).is_file():
        yield Finding("missing", f"{files.MAPS}/{files.PROBE}", "the probe images, without which no map can be shown")
    state = files.resume_file(tables.last)
    if info.status != "finished" and not (run.path / state).is_file():
        yield Finding("missing", state, "what training goes on from; this run can be looked at, but not gone on with")
    measured = _at(run.path / files.DISTANCES, tables.last)
    gone = sorted(set(range(min(measured, default=1), tables.last + 1)) - set(measured))
    # A run that was measured again on other images has distances where its weights are.
    if measured and gone and info.analysed is None:
        yield Finding("missing", files.distances_file(gone[0]), f"{epochs_have(gone)} no distances of maps")
    layers = {epoch: run.map_layers(epoch) for epoch in _at(run.path / files.MAPS, tables.last)}
    most: list[str] = max(layers.values(), key=len, default=[])
    for epoch, has in layers.items():
        lacking = [layer for layer in most if layer not in has]
        if lacking:
            yield Finding("missing", files.maps_file(epoch, lacking[0]), f"maps of {len(lacking)} layers at this epoch")
        if not (run.maps_folder(epoch) / files.PREDICTION).is_file():
            name = f"{files.epoch_folder(epoch)}/{files.PREDICTION}"
            yield Finding("missing", name, "what the network predicted for the probe images")
