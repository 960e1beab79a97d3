"""`make cancel` against a queue that two scripts stand for."""

import os

import pytest

from workflow_scripts import cancel_jobs
from wsss.errors import InputError


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A queue of three jobs, of which `scancel` takes what it is told."""
    folder = tmp_path / "my photographs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    jobs = tmp_path / "jobs"
    jobs.write_text(f"7|auxsegnet_a1|{folder}\n8|auxsegnet_b2|{tmp_path}\n9|mine|{folder}\n")
    program(tmp_path / "squeue", f"cat {jobs}")
    program(tmp_path / "scancel", f'for job; do sed -i "/^$job|/d" {jobs}; done')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return jobs


def program(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_cancel_takes_the_jobs_of_this_folder_alone(queue, capsys):
    cancel_jobs.main([])
    assert [line[0] for line in queue.read_text().splitlines()] == ["8", "9"]
    cancel_jobs.main([])
    assert capsys.readouterr().out.splitlines() == [
        f"1 job(s) of {os.getcwd()} cancelled",
        f"0 job(s) of {os.getcwd()} cancelled",
    ]


def test_cancel_does_not_take_silence_for_the_end_of_jobs(queue, tmp_path):
    """The controller fails once it has been told: nobody knows whether the jobs are gone."""
    program(tmp_path / "scancel", f"rm {queue}")
    with pytest.raises(InputError, match=r"squeue failed: .*; try again when Slurm answers"):
        cancel_jobs.main([])


def test_cancel_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="squeue is not there; run this where jobs"):
        cancel_jobs.main([])
