"""The state of an interrupted run: what is kept, what is refused, and signals."""

import errno
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from repository import ROOT
from tiny_network import classifying_network, tiny_network
from tiny_training import (
    CLASSIFIER,
    assert_same_weights,
    changed,
    counting,
    failing,
    interrupt,
    run,
)
from tiny_training import InterruptedRunError as Interrupted

from model.losses import stage_losses
from wsss.compute.devices import random_state, set_random_state
from wsss.compute.signals import STOPPING, StopRequest
from wsss.errors import InputError, StoppedError
from wsss.training import loop as training
from wsss.training.loop import Hardware
from wsss.training.resume import ResumeStates

pytestmark = pytest.mark.run

STATE = ".resume-key/state.pt"
BEFORE = ".resume-key/previous.pt"


@pytest.fixture(autouse=True)
def setting(tiny_backbone):
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def states(tmp_path):
    return ResumeStates(tmp_path / "model.pt", "key")


# --- what is kept


def test_the_two_newest_are_kept_and_the_newest_is_loaded(states):
    assert states.load() is None
    for step in (1, 2, 3):
        states.save({"step": step})
    assert sorted(path.name for path in states.folder.iterdir()) == ["previous.pt", "state.pt"]
    assert states.load()["step"] == 3
    (states.folder / "state.pt").unlink()
    assert states.load()["step"] == 2


def test_a_save_that_fails_leaves_the_states_before(states, monkeypatch):
    states.save({"step": 1})
    states.save({"step": 2})

    def full(value, file):
        file.write(b"half a state")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(InputError, match="the disk is full"):
            states.save({"step": 3})
    assert sorted(path.name for path in states.folder.iterdir()) == ["previous.pt", "state.pt"]
    assert states.load()["step"] == 2


def test_success_removes_the_states_of_other_configurations_too(states, tmp_path):
    states.save({"step": 1})
    ResumeStates(tmp_path / "model.pt", "other").save({"step": 1})
    (tmp_path / "log.csv").write_text("kept")
    states.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    states.remove()  # nothing left to do is no error


def test_every_source_of_random_numbers_is_put_back(tmp_path):
    def numbers():
        return random.random(), np.random.normal(), torch.rand(1).item()

    np.random.normal()  # leaves a second number behind, which is part of the state
    torch.save(random_state(torch.device("cpu")), tmp_path / "random.pt")
    expected = numbers()
    numbers()
    state = torch.load(tmp_path / "random.pt", weights_only=True)
    set_random_state(state, torch.device("cpu"))
    assert numbers() == expected


# --- what is refused


def test_a_flipped_bit_is_noticed_wherever_it_is(states, caplog):
    """Or it changes nothing: there are bytes in a ZIP file that nobody reads."""
    content = {"step": 7, "model": {"w": torch.arange(50.0)}}
    states.save(content)
    path = states.folder / "state.pt"
    good, refused = path.read_bytes(), 0
    rng = random.Random(0)
    places = rng.sample(range(len(good)), 300)
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        state = states.load()
        if state is None:
            refused += 1
            assert not path.exists()
        else:
            assert state["step"] == 7 and torch.equal(state["model"]["w"], torch.arange(50.0))
    assert refused > 100
    assert all("\n" not in record.message for record in caplog.records)
    start = good.index(torch.arange(50.0).numpy().tobytes())
    path.write_bytes(good[: start + 30] + b"\xff" + good[start + 31 :])
    assert states.load() is None
    assert "state.pt: no readable resume state (" in caplog.records[-1].message
    assert "data/0' is damaged" in caplog.records[-1].message


class FailingFile(io.FileIO):
    """Reads `left` times, and then raises `error`."""

    left, error = 0, None

    def readinto(self, buffer):
        self._count()
        return super().readinto(buffer)

    def read(self, size=-1):
        self._count()
        return super().read(size)

    def _count(self):
        type(self).left -= 1
        if self.left < 0:
            raise self.error


FAILURES = [
    *(OSError(n, os.strerror(n)) for n in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES)),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12000 bytes."),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("where", ["zipfile.ZipFile", "torch.load"])
def test_a_state_that_cannot_be_read_now_is_kept(states, monkeypatch, caplog, failure, where):
    states.save({"step": 1})
    states.save({"step": 2})

    def fail(*_, **__):
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(InputError, match=r"state\.pt: the resume .* is kept: .*run") as error:
            states.load()
    assert "\n" not in str(error.value) and not caplog.records
    assert states.load()["step"] == 2
    (states.folder / "state.pt").unlink()
    assert states.load()["step"] == 1


def test_a_disk_that_fails_at_any_read_costs_no_state(states, monkeypatch):
    """In the structure of the archive, too, where zipfile takes it for damage."""
    states.save({"step": 1, "model": {"w": torch.arange(50.0)}})
    archive, load = zipfile.ZipFile, torch.load
    monkeypatch.setattr(FailingFile, "error", OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: archive(FailingFile(path)))
    monkeypatch.setattr(torch, "load", lambda path, **given: load(FailingFile(path), **given))
    for reads in range(1000):
        monkeypatch.setattr(FailingFile, "left", reads)
        try:
            state = states.load()
            break
        except InputError as error:
            assert "cannot be read now (Input/output error)" in str(error)
    assert reads > 20 and state["step"] == 1


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from wsss.errors import InputError
from wsss.training.resume import ResumeStates

size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 10_000_000, resource.RLIM_INFINITY))
try:
    ResumeStates(sys.argv[1], "key").load()
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")
def test_too_little_memory_for_a_state_costs_none(states, tmp_path):
    """Told by PyTorch itself, in a process that has freed no memory before."""
    states.save({"step": 1, "model": {"w": torch.zeros(10_000_000)}})
    command = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "cannot be read now" in done.stdout
    assert states.load()["step"] == 1


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_pickle(path, bomb):
    path.write_bytes(pickle.dumps({"key": "key", "step": bomb}, 2))


def as_archive(path, bomb):
    torch.save({"key": "key", "step": bomb}, path)


def as_archive_made_by_hand(path, bomb):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/data.pkl", pickle.dumps({"key": "key", "step": bomb}, 2))
        archive.writestr("state/version", "3\n")


@pytest.mark.parametrize("write", [as_pickle, as_archive, as_archive_made_by_hand])
def test_a_malicious_state_does_nothing(states, tmp_path, caplog, write):
    states.save({"step": 1})
    states.save({"step": 2})
    write(states.folder / "state.pt", Bomb(tmp_path / "executed"))
    assert states.load()["step"] == 1
    assert not (tmp_path / "executed").exists()
    (record,) = caplog.records
    assert "state.pt: no readable resume state" in record.message and "\n" not in record.message


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def empty(path):
    path.write_bytes(b"")


def of_another_run(path):
    state = torch.load(path, weights_only=True)
    torch.save(state | {"key": "other"}, path)


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "whole").mkdir()
    return run(tmp_path / "whole")


@pytest.mark.parametrize("damage", [cut, empty, of_another_run])
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_state_costs_an_epoch_or_the_run_but_no_result(
    tmp_path, whole, caplog, damage, both
):
    """Interrupted at step 10 of 12, after the states of steps 4 and 8."""
    with pytest.raises(Interrupted):
        run(tmp_path, losses=failing(10, interrupt))
    damage(tmp_path / STATE)
    if both:
        damage(tmp_path / BEFORE)
    caplog.clear()
    counted = []
    network, rows, _ = run(tmp_path, losses=counting(counted))
    assert len(counted) == (12 if both else 8)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])
    warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warned) == 1 + both and all("it is not used" in line for line in warned)


# --- signals


def signalled(number, after):
    return failing(after, lambda: os.kill(os.getpid(), number))


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("after", [0, 5, 10])
def test_a_signal_stops_a_run_at_the_next_step(tmp_path, whole, number, after):
    """In the middle of an epoch, nothing is lost: steps are made once."""
    handlers = {n: signal.getsignal(n) for n in STOPPING}
    with pytest.raises(StoppedError) as stopped:
        run(tmp_path, losses=signalled(number, after))
    assert stopped.value.status == 128 + number
    expected = f"stopped by {signal.Signals(number).name} after step {after + 1} of 12; its state"
    assert str(stopped.value).startswith(expected) and "\n" not in str(stopped.value)
    assert {n: signal.getsignal(n) for n in STOPPING} == handlers
    counted = []
    torch.manual_seed(99)
    random.seed(99)
    network, rows, _ = run(tmp_path, losses=counting(counted))
    assert len(counted) == 12 - after - 1
    assert rows == whole[1]
    assert_same_weights(network, whole[0])


def test_long_epochs_are_saved_in_between(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", -1)  # so every step is due
    with pytest.raises(Interrupted):
        run(tmp_path, losses=failing(6, interrupt))
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 6
    network, rows, _ = run(tmp_path)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])


def test_losses_since_the_last_row_are_part_of_the_state(tmp_path):
    """Rows every second step, stopped between two."""
    options = {"settings": changed(CLASSIFIER, batch_size=1, epochs=1), "images": 21}
    (tmp_path / "whole").mkdir()
    _, expected, _ = run(tmp_path / "whole", network=classifying_network(), **options)
    with pytest.raises(StoppedError):
        interrupted = options | {"losses": signalled(signal.SIGTERM, 6)}
        run(tmp_path, network=classifying_network(), **interrupted)
    _, rows, _ = run(tmp_path, network=classifying_network(), **options)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21]
    assert rows == expected


def test_a_signal_to_the_whole_group_leaves_the_loader_alone(tmp_path, whole):
    """Slurm signals every process of a job, those that read images too."""

    def signal_all():
        import psutil

        for process in psutil.Process().children(recursive=True):
            process.send_signal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    hardware = Hardware(torch.device("cpu"), workers=2)
    with pytest.raises(StoppedError):
        run(tmp_path, losses=failing(2, signal_all), hardware=hardware)
    network, rows, _ = run(tmp_path, hardware=hardware)
    assert rows == whole[1]
    assert_same_weights(network, whole[0])


def test_the_first_signal_is_named_and_a_second_ctrl_c_interrupts():
    with StopRequest() as request:
        assert request.signal is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# --- what is not finite


def test_the_step_of_a_loss_that_is_not_finite_is_named(tmp_path):
    """Rows are written every second step; the loss goes wrong at the first of two."""
    steps = iter(range(1, 1000))

    def losses(*arguments):
        bad = float("nan") if next(steps) == 13 else 1.0
        return {name: value * bad for name, value in stage_losses(*arguments).items()}

    with pytest.raises(InputError, match=r"^the loss is not finite at step 13; lower the"):
        run(
            tmp_path,
            losses=losses,
            network=classifying_network(),
            settings=changed(CLASSIFIER, batch_size=1, epochs=1),
            images=21,
        )


@pytest.mark.parametrize("what", ["loss", "weight"])
@pytest.mark.parametrize("how", ["epoch", "signal"])
def test_the_last_good_state_is_kept(tmp_path, what, how):
    """Neither the end of an epoch nor a signal saves what is not finite."""
    network, steps = tiny_network(), iter(range(1, 1000))

    def losses(*arguments):
        found, step = stage_losses(*arguments), next(steps)
        if step == (8 if how == "epoch" else 6):
            if what == "loss":
                found["classification"] = found["classification"] * float("inf")
            else:
                network.fc8.weight.register_hook(lambda gradient: gradient * float("nan"))
            if how == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
        return found

    where = "loss is not finite at step" if what == "loss" else "weight is not finite after step"
    with pytest.raises(InputError, match=rf"^(the|a) {where} {8 if how == 'epoch' else 6}; lower"):
        run(tmp_path, losses=losses, network=network)
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 4
