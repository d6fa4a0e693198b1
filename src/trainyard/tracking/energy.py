"""Energy: what processors and GPUs themselves count while a training goes on; nothing is estimated.

It is that of the whole machine: whoever else computes on it is counted too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

POWERCAP = Path("/sys/class/powercap")
"""Intel's and AMD's own counters (RAPL), where Linux shows them; mostly root alone may read them."""
OFTEN = 60.0
"""Seconds between two readings: a counter of RAPL begins anew after some minutes of full load."""


@dataclass(frozen=True)
class Counter:
    """One that grows until it begins anew."""

    of: str
    joules: Callable[[], float]
    size: float
    """Joules at which it begins anew."""


class Meter:
    """Joules since it was made."""

    def __init__(self) -> None:
        self._lock, self._used = Lock(), 0.0
        self._counters = [counter for found in (_processors, _gpus) for counter in _readable(found)]
        self._last = [counter.joules() for counter in self._counters]

    @property
    def of(self) -> str:
        """What is counted: `processors`, `GPUs`, `processors and GPUs`; "" where nothing is."""
        return " and ".join(dict.fromkeys(counter.of for counter in self._counters))

    def read(self) -> float:
        """So many by now; to be asked `OFTEN`. Where a counter falls silent nothing is counted."""
        with self._lock:
            try:
                now = [counter.joules() for counter in self._counters]
            except Exception:  # noqa: BLE001  # whatever it is, the training goes on
                self._counters, now = [], []
            grown = zip(self._counters, self._last, now, strict=False)
            self._used += sum((new - old) % counter.size for counter, old, new in grown)
            self._last = now
            return self._used


def _readable(found: Callable[[], Iterator[Counter]]) -> list[Counter]:
    """All counters of a kind, or none where one of them cannot be read."""
    try:
        counters = list(found())
        for counter in counters:
            counter.joules()
    except Exception:  # noqa: BLE001  # no driver, no right, no such file: each has errors of its own
        return []
    return counters


def _processors() -> Iterator[Counter]:
    for zone in POWERCAP.glob("intel-rapl:*"):
        if (zone / "name").read_text().startswith(("package", "dram")):  # cores are parts of packages
            size = _millionth(zone / "max_energy_range_uj")
            yield Counter("processors", partial(_millionth, zone / "energy_uj"), size)


def _millionth(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _gpus() -> Iterator[Counter]:
    import pynvml

    pynvml.nvmlInit()
    for number in range(pynvml.nvmlDeviceGetCount()):
        device = pynvml.nvmlDeviceGetHandleByIndex(number)
        yield Counter("GPUs", partial(_of_gpu, device), 2**64 / 1e3)


def _of_gpu(device: object) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1e3
