"""What processes take of the machine: CPU seconds and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

_SETTLE_STEP_S = 0.5
# Opening and closing thousands of streams leaves work behind; after this it is measured as it is.
_SETTLE_WAIT_S = 30.0
_IDLE_SHARE = 0.03


@dataclass(frozen=True)
class Group:
    """Processes with all that they start, also what starts or ends meanwhile; or only the roots, or all but them."""

    roots: Sequence[psutil.Process]
    only_roots: bool = False
    skip_roots: bool = False

    def cpu_s(self) -> float:
        """Of those that live, and of their children that have ended."""
        return sum(_tree_s(root, self) for root in self.roots)


class CpuMeter:
    """CPU seconds of groups of processes from its making to ``read``; ``other`` is the rest of the machine."""

    def __init__(self, groups: Mapping[str, Sequence[psutil.Process] | Group]) -> None:
        self._groups = groups
        self._machine = _machine_s()
        self._before = {name: _group_s(group) for name, group in groups.items()}

    def read(self) -> dict[str, float]:
        used = {name: _group_s(group) - self._before[name] for name, group in self._groups.items()}
        used["other"] = max(0.0, _machine_s() - self._machine - sum(used.values()))
        return {name: round(seconds, 2) for name, seconds in used.items()}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of processes together: ``uss`` is theirs alone, ``rss`` all that is resident."""

    uss: int
    rss: int


def memory_of(processes: Iterable[psutil.Process]) -> Memory:
    infos = [process.memory_full_info() for process in processes]
    return Memory(sum(info.uss for info in infos), sum(info.rss for info in infos))


def descendants(word: str) -> list[psutil.Process]:
    """Processes started below this one whose command line has the word in it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(word in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until_idle(processes: Sequence[psutil.Process]) -> None:
    """Return when these processes have finished what they were at, or after a bound."""
    deadline = time.monotonic() + _SETTLE_WAIT_S
    while time.monotonic() < deadline:
        before = _cpu_s(processes)
        time.sleep(_SETTLE_STEP_S)
        if _cpu_s(processes) - before < _IDLE_SHARE * _SETTLE_STEP_S * max(1, len(processes)):
            return


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _group_s(group: Sequence[psutil.Process] | Group) -> float:
    return group.cpu_s() if isinstance(group, Group) else _cpu_s(group)


def _tree_s(root: psutil.Process, group: Group) -> float:
    total = 0.0
    if not group.skip_roots:
        total += _cpu_s([root])
    if not group.only_roots:
        ended = root.cpu_times()
        total += ended.children_user + ended.children_system
        for process in root.children(recursive=True):
            # One that ends now is among its parent's ended children at the next look.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _machine_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
