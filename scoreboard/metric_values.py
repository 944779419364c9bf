"""Keeps the metrics' numbers in each process's memory, and beside it in a file for the other processes.

The memory is what counts. A file beside it, where there is a folder, lets any web process answer for all of its host.
prometheus_client's own files are mapped into memory, and grow by holes: where the file system is full, touching one is
SIGBUS, which ends the process. Here a write that finds no room is an error, and the number stays in memory.

A file is a slot that its process holds a lock on: the kernel gives it back when the process ends, however it ends.
The next process goes on with the counts in it, so there are never more files than there were processes at one moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog
from prometheus_client.core import Metric

log = structlog.get_logger(__name__)

# As many processes of one host as may share a folder: 64 web processes are the most that the settings allow, and as
# many of the release before them.
_SLOTS = 128
# Of one process: some hundred series of 200 bytes are usual. What doesn't fit stays in memory.
_FILE_MAX = 1 << 20
_LENGTH, _VALUE = struct.Struct("<I"), struct.Struct("<d")
# Keys are padded so that a number never lies across two blocks of a disk.
_ALIGN = 8
_GAUGE = "gauge"
# Those of the metrics of this service and of the releases before.
_KINDS = ("counter", _GAUGE, "histogram", "summary")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*").fullmatch
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*").fullmatch


@dataclass(frozen=True, slots=True)
class Series:
    """One number: its metric's kind and name, the sample's name, and its labels in order."""

    kind: str
    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        return json.dumps([self.kind, self.metric, self.name, dict(self.labels)], separators=(",", ":"))

    @classmethod
    def parse(cls, key: str) -> Series | None:
        """None for an invalid key or name: others may have written it."""
        try:
            kind, metric, name, labels = json.loads(key)
            series = cls(str(kind), str(metric), str(name), tuple((str(k), str(v)) for k, v in labels.items()))
            return series if series._can_be_told() else None
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None

    def _can_be_told(self) -> bool:
        """Raises ValueError when a bucket's bound is no number."""
        for label, value in self.labels:
            if not _LABEL_NAME(label) or (label == "le" and math.isnan(float(value))):
                return False
        return self.kind in _KINDS and bool(_NAME(self.metric)) and bool(_NAME(self.name))


Values = dict[Series, float]


class _File:
    """One process's slot in the folder; writing never raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._offsets: dict[Series, int] = {}
        self._end = 0
        self._has_complained = False
        self.name: str | None = None

    def take(self) -> Values:
        """Take the first slot that is free; returns the counts of the process that had it."""
        refused: OSError | None = None
        for number in range(_SLOTS):
            path = self._folder / f"{number}.series"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                # Full, or not ours: a folder, a link, another user's file.
                refused = error
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = dict(_records(_content(descriptor)))
            except OSError as error:
                os.close(descriptor)
                # Another process has it, or it can't be read: a pipe, a bad block.
                refused = refused if isinstance(error, BlockingIOError) else error
                continue
            self._descriptor, self.name = descriptor, path.name
            self._offsets = {series: offset for series, (offset, _) in found.items()}
            self._end = max(self._offsets.values(), default=-_VALUE.size) + _VALUE.size
            return {series: value for series, (_, value) in found.items() if series.kind != _GAUGE}
        if refused:
            self._complain(refused)
        return {}

    def write(self, series: Series, value: float, offset: int | None) -> int | None:
        """Write a number; ``offset`` is the result of its last write, None before the first."""
        if self._descriptor is None:
            return None
        try:
            if offset is None:
                offset = self._offsets.get(series)
            if offset is None:
                return self._append(self._descriptor, series, value)
            os.pwrite(self._descriptor, _VALUE.pack(value), offset)
        except OSError as error:
            self._complain(error)
        return offset

    def _append(self, descriptor: int, series: Series, value: float) -> int | None:
        key = series.key.encode()
        key += b" " * (-(len(key) + _LENGTH.size) % _ALIGN)
        record = _LENGTH.pack(len(key)) + key + _VALUE.pack(value)
        # A part of a record reaches past the end of the file, so readers skip it; the next try writes over it.
        end = self._end + len(record)
        if end > _FILE_MAX or os.pwrite(descriptor, record, self._end) != len(record):
            return None
        self._end = end
        return end - _VALUE.size

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("metrics_not_shared", error=error.strerror, hint="other processes don't know this one's")


class Book:
    """All numbers of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[Series, StoredValue] = {}
        self._help: dict[str, str] = {}
        self._taken_over: Values = {}
        self._file: _File | None = None

    def keep_in(self, folder: Path) -> None:
        """Share the numbers through a file in this folder from now on; to be called after fork."""
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _File(folder)
        with self._lock:
            self._taken_over = file.take()
            for series, value in self._values.items():
                value.number += self._taken_over.pop(series, 0.0)
                value.offset = file.write(series, value.number, None)
            self._file = file

    def begin(self) -> None:
        """Forget the counts from before a fork: the parent has them."""
        with self._lock:
            for value in self._values.values():
                value.number = 0.0

    def explain(self, metric: str, help_text: str) -> None:
        """The help texts of metrics, also of those not counted here yet."""
        self._help[metric] = help_text

    def register(self, value: StoredValue) -> None:
        with self._lock:
            known = self._values.setdefault(value.series, value)
            value.number = known.number + self._taken_over.pop(value.series, 0.0)
            self._values[value.series] = value
            self._save(value)

    def add(self, value: StoredValue, amount: float) -> None:
        with self._lock:
            value.number += amount
            self._save(value)

    def set(self, value: StoredValue, number: float) -> None:
        with self._lock:
            value.number = number
            self._save(value)

    def own(self) -> Values:
        """This process's numbers, and those that it goes on with."""
        with self._lock:
            return {**self._taken_over, **{series: value.number for series, value in self._values.items()}}

    def of_host(self) -> Iterator[Values]:
        """The numbers of this process and of all others that share the folder."""
        yield self.own()
        if self._file is not None:
            yield from read_folder(self._file._folder, but=self._file.name)

    def families(self, parts: Iterable[Mapping[Series, float]]) -> Iterator[Metric]:
        """All parts added up, as Prometheus wants to see them."""
        sums: Values = dict.fromkeys(self.own(), 0.0)
        for part in parts:
            for series, number in part.items():
                sums[series] = sums.get(series, 0.0) + number
        families: dict[str, Metric] = {}
        for series in sums:
            families.setdefault(series.metric, Metric(series.metric, self._help.get(series.metric, ""), series.kind))
        _add_samples(families, sums)
        yield from families.values()

    def _save(self, value: StoredValue) -> None:
        if self._file is not None:
            value.offset = self._file.write(value.series, value.number, value.offset)


#: The metrics of this process.
BOOK = Book()


@dataclass(eq=False, slots=True)
class StoredValue:
    """A number in the book; the interface is that of prometheus_client's values."""

    series: Series
    number: float = 0.0
    #: Where it is in the file, if it is there.
    offset: int | None = None

    @classmethod
    def make(
        cls,
        kind: str,
        metric: str,
        name: str,
        label_names: Iterable[str],
        label_values: Iterable[str],
        *_: object,
        **__: object,
    ) -> StoredValue:
        """The factory that prometheus_client calls."""
        labels = tuple(zip(map(str, label_names), map(str, label_values), strict=True))
        value = cls(Series(kind, metric, name, labels))
        BOOK.register(value)
        return value

    def inc(self, amount: float) -> None:
        BOOK.add(self, amount)

    def set(self, number: float, timestamp: float | None = None) -> None:  # noqa: ARG002  # the library's signature
        BOOK.set(self, float(number))

    def get(self) -> float:
        return self.number

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not kept."""

    def get_exemplar(self) -> None:
        return None


def read_folder(folder: Path, *, but: str | None = None) -> Iterator[Values]:
    """The numbers in a folder, without the gauges of processes that have ended.

    Files that are torn, of another sort or gone are read as far as they make sense.
    """
    for path in sorted(folder.glob("*.series")):
        if path.name == but:
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            found = {series: value for series, (_, value) in _records(_content(descriptor))}
            is_over = _is_unlocked(descriptor)
        except OSError:
            continue
        finally:
            os.close(descriptor)
        yield {series: value for series, value in found.items() if not (is_over and series.kind == _GAUGE)}


def _is_unlocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, _FILE_MAX, 0)


def _records(content: bytes) -> Iterator[tuple[Series, tuple[int, float]]]:
    """Each series with the offset of its number and the number, up to the first invalid record."""
    start = 0
    while start + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        offset = start + _LENGTH.size + length
        if not length or offset + _VALUE.size > len(content):
            return
        series = Series.parse(content[start + _LENGTH.size : offset].decode(errors="replace"))
        (number,) = _VALUE.unpack_from(content, offset)
        if series is None or not math.isfinite(number):
            return
        yield series, (offset, number)
        start = offset + _VALUE.size


def _add_samples(families: Mapping[str, Metric], sums: Mapping[Series, float]) -> None:
    """Histograms keep each bucket by itself; Prometheus wants each with all below it, and the count."""
    buckets: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
    for series, number in sums.items():
        labels = dict(series.labels)
        at_most = labels.pop("le", None) if series.kind == "histogram" else None
        if at_most is None:
            families[series.metric].add_sample(series.name, labels, number)
        else:
            buckets.setdefault((series.metric, tuple(labels.items())), {})[float(at_most)] = number
    for (metric, kept), counts in buckets.items():
        total = 0.0
        for bound in sorted(counts):
            total += counts[bound]
            le = "+Inf" if math.isinf(bound) else str(bound)
            families[metric].add_sample(f"{metric}_bucket", {**dict(kept), "le": le}, total)
        families[metric].add_sample(f"{metric}_count", dict(kept), total)
