"""Jobs on a workstation get GPUs of their own."""

import os
import subprocess
import sys

import pytest
from repository import ROOT

CLAIM = """
import os, sys
from wsss.compute.gpus import claim_gpus
claim_gpus(int(sys.argv[1]), devices=sys.argv[2])
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


class Jobs:
    """Processes that claim GPUs and keep them until they are ended."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def start(self, count, **environment):
        clean = {key: value for key, value in os.environ.items() if "CUDA" not in key}
        job = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(count), str(self.folder)],
            cwd=ROOT,
            env=clean | {"TMPDIR": str(self.folder)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(job)
        return job

    def gpus(self, *arguments, **environment):
        return self.start(*arguments, **environment).stdout.readline().strip()


@pytest.fixture
def jobs(tmp_path):
    """A machine with three GPUs, and files beside them that are none."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    made = Jobs(tmp_path)
    yield made
    for job in made.running:
        job.kill()
        job.wait()


def test_each_job_has_its_own(jobs):
    assert [jobs.gpus(1), jobs.gpus(2)] == ["0", "1,2"]


def test_a_killed_job_gives_its_gpu_back_to_one_that_waits(jobs):
    assert [jobs.gpus(2), jobs.gpus(1)] == ["0,1", "2"]
    waiting = jobs.start(1)
    jobs.running[1].kill()
    assert waiting.stdout.readline().strip() == "2"


@pytest.mark.parametrize("visible", ["0,2", "GPU-8f/2a,MIG-../1"])
def test_more_that_are_visible_than_a_job_wants_are_shared_out(jobs, visible):
    """As in an allocation of several GPUs, or for a user who leaves some to others."""
    assert [jobs.gpus(1, CUDA_VISIBLE_DEVICES=visible) for _ in range(2)] == visible.split(",")


@pytest.mark.parametrize("count", [0, 3, 4])
def test_who_wants_none_or_all_is_told_nothing(jobs, count):
    assert jobs.gpus(count) == "None"


def test_what_a_scheduler_says_stays(jobs):
    assert jobs.gpus(1, CUDA_VISIBLE_DEVICES="2") == "2"
    assert jobs.gpus(2, CUDA_VISIBLE_DEVICES="1,2") == "1,2"
    assert jobs.gpus(1, LOCAL_RANK="0") == "None"
