"""The profiles for Slurm, and what jobs ask for, without a Slurm."""

import inspect
import os
import re

import pytest
import snakemake_executor_plugin_slurm as slurm_plugin
import yaml
from workspace import ROOT

from workflow_scripts import cancel_jobs
from wsss.errors import InputError

PROFILES = ("slurm", "slurm-preemptible")
GPU_RULES = {"train_classifier", "extract_cams", "train_stage", "refine_cams", "segment"}


def read(profile):
    return (ROOT / profile / "profile.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_entry_has_its_reason(profile):
    entries = [line for line in read(profile).splitlines() if re.match(r" *#?[\w-]+: ", line)]
    assert len(entries) > 15
    unexplained = [line for line in entries if " # " not in line and not line.endswith("*gpu")]
    assert [line.strip() for line in unexplained] == ["train_classifier: &gpu"]


def test_three_lines_are_to_be_edited():
    edited = re.findall(r"^ +#(\w+): .* # EDIT: ", read("slurm"), re.M)
    assert edited == ["slurm_account", "slurm_partition", "gpu_model"]


def test_the_preemptible_profile_differs_in_what_it_says():
    usual, preemptible = (yaml.safe_load(read(profile)) for profile in PROFILES)
    assert preemptible == usual | {"slurm-requeue": True}
    different = [line for line in read("slurm-preemptible").splitlines() if "DIFFERENT:" in line]
    assert [line.strip(" #").split(":")[0] for line in different] == [
        "slurm_partition",
        "slurm-requeue",
    ]


def test_finished_jobs_are_not_waited_for_for_ever():
    """Where squeue forgets jobs sooner than it is asked again, the plugin must ask sacct.

    It does if squeue's memory (MinJobAge) is shorter than three times the entry, and asks at most
    as often as it says itself.
    """
    source = inspect.getsource(slurm_plugin.Executor.check_active_jobs)
    longest_pause = int(re.search(r"max_sleep_time = (\d+)", source)[1])
    assert "dynamic_check_threshold = 3 * initial_interval" in source
    for profile in PROFILES:
        entry = yaml.safe_load(read(profile))["slurm-init-seconds-before-status-checks"]
        assert 3 * entry >= longest_pause


def test_cancel_knows_the_names_of_jobs():
    for profile in PROFILES:
        assert f"{yaml.safe_load(read(profile))['slurm-jobname-prefix']}_" == cancel_jobs.PREFIX


@pytest.mark.parametrize("profile", PROFILES)
def test_what_jobs_ask_for(fresh_workspace, profile):
    """GPUs for networks alone, and all GPUs of a job in one node."""
    status, said = fresh_workspace.snakemake("-n", "--profile", profile)
    assert status == 0, said
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", said, re.M)
    asked = {name: dict(re.findall(r"(\w+)=([^,\n]+)", block)) for name, block in jobs}
    assert {name for name, values in asked.items() if values.get("gpu") == "1"} == GPU_RULES
    assert all("gpu" not in asked[name] for name in asked.keys() - GPU_RULES)
    assert {name for name, values in asked.items() if values.get("nodes") == "1"} == GPU_RULES
    assert asked["train_stage"]["mem_mb"] == "32000" and asked["train_stage"]["runtime"] == "1440"
    assert asked["segment_crf"]["mem_mb"] == "16000" and asked["segment_crf"]["runtime"] == "480"


def test_a_workstation_shares_its_gpus_out(fresh_workspace):
    status, said = fresh_workspace.snakemake("-n", "--resources", "gpu=4")
    assert status == 0 and "gpu=1" in said
    status, said = fresh_workspace.snakemake("-n", overlays=[{"device": "cpu"}])
    assert status == 0 and "gpu=0" in said and "gpu=1" not in said


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
