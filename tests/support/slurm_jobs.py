"""What tests ask Slurm about the jobs of a workflow."""

import re
from datetime import datetime

TRAINING = "workflow_scripts.train_stage"


def rule_of(job):
    return re.match(r"rule_(\w+?)(?:_wildcards_|$)", job["Comment"])[1]


def seconds(job, event):
    return datetime.fromisoformat(job[event]).timestamp()


def trainings(cluster, workspace):
    """The training jobs of a workspace, first submitted first."""
    jobs = [job for job in cluster.jobs(workspace.folder) if rule_of(job) == "train_stage"]
    return sorted(jobs, key=lambda job: int(job["JobId"]))


def state(cluster, workspace, number):
    """State of a training job, once there are so many."""
    jobs = trainings(cluster, workspace)
    return jobs[number]["JobState"] if number < len(jobs) else None
