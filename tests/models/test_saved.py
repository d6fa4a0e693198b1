"""How long an answer takes, by a clock that the test turns."""

import numpy as np
import pytest

from trainyard.models import saved


@pytest.mark.parametrize(("slow", "seconds"), [(2, 0.002), (30, 0.25)], ids=["now and then", "mostly"])
def test_the_latency_is_the_median_of_calls_after_the_first(monkeypatch, caplog, slow, seconds):
    """The first calls take seconds, and `slow` of the others 250 ms: they count where they are most."""
    caplog.set_level("INFO")
    clock, asked = [0.0], []

    def answers(model, about, raw, ask):
        asked.append(raw["x"].tolist())
        number = len(asked) - saved.WARM
        clock[0] += 10 if number <= 0 else 0.25 if number <= slow else 0.002

    monkeypatch.setattr(saved, "answers", answers)
    monkeypatch.setattr(saved.time, "perf_counter", lambda: clock[0])
    found = saved.latency(None, {}, {"x": np.arange(5)})
    assert found == pytest.approx(1000 * seconds)
    assert asked == [[0]] * (saved.WARM + saved.CALLS)
    assert f"median {found:.3g} ms, 95% of 40 within" in caplog.text
