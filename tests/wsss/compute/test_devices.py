"""Choosing a device, and runs that can be repeated."""

import logging
import random

import numpy as np
import pytest
import torch

from wsss.compute.devices import autocast, choose_device, make_repeatable
from wsss.errors import InputError


@pytest.fixture
def gpu(monkeypatch):
    def present(answer):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: answer)

    return present


def test_cuda_without_a_gpu_fails_at_once(gpu):
    gpu(False)
    with pytest.raises(InputError, match=r"^device: cuda.*device: auto") as error:
        choose_device("cuda")
    assert "\n" not in str(error.value)


def test_auto_without_a_gpu_warns_in_one_line(gpu, caplog):
    gpu(False)
    with caplog.at_level(logging.INFO):
        assert choose_device("auto") == torch.device("cpu")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "CPU" in record.message and "\n" not in record.message


@pytest.mark.parametrize("available", [False, True])
def test_cpu_is_the_cpu_and_says_nothing(gpu, caplog, available):
    gpu(available)
    assert choose_device("cpu") == torch.device("cpu")
    assert not caplog.records


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_gpu_is_taken_where_there_is_one(gpu, caplog, name):
    gpu(True)
    assert choose_device(name) == torch.device("cuda")
    assert not caplog.records


def test_job_without_a_gpu_of_its_own_does_not_touch_one(gpu):
    gpu(True)
    assert choose_device("auto", gpus=0) == torch.device("cpu")
    with pytest.raises(InputError):
        choose_device("cuda", gpus=0)


def test_numbers_that_slow_a_cpu_down_are_zero():
    tiny = torch.full((4,), 2.0**-100)
    torch.set_flush_denormal(False)
    assert (tiny * 2.0**-30).all()
    make_repeatable(0, torch.device("cpu"), torch.get_num_threads())
    assert not (tiny * 2.0**-30).any()


def test_same_seed_same_numbers():
    threads = torch.get_num_threads()

    def numbers(seed):
        make_repeatable(seed, torch.device("cpu"), 1)
        return random.random(), np.random.rand(), torch.rand(1).item()

    try:
        first, again, other = numbers(1), numbers(1), numbers(2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_precision_of_a_product(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype
    # What PyTorch would let GPUs do by itself; there is none here to see it.
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert not torch.backends.cuda.matmul.allow_tf32
