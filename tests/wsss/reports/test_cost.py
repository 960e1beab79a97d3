"""What the figure of costs shows; test_footprint.py asks for the figures in it."""

import pandas as pd
import pytest

from wsss.reports.cost import LEAST_RANGE, draw_costs


@pytest.mark.parametrize(("hours", "unit"), [(0, "CPU minutes"), (2, "GPU hours")])
def test_time_is_that_of_what_was_used(hours, unit):
    """A difference of one point does not fill the figure."""
    rows = {"variant": "a", "stage": [0, 1], "runs": 1, "miou": [60, 61], "miou_std": float("nan")}
    table = pd.DataFrame(rows | {"cpu_minutes": [30, 50], "gpu_hours": [hours, 2 * hours]})
    (axes,) = draw_costs(table, "costs").axes
    low, high = axes.get_ylim()
    times = list(axes.lines[0].get_xdata())
    assert axes.get_xlabel().startswith(unit) and high - low >= LEAST_RANGE
    assert times == list(table["gpu_hours" if hours else "cpu_minutes"])
