"""What machines count of energy, planted as files and as NVIDIA's library; and where they count nothing."""

import sys
from types import SimpleNamespace

import pytest

from trainyard.tracking import energy
from trainyard.tracking.energy import Meter


@pytest.fixture(autouse=True)
def powercap(tmp_path, monkeypatch):
    """A machine without counters."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path


def zone(folder, name, joules, size=262_143.328850):
    folder.mkdir(exist_ok=True)
    for file, value in [("name", name), ("energy_uj", int(joules * 1e6)), ("max_energy_range_uj", int(size * 1e6))]:
        (folder / file).write_text(f"{value}\n")


def test_packages_and_memory_are_counted_and_their_parts_are_not(powercap):
    for folder, name in [(":0", "package-0"), (":0:0", "core"), (":0:1", "dram"), (":1", "package-1"), (":2", "psys")]:
        zone(powercap / f"intel-rapl{folder}", name, 100)
    zone(powercap / "intel-rapl-mmio:0", "package-0", 100)
    meter = Meter()
    assert (meter.of, meter.read()) == ("processors", 0)
    for folder, name, joules in [(":0", "package-0", 107), (":0:0", "core", 999), (":0:1", "dram", 102.5)]:
        zone(powercap / f"intel-rapl{folder}", name, joules)
    zone(powercap / "intel-rapl-mmio:0", "package-0", 999)
    assert meter.read() == pytest.approx(9.5)
    zone(powercap / "intel-rapl:1", "package-1", 110)
    assert meter.read() == pytest.approx(19.5)


def test_a_counter_that_begins_anew_goes_on(powercap):
    zone(powercap / "intel-rapl:0", "package-0", 990, size=1000)
    meter = Meter()
    zone(powercap / "intel-rapl:0", "package-0", 5, size=1000)
    assert meter.read() == pytest.approx(15)


def test_gpus_count_by_themselves(monkeypatch):
    used = {0: 1_000, 1: 2_000}  # millijoules
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: used[device],
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meter = Meter()
    used[1] += 7_200
    assert (meter.of, meter.read()) == ("GPUs", pytest.approx(7.2))


def test_where_a_machine_counts_nothing_nothing_is_told(powercap):
    assert (Meter().of, Meter().read()) == ("", 0)
    zone(powercap / "intel-rapl:0", "package-0", 1)
    zone(powercap / "intel-rapl:1", "package-1", 1)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("")  # root alone may read it: half would be no whole
    assert Meter().of == ""


def test_a_counter_that_falls_silent_takes_all_with_it(powercap):
    zone(powercap / "intel-rapl:0", "package-0", 1)
    meter = Meter()
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    meter.read()
    assert meter.of == ""
