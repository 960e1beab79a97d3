"""Accidents of a whole run: two at once, results moved elsewhere, a file of another run put in."""

import subprocess
import time

import pytest

from wsss.storage.artifacts import ArtifactReader

DEMO = "results/demo"
RUN = f"{DEMO}/auxsegnet/seed0"


@pytest.fixture
def workspace(finished_workspace, tmp_path):
    return finished_workspace.copy(tmp_path / "workspace")


def error_lines(said):
    return [line for line in said.splitlines() if line.startswith("error: ")]


def test_a_second_snakemake_in_the_folder_is_sent_away(workspace):
    """And the first one goes on to its end."""
    target = f"{DEMO}/saliency/u2netp/shard0.h5"
    first = subprocess.Popen(
        workspace.command("-f", "--", target),
        cwd=workspace.folder,
        env=workspace.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = workspace.folder / ".snakemake"
    while not list(folder.glob("locks/*")):
        assert first.poll() is None
        time.sleep(0.01)
    status, said = workspace.snakemake("-f", "--", target)
    assert status != 0 and "Directory cannot be locked" in said
    assert first.wait() == 0
    assert len(ArtifactReader(workspace.folder / target, "saliency").ids) == 4
    assert workspace.counts("--", target) == {}


def test_results_that_were_moved_with_what_snakemake_knows_go_on(workspace, tmp_path):
    moved = workspace.copy(tmp_path / "elsewhere" / "on another disk")
    assert moved.counts() == {}
    (moved.folder / RUN / "stage1/evaluation/segmentation.csv").unlink()
    moved.make()
    assert moved.counts() == {}


def test_results_without_what_snakemake_knows_are_kept(finished_workspace, tmp_path):
    """Only code and settings of the past are unknown then, so nothing runs again for them."""
    moved = finished_workspace.copy(tmp_path / "elsewhere")
    subprocess.run(["rm", "-r", str(moved.folder / ".snakemake")], check=True)
    assert moved.counts() == {}
    change = {"prediction": {"crf": {"iterations": 3}}}
    assert moved.counts(overlays=[change]) == {}
    assert moved.counts("-R", "segment_crf", "--", "all")["segment_crf"] == 4


def test_a_file_of_another_seed_put_in_is_refused_by_the_next_job(workspace):
    """As after a copy between two folders of results."""
    labels = workspace.folder / RUN / "stage1/pseudo_labels/shard0.h5"
    other = workspace.folder / RUN / "stage0/pseudo_labels/shard0.h5"
    content = other.read_bytes()
    labels.unlink()
    labels.write_bytes(content)
    scores = f"{RUN}/stage1/evaluation/pseudo_labels.csv"
    status, said = workspace.snakemake("--", scores)
    assert status != 0 and "Traceback" not in said
    (line,) = error_lines(said)
    assert "made for stage 0, needed is 1" in line and f"snakemake -f {RUN}/stage1" in line


def test_a_model_of_another_stage_put_in_is_refused_by_the_next_job(workspace):
    model = workspace.folder / RUN / "stage1/train/model.pt"
    model.write_bytes((workspace.folder / RUN / "stage0/train/model.pt").read_bytes())
    status, said = workspace.snakemake("--", f"{RUN}/stage1/predictions/val/shard0.h5")
    assert status != 0 and "Traceback" not in said
    assert "made for stage 0, needed is 1" in error_lines(said)[0]


def test_a_damaged_photograph_in_training_is_one_line(workspace):
    """Also where other processes read the photographs."""
    image = workspace.folder / DEMO / "data/images/train_0002.png"
    content = bytearray(image.read_bytes())
    content[len(content) // 2 :] = b""
    image.write_bytes(content)
    target = f"{DEMO}/classifier/default/seed0/model.pt"
    status, said = workspace.snakemake("-f", "--", target, overlays=[{"compute": {"workers": 1}}])
    assert status != 0 and "Traceback" not in said
    (line,) = error_lines(said)
    assert "train_0002.png is damaged" in line


def test_a_results_folder_that_may_not_be_written(workspace):
    """Snakemake itself says so, before any job: it could not remove what it makes again."""
    results = workspace.folder / DEMO / "auxsegnet"
    if subprocess.run(["mount", "--bind", str(results), str(results)]).returncode:
        pytest.skip("mounting needs root and the right to mount")
    before = (results / "summary.csv").read_text()
    subprocess.run(["mount", "-o", "remount,bind,ro", str(results)], check=True)
    try:
        status, said = workspace.snakemake("-f", "--", f"{DEMO}/auxsegnet/summary.csv")
    finally:
        subprocess.run(["umount", str(results)], check=True)
    assert status != 0 and "Traceback" not in said
    assert "summary.csv" in said and (results / "summary.csv").read_text() == before
