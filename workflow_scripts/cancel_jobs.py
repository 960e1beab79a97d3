"""Cancel the Slurm jobs that a killed Snakemake left behind in a folder, and wait for their end.

Before a restart: Snakemake does not know jobs of an earlier run, and a job that is still at work
would write the same files as its successor.
"""

import argparse
import subprocess
import time
from pathlib import Path

from workflow_scripts.jobs.command import run
from wsss.errors import InputError, last_line

PREFIX = "auxsegnet_"  # slurm-jobname-prefix of the profiles


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=".", help="of the run, if not this one")
    folder = str(Path(parser.parse_args(argv).folder).resolve())
    jobs = jobs_of(folder)
    if jobs:
        slurm("scancel", *jobs)
        while set(jobs) & set(jobs_of(folder)):
            time.sleep(1)
    print(f"{len(jobs)} job(s) of {folder} cancelled")


def jobs_of(folder: str) -> list[str]:
    """Ids of this workflow's jobs in Slurm's queue that were submitted from a folder."""
    lines = slurm("squeue", "--me", "--noheader", "--format=%A|%j|%Z").splitlines()
    rows = [line.split("|", 2) for line in lines]
    return [job for job, name, where in rows if name.startswith(PREFIX) and where == folder]


def slurm(*words: str) -> str:
    """What a command of Slurm prints; InputError where it is not there, or fails."""
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InputError(f"{words[0]} is not there; run this where jobs are submitted") from error
    except subprocess.CalledProcessError as error:
        reason = last_line(error.stderr) or "no reason given"
        raise InputError(f"{words[0]} failed: {reason}; try again when Slurm answers") from error
    return done.stdout


if __name__ == "__main__":
    run(main)
