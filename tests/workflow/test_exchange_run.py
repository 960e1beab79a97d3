"""CAMs and pseudo labels to other tools and back, through the workflow."""

import numpy as np
import pytest
from expected_jobs import ALL_LABELS, CLASSIFIER, DEMO, END, RUN, stage_jobs

from workflow_scripts import (
    export_cams,
    export_pseudo_labels,
)
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.palette import write_palette_png

CAMS = f"{DEMO}/classifier/default/seed0/cams"
LABELS = f"{RUN}/stage0/pseudo_labels"


def run(command, *words):
    command.main([str(word) for word in words])


def from_cams(folder, **more):
    return {"cam": {"source": "files", "files": {"folder": str(folder), **more}}}


def from_labels(folder, **more):
    return {"pseudo_labels": {"initial": "files", "files": {"folder": str(folder), **more}}}


def test_imported_cams_take_the_place_of_the_classifiers(fresh_workspace, tmp_path):
    jobs = fresh_workspace.plan(overlays=[from_cams(tmp_path)])
    rules = [job.rule for job in jobs]
    assert "extract_cams" not in rules
    (job,) = (job for job in jobs if job.rule == "import_cams")
    assert job.outputs == (f"{CAMS}/shard0.h5",) and f"{DEMO}/index.csv" in job.inputs


def test_given_labels_need_no_cams_at_stage_0(fresh_workspace, tmp_path):
    jobs = fresh_workspace.counts(overlays=[from_labels(tmp_path)])
    expected = {**CLASSIFIER, **stage_jobs(3, scored=3), **END}
    assert jobs == {rule: n for rule, n in expected.items() if rule != "extract_cams"}
    both = {"variants": {"auxsegnet": {"stages": 1}, "given": from_labels(tmp_path)}}
    jobs = fresh_workspace.counts(overlays=[both])
    assert jobs["extract_cams"] == 1 and jobs["make_pseudo_labels"] == 1 + 3


def test_other_seeds_rerun_what_they_touch(finished_workspace, tmp_path):
    counts = finished_workspace.counts
    assert counts(overlays=[from_cams(tmp_path)]) == {**ALL_LABELS, "import_cams": 2}
    assert counts(overlays=[from_labels(tmp_path)]) == ALL_LABELS
    folders = {"cam": {"files": {"folder": str(tmp_path)}}}
    folders["pseudo_labels"] = {"files": {"pattern": "{image_id}_x.png"}}
    assert counts(overlays=[folders]) == {}  # nobody asks for them


@pytest.fixture
def workspace(finished_workspace, tmp_path):
    return finished_workspace.copy(tmp_path / "workspace")


def shards(workspace, folder):
    return sorted((workspace.folder / folder).glob("*.h5"))


def test_a_run_from_imported_cams(workspace, tmp_path):
    """Ours out and in again: stage 0 gets the same labels but for pixels near a threshold."""
    run(export_cams, *shards(workspace, CAMS), "--format", "irn", "--out", tmp_path / "cams")
    before = read_all(workspace, CAMS, "cams"), read_all(workspace, LABELS, "pseudo_labels")
    overlay, targets = from_cams(tmp_path / "cams"), [f"{LABELS}/shard{k}.h5" for k in (0, 1)]
    said = workspace.make(*targets, overlays=[overlay])
    assert said.count("taken as they are: 4\n") == 2
    after = read_all(workspace, CAMS, "cams"), read_all(workspace, LABELS, "pseudo_labels")
    assert before[0].keys() == after[0].keys() and len(before[0]) == 8
    for image_id, (labels, _) in before[1].items():
        again, _ = after[1][image_id]
        assert (labels["segmentation"] == again["segmentation"]).mean() > 0.9
        np.testing.assert_array_equal(labels["saliency"], again["saliency"])
    plan = {"overlays": [overlay, {"cam": {"flip": True, "scales": [1.0, 2.0]}}]}
    assert workspace.counts("--", *targets, **plan) == {}  # the classifier's settings
    expected = {"import_cams": 2, "make_pseudo_labels": 2}
    for change in ({"pattern": "x{image_id}.npy"}, {"normalise": "never"}):
        changed = from_cams(tmp_path / "cams", **change)
        assert workspace.counts("--", *targets, overlays=[changed]) == expected


def test_a_run_from_given_labels_is_the_same_run(workspace, tmp_path):
    labels = shards(workspace, LABELS)
    before = [ArtifactReader(f, "pseudo_labels").headers[f]["content_digest"] for f in labels]
    run(export_pseudo_labels, *labels, "--out", tmp_path / "labels")
    overlay, targets = from_labels(tmp_path / "labels"), [f"{LABELS}/shard{k}.h5" for k in (0, 1)]
    workspace.make(*targets, overlays=[overlay])
    after = [ArtifactReader(f, "pseudo_labels").headers[f]["content_digest"] for f in labels]
    assert after == before
    change = {"pseudo_labels": {"cam_threshold": 0.3}}  # of later stages only
    assert workspace.counts("--", *targets, overlays=[overlay, change]) == {}
    moved = from_labels(tmp_path / "labels", pattern="x{image_id}.png")
    expected = {"make_pseudo_labels": 2}
    assert workspace.counts("--", *targets, overlays=[moved]) == expected
    (tmp_path / "labels/train_0003.png").unlink()
    status, said = workspace.snakemake("-f", "--", targets[0], overlays=[overlay])
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status != 0 and "Traceback" not in said
    assert len(errors) == 1 and "train_0003.png" in errors[0]


def test_a_corrected_mask_comes_into_a_run_and_counts_by_its_content(workspace, tmp_path):
    targets = [f"{LABELS}/shard{k}.h5" for k in (0, 1)]
    before = read_all(workspace, LABELS, "pseudo_labels")
    mask = np.zeros_like(before["train_0003"][0]["segmentation"])
    mask[10:20, 30:50] = 1
    write_palette_png(tmp_path / "corrected/train_0003.png", mask)
    overlay = {"pseudo_labels": {"corrected": str(tmp_path / "corrected")}}
    assert workspace.counts(overlays=[overlay]) == ALL_LABELS  # at every stage
    workspace.make(*targets, overlays=[overlay])
    after = read_all(workspace, LABELS, "pseudo_labels")
    np.testing.assert_array_equal(after["train_0003"][0]["segmentation"], mask)
    for image_id in before.keys() - {"train_0003"}:
        for name, array in before[image_id][0].items():
            np.testing.assert_array_equal(after[image_id][0][name], array)
    assert workspace.counts("--", *targets, overlays=[overlay]) == {}
    write_palette_png(tmp_path / "corrected/train_0003.png", mask[::-1])
    assert workspace.counts("--", *targets, overlays=[overlay]) == {"make_pseudo_labels": 2}
    (tmp_path / "corrected").rename(tmp_path / "gone")
    status, said = workspace.snakemake("-n", "--", *targets, overlays=[overlay])
    assert status != 0 and "Traceback" not in said
    assert "error: configuration: pseudo_labels.corrected: " in said


def read_all(workspace, folder, kind):
    reader = ArtifactReader(shards(workspace, folder), kind)
    return {i: (reader.read(i).array, reader.read(i).attributes) for i in reader.ids}
