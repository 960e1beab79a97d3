"""The workflow on a real Slurm: the literal command, and the two worst nights."""

import re
from itertools import pairwise

import pytest
from checkout import HEAD
from cluster import GPUS, MODEL
from repository import ROOT
from slurm_jobs import TRAINING, rule_of, seconds, state, trainings

from workflow_scripts import cancel_jobs

GPU_RULES = {"train_classifier", "extract_cams", "train_stage", "refine_cams", "segment"}
CPU_RULES = {
    "index_dataset",
    "predict_saliency",
    "make_pseudo_labels",
    "evaluate_pseudo_labels",
    "segment_crf",
    "evaluate_segmentation",
    "draw_curves",
    "draw_strip",
    "make_gallery",
}


@pytest.fixture(scope="module")
def jobs(cluster, finished):
    """All jobs of the finished run, as Slurm knows them."""
    return cluster.jobs(finished.folder)


def test_the_literal_command_ends_well(finished, jobs):
    assert (finished.folder / "results/demo/auxsegnet/summary.csv").is_file()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert "Nothing to be done" in finished.run(*HEAD)


def test_all_but_the_smallest_are_jobs(jobs):
    assert {rule_of(job) for job in jobs} == GPU_RULES | CPU_RULES
    assert all(job["JobName"].startswith(cancel_jobs.PREFIX) for job in jobs)


def test_what_jobs_ask_for(cluster, jobs):
    devices = cluster.devices()
    for job in jobs:
        on_gpu = rule_of(job) in GPU_RULES
        assert job["TRES"].startswith("cpu=1,mem=1500M,node=1"), job
        assert job["TimeLimit"] == "01:00:00"
        assert job.get("TresPerJob") == ("gres:gpu:1" if on_gpu else None)
        given = [str(number) for number in range(GPUS)] if on_gpu else ["none"]
        assert devices[job["JobId"]] in given


def test_no_gpu_has_two_jobs_at_a_time(cluster, jobs):
    """From what the node wrote down; there were times with more such jobs than GPUs."""
    devices = cluster.devices()
    asking = [job for job in jobs if rule_of(job) in GPU_RULES]
    for number in range(GPUS):
        mine = [job for job in asking if devices[job["JobId"]] == str(number)]
        mine.sort(key=lambda job: (seconds(job, "StartTime"), seconds(job, "EndTime")))
        assert len(mine) > 1
        for first, second in pairwise(mine):
            assert seconds(first, "EndTime") <= seconds(second, "StartTime")

    def at_once(begin):
        return max(
            sum(seconds(j, begin) <= seconds(job, begin) < seconds(j, "EndTime") for j in asking)
            for job in asking
        )

    assert at_once("SubmitTime") > GPUS >= at_once("StartTime")


def test_results_are_those_of_a_run_without_slurm(finished, local):
    checkout, running = local
    assert running.wait() == 0, running.said()[-5000:]
    digests = checkout.digests()
    assert len(digests) > 40
    assert finished.digests() == digests


# --- a night with a job that hangs, and a login node that crashes


@pytest.fixture(scope="module")
def night(cluster, make_workspace, configuration):
    """A training job hangs to the end of its time, the next try meets the crash; then a restart.

    The profile is edited as docs/cluster.md says, with a GPU model and a partition.
    """
    workspace = make_workspace("night")
    workspace.edit(
        "slurm/profile.yaml",
        ("#slurm_partition: standard", "slurm_partition: standard"),
        ("#gpu_model: a100", f"gpu_model: {MODEL}"),
    )
    kinds = configuration["resources"]
    kinds = kinds | {"train": kinds["train"] | {"runtime": 1}}
    workspace.configure(configuration | {"resources": kinds})
    with workspace.start(*HEAD) as head:
        head.job(TRAINING).suspend()
        head.until(lambda: state(cluster, workspace, 0) == "TIMEOUT", "the time to be over")
        head.job(TRAINING).suspend()
        head.kill()
    assert state(cluster, workspace, 1) == "RUNNING"
    for line in restart_of_the_documentation():
        workspace.run("bash", "-c", line)
    return workspace


def restart_of_the_documentation():
    """The commands that docs/cluster.md gives for after a crash."""
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    (block,) = [block for block in blocks if "--unlock" in block]
    return block.splitlines()


def test_a_job_over_its_time_limit_gets_more_of_all(cluster, night):
    first, second, *_ = trainings(cluster, night)
    assert (first["JobState"], first["TimeLimit"]) == ("TIMEOUT", "00:01:00")
    assert second["TimeLimit"] == "00:02:00"
    assert "mem=1500M" in first["TRES"] and "mem=3000M" in second["TRES"]


def test_after_a_crash_no_two_jobs_are_at_work(cluster, night):
    _, orphan, *later = trainings(cluster, night)
    assert orphan["JobState"] == "CANCELLED"
    assert later[-1]["JobState"] == "COMPLETED"
    assert all(seconds(job, "StartTime") >= seconds(orphan, "EndTime") for job in later)


def test_the_lines_to_edit_reach_slurm(cluster, night):
    jobs = [job for job in cluster.jobs(night.folder) if rule_of(job) in GPU_RULES]
    assert {job["TresPerJob"] for job in jobs} == {f"gres:gpu:{MODEL}:1"}


def test_the_night_ends_with_the_same_results(night, finished):
    assert night.digests() == finished.digests()


# --- what a training has learnt when it is stopped


@pytest.fixture(scope="module")
def stopped(cluster, finished, configuration, tmp_path_factory):
    """A training long enough to be stopped in the middle, cancelled after a while; then the end."""
    workspace = finished.copy(tmp_path_factory.mktemp("stopped") / "clone")
    stage = configuration["stage"] | {"epochs": 400}
    workspace.configure(configuration | {"stage": stage})
    with workspace.start(*HEAD, "--", "results/demo/auxsegnet/seed0/stage0/train/model.pt") as head:
        training = head.job(TRAINING)
        head.until(lambda: training.cpu_times().user > 10, "the training to be under way")
        cluster.run("scancel", trainings(cluster, workspace)[0]["JobId"])
        assert head.wait() == 0, head.said()[-5000:]
    return workspace


def test_a_stopped_training_saves_its_state_and_the_next_try_continues(cluster, stopped):
    first, second = trainings(cluster, stopped)
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    (log,) = stopped.folder.glob(f"results/logs/slurm/**/{first['JobId']}.log")
    saved = re.search(r"stopped by SIGTERM after step (\d+) of 800; its state is saved", read(log))
    log = stopped.folder / "results/logs/demo/auxsegnet/seed0/stage0/train.log"
    continued = re.search(r"continuing an interrupted run at step (\d+)", read(log))
    assert saved[1] == continued[1] and 0 < int(saved[1]) < 800


def read(path):
    return path.read_text(encoding="utf-8")
