"""Training on several processes: the same as on one, and ended and resumed together.

The processes are real ones, started as a job starts them, on the CPU (gloo).
"""

import json
import signal
import subprocess
import sys

import psutil
import pytest
import torch
from rank_program import train_here
from repository import program_environment

from workflow_scripts.jobs import training as training_job
from wsss.compute.ranks import Ranks
from wsss.errors import InputError

pytestmark = pytest.mark.run

EQUAL = {
    "stage": {"settings": {"gradient_clip": 1.0, "batch_size": 4, "averaged_steps": 0.5}},
    "workers": {"settings": {"batch_size": 4, "label_padding": 0}, "workers": 1},
    "classifier": {"kind": "classifier", "settings": {"batch_size": 4}},
}
DROPOUT = {"dropout": 0.4}
LAUNCH = (
    "import sys; from workflow_scripts.jobs.command import run;"
    "from wsss.compute.ranks import launch;"
    "run(lambda words: launch('rank_program', words, 2), sys.argv[1:])"
)


def started(folder, **runs):
    """Two processes that train, and the one that launched them."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(folder), json.dumps(runs)],
        env=program_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def two_ranks(folder, **runs):
    """Train as two processes; returns the exit status and what they said."""
    with started(folder, **runs) as process:
        said = process.stdout.read()
    return process.returncode, said


def until_it_trains(process):
    """Read until both are under way."""
    for line in process.stdout:
        if line.startswith("steps:"):
            return


def outcome(folder):
    end = torch.load(folder / "end.pt", weights_only=True)
    return end["rows"], end["model"]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """Folder of whole trainings on two ranks, one below the other."""
    folder = tmp_path_factory.mktemp("ranks")
    status, said = two_ranks(folder, **EQUAL, dropout=DROPOUT)
    assert status == 0, said
    return folder


@pytest.fixture
def alone(tiny_backbone):
    threads = torch.get_num_threads()
    yield Ranks()
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_as_one(by_two, tmp_path, alone, name):
    """Batches whose halves have unequal numbers of labelled pixels among them."""
    train_here(tmp_path, EQUAL[name], alone)
    rows, weights = outcome(by_two / name)
    expected_rows, expected = outcome(tmp_path)
    assert len(rows) == 6 and rows[0] != rows[1]
    for row, other in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6, msg=key)


def test_each_process_has_its_own_dropout(by_two, tmp_path, alone):
    train_here(tmp_path, DROPOUT, alone)
    assert outcome(tmp_path)[0][0]["loss"] != pytest.approx(
        outcome(by_two / "dropout")[0][0]["loss"], rel=1e-5
    )


def test_one_that_dies_or_is_told_to_stop_ends_all_and_is_resumed(by_two, tmp_path):
    """Killed at step 6, then stopped in the middle of an epoch: the end is the same to the bit."""
    status, said = two_ranks(tmp_path, run=DROPOUT | {"signals": {"1": {"6": "SIGKILL"}}})
    assert status == 1
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "process 1 of 2 of the training was ended by SIGKILL" in errors[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "run/end.pt").exists()
    status, said = two_ranks(tmp_path, run=DROPOUT | {"signals": {"1": {"1": "SIGUSR1"}}})
    assert status != 0 and "continuing an interrupted run at step 4" in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "after step 6 of 12; its state is saved" in errors[0]
    status, said = two_ranks(tmp_path, run=DROPOUT)
    assert status == 0 and "continuing an interrupted run at step 6" in said
    rows, weights = outcome(tmp_path / "run")
    expected_rows, expected = outcome(by_two / "dropout")
    assert rows == expected_rows
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert not list((tmp_path / "run").glob(".resume-*"))


ENDLESS = {"settings": {"epochs": 100_000}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_launcher_stops_all(tmp_path, number):
    with started(tmp_path, run=ENDLESS) as process:
        until_it_trains(process)
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == 128 + number
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: stopped by {signal.Signals(number).name} after step")
    assert list(tmp_path.glob("run/.resume-key/state.pt"))


def test_none_goes_on_without_the_launcher(tmp_path):
    with started(tmp_path, run=ENDLESS) as process:
        until_it_trains(process)
        ranks = psutil.Process(process.pid).children(recursive=True)
        assert len(ranks) >= 2
        process.kill()
        process.stdout.close()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive


# --- who trains


@pytest.fixture
def job(monkeypatch):
    """Call `launched` on a node with some GPUs; launches are recorded, not made."""

    def call(gpus, device="auto", seen=0, **environment):
        calls = []
        monkeypatch.setattr(training_job, "launch", lambda *given: calls.append(given) or 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        args = type("Arguments", (), {"gpus": gpus, "device": device})
        return training_job.launched("a.module", args, ["--seed", "0"]), calls

    return call


def test_a_process_for_each_gpu(job):
    assert job(3, seen=4) == (0, [("a.module", ["--seed", "0"], 3)])


@pytest.mark.parametrize(
    ("gpus", "device", "seen"), [(0, "auto", 4), (1, "cuda", 4), (2, "cpu", 4), (2, "auto", 0)]
)
def test_one_process_else(job, gpus, device, seen):
    assert job(gpus, device, seen) == (None, [])


def test_a_process_of_torchrun_trains_itself(job):
    assert job(2, seen=2, RANK="1", WORLD_SIZE="2") == (None, [])


def test_fewer_gpus_than_asked_for_are_refused(job):
    with pytest.raises(InputError, match=r"^resources\.train\.gpu: 4, but this job sees 2"):
        job(4, seen=2)


def test_parts_of_a_batch_are_the_batch():
    parts = [Ranks(number, 3).part(list(range(12))) for number in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
