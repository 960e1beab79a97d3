"""The profiles for Slurm, and what jobs ask for, without a Slurm."""

import re
from collections import Counter

import pytest
import yaml
from expected_jobs import CLASSIFIER, END, stage_jobs
from repository import ROOT

from workflow_scripts import cancel_jobs

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


def test_cancel_knows_the_names_of_jobs():
    for profile in PROFILES:
        assert f"{yaml.safe_load(read(profile))['slurm-jobname-prefix']}_" == cancel_jobs.PREFIX


@pytest.mark.parametrize("profile", PROFILES)
def test_what_jobs_ask_for(fresh_workspace, profile):
    """GPUs for networks alone, and all GPUs of a job in one node."""
    status, said = fresh_workspace.snakemake("-n", "--profile", profile)
    assert status == 0, said
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", said, re.M)
    counts = Counter(name for name, _ in jobs)
    assert counts == {**CLASSIFIER, **stage_jobs(3, scored=3), **END}
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
