"""Real jobs killed at random moments end with the weights of whole ones; `make kills` does more."""

import random
import signal

import pytest
from kills import KilledJob, endure
from tiny_run import TINY_RUN
from workspace import Workspace

EPOCHS = {"train_classifier": "classifier", "train_stage": "stage"}


@pytest.mark.parametrize(
    ("rule", "number"),
    [("train_classifier", signal.SIGTERM), ("train_stage", signal.SIGKILL)],
)
def test_a_killed_training_ends_as_a_whole_one(finished_workspace, tmp_path, rule, number):
    copied = finished_workspace.copy(tmp_path / "workspace")
    section = EPOCHS[rule]
    longer = copied.as_file({section: TINY_RUN[section] | {"epochs": 8}})
    job = KilledJob(Workspace(copied.folder, [*copied.overlays, longer]), rule)
    seen = endure(job, number, 2, random.Random(1), job.whole())
    assert seen.killed == 2 and seen.runs > 0
    assert seen.identical
