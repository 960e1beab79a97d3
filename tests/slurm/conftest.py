"""One cluster, and one finished run on it, for all tests of this folder."""

import os
import shutil

import pytest
from checkout import HEAD, Checkout
from cluster import Cluster

SHARDS = 3  # more jobs at a time than there are GPUs
KINDS = ("train", "infer", "crf", "index", "small")


@pytest.fixture(scope="session")
def cluster():
    """A running Slurm; afterwards nothing of it is left."""
    with Cluster() as made:
        yield made
        made.cancel_everything()
    assert made.processes() == [] and not made.folder.exists()


@pytest.fixture(scope="session")
def configuration(tiny_run):
    """Two stages in three shards; `auto`, so that jobs ask for GPUs and do without."""
    demo = tiny_run["dataset"] | {"name": "demo", "format": "demo"}
    jobs = {kind: {"threads": 1, "mem_mb": 1500, "runtime": 60} for kind in KINDS}
    more = {"recipe": "demo", "stages": 2, "shards": SHARDS, "device": "auto", "resources": jobs}
    return tiny_run | more | {"dataset": demo}


@pytest.fixture(scope="session")
def local(tmp_path_factory, configuration):
    """The same without Slurm, under way beside the first run on it."""
    folder = tmp_path_factory.mktemp("local") / "clone"
    checkout = Checkout.clone(folder, dict(os.environ), configuration)
    with checkout.start(".venv/bin/snakemake", "--cores", "2") as running:
        yield checkout, running


@pytest.fixture(scope="session")
def finished(cluster, configuration, local, tmp_path_factory):
    """A clone in which the literal command ended well; to be left as it is."""
    folder = tmp_path_factory.mktemp("slurm") / "clone"
    checkout = Checkout.clone(folder, cluster.environment, configuration)
    checkout.run(*HEAD)
    return checkout


@pytest.fixture(scope="session")
def make_workspace(finished, tmp_path_factory):
    """Makes copies without the last network and what follows, for tests with accidents."""

    def make(name):
        made = finished.copy(tmp_path_factory.mktemp(name) / "clone")
        stage = made.folder / "results/demo/auxsegnet/seed0/stage1"
        for name in ("train", "predictions", "predictions_crf", "evaluation"):
            shutil.rmtree(stage / name)
        shutil.rmtree(made.folder / "results/demo/figures")
        (made.folder / "results/demo/auxsegnet/summary.csv").unlink()
        return made

    return make
