"""How much disk a run needs, by ratios of what can be counted."""

from dataclasses import replace

import pytest
from checked_run import changed

from model.backbones import create_backbone
from wsss.configuration.data_sections import Dataset
from wsss.reports.disk import disk_needed


def test_needed_disk_follows_the_run(config, index):
    def total(**changes):
        return sum(disk_needed(changed(config, **changes), index).values())

    assert total(stages=4) > total() > total(stages=1)
    assert total(seeds=[0, 1]) > total()
    assert total(variants={"a": {}, "b": {}}) > total()
    assert total(variants={"a": {"stages": 1}}) == total(stages=1)
    assert total(keep="final") < total()
    assert total(masks={"export": True}) > total()
    everywhere = {"prediction": {"splits": ["val", "train"]}}
    assert total(**everywhere) > total() == total(prediction={"splits": ["val", "test"]})
    more = total(**everywhere) - total()
    assert total(**everywhere, stages=1) - total(stages=1) == pytest.approx(more, abs=5)
    assert total(images={"long_side": 4000}) == total()
    large = replace(index, records=[replace(r, width=400, height=240) for r in index.records])
    small = changed(config, images={"long_side": 64})
    sizes = [sum(disk_needed(one, large).values()) for one in (small, config)]
    assert sizes[0] < sizes[1]
    one, two = {"a": {"stages": 1}}, {"a": {"stages": 1}, "b": {"stages": 1}}
    two_sources = one | {"b": {"stages": 1, "saliency": "centre_prior"}}
    assert total(variants=two_sources) > total(variants=two)
    cams = {"other": {"cam": {"scales": [1.0]}}}  # not trained again
    alike = total(classifiers=cams, variants=two)
    more = total(classifiers=cams, variants=one | {"b": {"stages": 1, "classifier": "other"}})
    trained = {"other": {"classifier": {"epochs": 3}}}
    most = total(classifiers=trained, variants=one | {"b": {"stages": 1, "classifier": "other"}})
    assert most > 1.1 * more and more > alike == total(variants=two)
    # Imported CAMs have the grid of stride 8, whatever the network's.
    backbone = {"output_stride": 16}
    files = {"source": "files", "files": {"folder": "cams"}}
    assert total(cam=files) == total() and total(cam=files, backbone=backbone) > total(
        backbone=backbone
    )


def test_needed_disk_of_the_gallery(config, index):
    """By ratios; three training images and one of val, which are 40x24 pixels large."""

    def gallery(**changes):
        return disk_needed(changed(config, **changes), index)["gallery"]

    assert gallery(stages=4) > gallery() > gallery(keep="final") > 0
    assert gallery(prediction={"splits": ["val", "train"]}) > gallery()
    assert gallery(gallery={"images": 3}) == gallery() > gallery(gallery={"images": 1}) > 0
    train = replace(index, records=[r for r in index.records if r.split == "train"])
    three, one = (
        disk_needed(changed(config, gallery={"images": limit}), train)["gallery"]
        for limit in (3, 1)
    )
    assert three == pytest.approx(3 * one, abs=3)
    large = replace(index, records=[replace(r, width=4000, height=2400) for r in index.records])
    sizes = [
        disk_needed(changed(config, gallery={"long_side": side}), large)["gallery"]
        for side in (1000, 2000)
    ]
    assert 3 < sizes[1] / sizes[0] < 4  # four times the pixels, and maps of one size


def test_needed_disk_counts_images_cells_and_trainings(config, index):
    """By ratios, which do not depend on how well anything packs; bytes are rounded down."""
    one, two = (disk_needed(changed(config, stages=number), index) for number in (1, 2))
    assert two["saliency"] == one["saliency"] > 0
    for kind in ("refined saliency", "pseudo labels", "predictions", "label maps"):
        assert two[kind] == pytest.approx(2 * one[kind], abs=2) and one[kind] > 0
    assert two["checkpoints"] == pytest.approx(one["checkpoints"] * 3 / 2, abs=2)
    network = create_backbone("efficientnet_lite0")
    weights = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    assert 2 * weights < one["checkpoints"] < 3 * weights  # the classifier's and the stage's
    # For 40x24 pixels a grid of 5x3 cells at stride 8, and of 3x2 at stride 16.
    coarse = disk_needed(changed(config, stages=1, backbone={"output_stride": 16}), index)
    expected = one["refined saliency"] * (3 * 2) / (5 * 3)
    assert coarse["refined saliency"] == pytest.approx(expected, abs=2)
    # Masks are painted for four images; one is segmented.
    assert one["ground truth"] == 0
    data = Dataset(name="small", format="coco", root=str(index.root))
    coco = config.model_copy(update={"dataset": data})
    painted = disk_needed(coco, index)["ground truth"]
    assert painted == pytest.approx(4 * one["label maps"], abs=4)
