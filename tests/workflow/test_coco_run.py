"""COCO through the workflow: a real index, and the plan for the setting of the paper."""

import json

import pytest
from expected_jobs import END_OF_STAGES
from repository import ROOT
from tiny_run import TINY_RUN
from workspace import Workspace


def test_a_real_run_up_to_the_index(coco_tiny, tmp_path_factory):
    overlay = TINY_RUN | {"dataset": coco_tiny, "recipe": "compact", "stages": 1}
    workspace = Workspace.create(tmp_path_factory.mktemp("coco"))
    said = workspace.snakemake("--", "results/tiny/index.csv", overlays=[overlay])[1]
    results = workspace.folder / "results/tiny"
    assert (results / "index.csv").read_text().count("\n") == 129, said[-3000:]
    (truth,) = json.loads((results / "ground_truth.json").read_text())
    assert (truth["train"], truth["val"], truth["made"]["images"]) == (96, 32, 128)
    target = ["--", "results/tiny/index.csv"]
    assert workspace.counts(*target, overlays=[overlay]) == {}
    variant = {"dataset": {"coco": {"masks": "annotation_order"}}}
    assert workspace.counts(*target, overlays=[overlay, variant]) == {"index_dataset": 1}


# --- the setting of the paper


@pytest.mark.parametrize("name", ["coco2014", "coco2017"])
def test_the_plan_for_coco(fresh_workspace, tmp_path, name):
    """Five stages in 64 shards. The backbone's weights are the user's to get."""
    jobs = fresh_workspace.counts(
        overlays=[
            ROOT / f"config/{name}.yaml",
            {"backbone": {"weights": "weights/efficientnet-lite0.pth"}},
        ],
        COCO_ROOT=str(tmp_path),
        COCO_SALIENCY=str(tmp_path),
    )
    once = ("index_dataset", "train_classifier", "draw_curves", *END_OF_STAGES)
    stages = ("train_stage", "evaluate_pseudo_labels", "evaluate_segmentation")
    assert jobs == {
        **dict.fromkeys(once, 1),
        **dict.fromkeys(stages, 5),
        **dict.fromkeys(("predict_saliency", "extract_cams"), 64),
        **dict.fromkeys(("make_pseudo_labels", "segment", "segment_crf"), 5 * 64),
        "refine_cams": 4 * 64,
    }
