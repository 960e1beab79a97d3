"""More that happens at night, on a real Slurm: each time the results are the same in the end."""

import signal

import pytest
from checkout import HEAD
from cluster import wait_for
from slurm_jobs import TRAINING, rule_of, seconds, state, trainings

TOO_LITTLE = 450  # MB


@pytest.fixture
def workspace(make_workspace, request):
    """A finished run that has lost its last network."""
    return make_workspace(request.function.__name__)


def test_a_cancelled_job_is_tried_again_with_more(cluster, workspace, finished):
    with workspace.start(*HEAD) as head:
        head.job(TRAINING).suspend()
        cluster.run("scancel", trainings(cluster, workspace)[0]["JobId"])
        assert head.wait() == 0, head.said()[-5000:]
    first, second = trainings(cluster, workspace)
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert (first["TimeLimit"], second["TimeLimit"]) == ("01:00:00", "02:00:00")
    assert "mem=3000M" in second["TRES"]
    assert workspace.digests() == finished.digests()


def test_a_job_that_takes_too_much_memory_gets_more(
    cluster, workspace, finished, configuration, tmp_path
):
    """It asks for half of what the whole job, Snakemake included, takes."""
    kinds = configuration["resources"]
    small = kinds["train"] | {"mem_mb": TOO_LITTLE}
    workspace.configure(configuration | {"resources": kinds | {"train": small}})
    workspace.run(*HEAD)
    first, *_, last = trainings(cluster, workspace)
    assert first["JobState"] in ("OUT_OF_MEMORY", "CANCELLED", "FAILED")
    assert last["JobState"] == "COMPLETED"
    assert workspace.digests() == finished.digests()


def test_a_drained_node_lets_its_job_finish_and_no_other_start(cluster, workspace, finished):
    with workspace.start(*HEAD) as head:
        training = head.job(TRAINING)
        training.suspend()
        set_node(cluster, "drain")
        try:
            training.resume()
            head.until(lambda: state(cluster, workspace, 0) == "COMPLETED", "the training to end")
            head.until(lambda: "PENDING" in states(cluster, workspace), "a job that waits")
            assert states(cluster, workspace) <= {"COMPLETED", "PENDING"}
        finally:
            set_node(cluster, "resume")
        assert head.wait() == 0, head.said()[-5000:]
    assert workspace.digests() == finished.digests()


def test_a_dead_node_has_its_job_started_again(cluster, workspace, finished):
    with workspace.start(*HEAD) as head:
        head.job(TRAINING).suspend()
        set_node(cluster, "down")
        head.until(lambda: state(cluster, workspace, 0) != "RUNNING", "the job to be taken away")
        set_node(cluster, "resume")
        assert head.wait() == 0, head.said()[-5000:]
    jobs = trainings(cluster, workspace)
    assert len(jobs) > 1 or jobs[0]["Restarts"] == "1"
    assert jobs[-1]["JobState"] == "COMPLETED"
    assert workspace.digests() == finished.digests()


def test_sigterm_waits_for_what_is_under_way_and_the_same_command_goes_on(
    cluster, workspace, finished
):
    with workspace.start(*HEAD) as head:
        training = head.job(TRAINING)
        training.suspend()
        head.send(signal.SIGTERM)
        head.until(lambda: "Will exit after finishing" in head.said(), "SIGTERM to be noticed")
        training.resume()
        assert head.wait() != 0
    (job,) = trainings(cluster, workspace)
    assert job["JobState"] == "COMPLETED"
    began = {rule_of(job) for job in cluster.jobs(workspace.folder)}
    assert began == {"train_stage", "evaluate_pseudo_labels"}  # nothing that needs the training
    workspace.run(*HEAD)
    assert len(trainings(cluster, workspace)) == 1
    assert workspace.digests() == finished.digests()


def test_ctrl_c_cancels_and_the_same_command_goes_on(cluster, workspace, finished):
    with workspace.start(*HEAD) as head:
        head.job(TRAINING).suspend()
        head.send(signal.SIGINT)
        assert head.wait() != 0
    wait_for(lambda: state(cluster, workspace, 0) == "CANCELLED", "the job to be cancelled")
    workspace.run(*HEAD)
    assert [job["JobState"] for job in trainings(cluster, workspace)] == ["CANCELLED", "COMPLETED"]
    assert workspace.digests() == finished.digests()


def test_a_preempted_job_comes_back_by_itself(cluster, workspace, finished):
    workspace.edit(
        "slurm-preemptible/profile.yaml",
        ("#slurm_partition: overnight", "slurm_partition: overnight"),
    )
    with workspace.start(".venv/bin/snakemake", "--profile", "slurm-preemptible") as head:
        head.job(TRAINING)
        words = ("--partition=standard", "--cpus-per-task=4", "--mem=100", "--output=/dev/null")
        urgent = cluster.run("sbatch", "--parsable", *words, "--wrap=sleep 1")
        head.until(lambda: job_of(cluster, urgent)["JobState"] == "COMPLETED", "the urgent job")
        assert head.wait() == 0, head.said()[-5000:]
    (job,) = trainings(cluster, workspace)
    assert job["Partition"] == "overnight"
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert seconds(job, "StartTime") >= seconds(job_of(cluster, urgent), "EndTime")
    assert workspace.digests() == finished.digests()


def states(cluster, workspace):
    return {job["JobState"] for job in cluster.jobs(workspace.folder)}


def job_of(cluster, number):
    (job,) = [job for job in cluster.jobs() if job["JobId"] == number]
    return job


def set_node(cluster, wanted):
    reason = ["reason=test"] if wanted != "resume" else []
    cluster.run("scontrol", "update", "nodename=node1", f"state={wanted}", *reason)
