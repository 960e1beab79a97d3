"""Inference over views against explicit loops, with networks whose answers are known."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny_network import varied
from torch.nn import functional as F

from model.affinity import BlockAffinity
from model.auxsegnet import AuxSegNet, AuxSegNetOutput
from wsss.method import inference
from wsss.method.inference import Viewer, initial_cams, merge_views, predict, refined_maps
from wsss.method.inference import sparse_probabilities as sparse

CLASSES = 3
BACKBONE = SimpleNamespace(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), stride=8)


class FakeNetwork:
    """Maps an image size to outputs that are made once; remembers how it was called."""

    def __init__(self, paper=True):
        self.backbone = BACKBONE
        self.design = SimpleNamespace(refine_probabilities=paper)
        self.paper, self.calls = paper, []

    def __call__(self, images, affinity):
        self.calls.append((tuple(images.shape[-2:]), affinity))
        return self.answer(images, affinity)

    def answer(self, images, affinity):
        grid = tuple(-(-side // 8) for side in images.shape[-2:])
        generator = torch.Generator().manual_seed(100 * grid[0] + grid[1])

        def random(channels):
            return 2 * torch.randn(1, channels, *grid, generator=generator)

        return self.output(random(CLASSES), random(1), random(CLASSES + 1), affinity, generator)

    def output(self, cams, saliency, segmentation, affinity, generator):
        refined_sal, refined_seg = saliency.flip(-2), segmentation.flip(-2)
        if self.paper:
            refined_sal, refined_seg = refined_sal.sigmoid(), refined_seg.softmax(dim=1)
        matrix = None
        if affinity:
            tokens = cams[0, 0].numel()
            matrix = torch.rand(1, tokens, tokens, generator=generator) / tokens
        else:
            refined_sal = refined_seg = None
        return AuxSegNetOutput(None, cams, saliency, refined_sal, segmentation, refined_seg, matrix)


class Equivariant(FakeNetwork):
    """All outputs follow the image: mirrored images give mirrored maps, and no others do."""

    def answer(self, images, affinity):
        features = F.avg_pool2d(images, 8, ceil_mode=True)
        generator = torch.Generator().manual_seed(0)
        maps = torch.einsum("oi,bihw->bohw", torch.randn(8, 3, generator=generator), features)
        output = self.output(maps[:, :3], maps[:, 3:4], maps[:, 4:], affinity, generator)
        if affinity:
            tokens = maps[0, 0].numel()
            output = output._replace(affinity=torch.eye(tokens)[None])
        return output


@pytest.fixture
def image():
    """Nothing in it is symmetric."""
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def viewer(network, **options):
    return Viewer(network, torch.device("cpu"), **options)


# --- views


def test_view_is_the_normalised_image(image):
    tensor = viewer(FakeNetwork()).tensor(image, 1.0, False)
    assert tensor.shape == (1, 3, 48, 64)
    for c in range(3):
        expected = (image[..., c] / 255.0 - BACKBONE.mean[c]) / BACKBONE.std[c]
        np.testing.assert_allclose(tensor[0, c].numpy(), expected, atol=1e-5)
    flipped = viewer(FakeNetwork()).tensor(image, 1.0, True)
    assert torch.equal(flipped, tensor.flip(-1))


@pytest.mark.parametrize(
    ("scale", "long_side", "size"),
    [(0.5, None, (24, 32)), (1.5, None, (72, 96)), (1.0, 32, (24, 32)), (2.0, 32, (48, 64))],
)
def test_scale_is_of_the_shrunk_image(image, scale, long_side, size):
    tensor = viewer(FakeNetwork(), long_side=long_side).tensor(image, scale, False)
    assert tensor.shape[-2:] == size


@pytest.mark.parametrize(
    ("side", "mode"), [(512, "full"), (513, "blocks"), (505, "full"), (520, "blocks")]
)
def test_large_images_take_the_affinity_in_blocks(side, mode):
    network = FakeNetwork()
    network.output = lambda *_: None  # only how it is called matters
    viewer(network).run(np.zeros((side, side, 3), np.uint8))
    viewer(network).run(np.zeros((side, side, 3), np.uint8), affinity=False)
    assert network.calls == [((side, side), mode), ((side, side), None)]


# --- predictions


def best(network, output):
    refined = output.refined_segmentation
    return refined if network.paper else refined.softmax(dim=1)


@pytest.mark.parametrize("merge", ["max", "mean"])
@pytest.mark.parametrize("paper", [True, False])
def test_views_are_merged_as_probabilities_on_the_grid_of_scale_1(image, paper, merge):
    network = FakeNetwork(paper)
    maps = []
    for height, width in ((24, 32), (48, 64), (72, 96)):
        for flipped in (False, True):
            output = network(torch.zeros(1, 3, height, width), "full")
            map_ = best(network, output)
            map_ = map_.flip(-1) if flipped else map_
            maps.append(F.interpolate(map_, (6, 8), mode="bilinear")[0].numpy())
    merged = maps[0].astype(float)
    for map_ in maps[1:]:
        merged = np.maximum(merged, map_) if merge == "max" else merged + map_
    merged = merged / merged.sum(axis=0)
    settings = {"scales": [0.5, 1.0, 1.5], "flip": True, "merge": merge}
    plain = viewer(network).run(image)
    found = merge_views(viewer(network), image, plain, **settings)
    np.testing.assert_allclose(found, merged, atol=1e-5)


def test_flipped_views_are_turned_back(image):
    network = Equivariant()
    plain = viewer(network).run(image)
    settings = {"scales": [1.0], "flip": False, "merge": "mean"}
    once = merge_views(viewer(network), image, plain, **settings)
    np.testing.assert_allclose(once, plain.refined_segmentation[0].numpy(), atol=1e-5)
    both = merge_views(viewer(network), image, plain, **(settings | {"flip": True}))
    np.testing.assert_allclose(both, once, atol=1e-5)
    assert np.abs(once - once[..., ::-1]).max() > 0.1


def test_plain_view_is_run_once(image):
    network = FakeNetwork()
    predict(viewer(network), image, scales=[1.0, 0.5], flip=True, merge="max")
    assert sorted(size for size, _ in network.calls) == [(24, 32)] * 2 + [(48, 64)] * 2


SIZES = [(48, 64), (45, 61), (9, 100), (1, 1), (1, 40), (40, 1)]


@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_label_maps_have_the_size_of_the_image(size, paper):
    network = FakeNetwork(paper)
    image = np.zeros((*size, 3), np.uint8)
    arrays, keys = predict(viewer(network), image, scales=[0.75, 1.25], flip=True, merge="mean")
    plain = network(torch.zeros(1, 3, *size), "full")
    for name, scores in (
        ("unrefined", plain.segmentation),
        ("refined", plain.refined_segmentation),
    ):
        expected = F.interpolate(scores, size, mode="bilinear").argmax(dim=1)[0]
        assert arrays[name].dtype == np.uint8
        np.testing.assert_array_equal(arrays[name], expected)
    assert arrays["probabilities"].dtype == np.float16
    assert arrays["probabilities"].shape == (len(keys), -(-size[0] // 8), -(-size[1] // 8))


def test_labels_are_of_the_photograph_not_of_the_shrunk_one(image):
    network = FakeNetwork()
    settings = {"scales": [1.0], "flip": False, "merge": "max"}
    arrays, _ = predict(viewer(network, long_side=32), image, **settings)
    assert network.calls[0][0] == (24, 32)
    assert arrays["refined"].shape == (48, 64)
    assert arrays["probabilities"].shape[1:] == (3, 4)


def test_network_without_affinity_predicts_unrefined(image):
    network = FakeNetwork()
    answer = network.answer
    network.answer = lambda images, affinity: answer(images, None)
    settings = {"scales": [1.0], "flip": False, "merge": "max"}
    arrays, keys = predict(viewer(network), image, **settings)
    assert set(arrays) == {"unrefined", "probabilities"}
    expected = answer(torch.zeros(1, 3, 48, 64), None).segmentation.softmax(dim=1)[0]
    for k, class_id in enumerate(keys):
        if class_id:
            np.testing.assert_allclose(arrays["probabilities"][k], expected[class_id], atol=1e-3)


# --- a real network of small size


@pytest.fixture
def network(tiny_backbone):
    def build(image, design="paper"):
        torch.manual_seed(0)
        return varied(AuxSegNet(CLASSES, "tiny", design, decoder_channels=8), image)

    return build


def dense(found):
    """All classes of a prediction (probabilities, keys): (C + 1, h, w)."""
    arrays, keys = found
    maps = np.zeros((CLASSES + 1, *arrays["probabilities"].shape[1:]), np.float32)
    maps[list(keys)] = arrays["probabilities"]
    return maps


@pytest.mark.parametrize("design", ["paper", "official"])
@pytest.mark.parametrize("merge", ["max", "mean"])
@pytest.mark.parametrize("size", [(48, 64), (45, 61), (5, 90)])
def test_a_mirrored_photograph_has_the_mirrored_result(network, size, merge, design):
    """Exactly so with flip, whatever the size: both have the same views."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    settings = {"scales": [0.75, 1.0, 1.3], "flip": True, "merge": merge}
    view = viewer(network(image, design))
    first, second = (dense(predict(view, i, **settings)) for i in (image, mirrored))
    np.testing.assert_allclose(second[..., ::-1], first, atol=2e-3)
    alone = settings | {"flip": False}
    first, second = (dense(predict(view, i, **alone)) for i in (image, mirrored))
    assert np.abs(second[..., ::-1] - first).max() > 0.01


def test_both_ways_to_the_affinity_agree(network, monkeypatch):
    """In blocks of 100 of 608 rows, the last of them smaller."""
    image = np.random.default_rng(0).integers(0, 256, (149, 255, 3), dtype=np.uint8)
    monkeypatch.setattr("model.affinity.BLOCK_ELEMENTS", 608 * 100)
    monkeypatch.setattr(inference, "FULL_AFFINITY_TOKENS", 607)
    view, used = viewer(network(image)), []
    view.network.register_forward_hook(lambda *call: used.append(type(call[-1].affinity)))
    settings = {"scales": [1.0], "flip": False, "merge": "max"}
    blocks = predict(view, image, **settings), refined_maps(view, image, [0, 2], [1.0], False)
    monkeypatch.setattr(inference, "FULL_AFFINITY_TOKENS", 608)
    whole = predict(view, image, **settings), refined_maps(view, image, [0, 2], [1.0], False)
    assert used == [BlockAffinity, BlockAffinity, torch.Tensor, torch.Tensor]
    np.testing.assert_allclose(dense(blocks[0]), dense(whole[0]), atol=1e-3)
    for found, expected in zip(blocks[1], whole[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=2e-3)
    assert (blocks[0][0]["refined"] != whole[0][0]["refined"]).mean() < 1e-3


# --- stored probabilities


def test_sparse_probabilities_by_hand():
    probabilities = np.zeros((5, 1, 3), np.float32)
    probabilities[:, 0, 0] = [0.5, 0.3, 0.009, 0.1, 0.091]
    probabilities[:, 0, 1] = [0.985, 0.0, 0.005, 0.0, 0.01]
    probabilities[:, 0, 2] = [0.0, 1.0, 0.0, 0.0, 0.0]
    kept, keys = sparse(probabilities)
    assert keys == [0, 1, 3, 4]  # class 2 is nowhere above 0.01
    assert kept.dtype == np.float16
    expected = [
        [0.5 / 0.991, 0.3 / 0.991, 0.1 / 0.991, 0.091 / 0.991],
        [0.985 / 0.995, 0, 0, 0.01 / 0.995],
        [0, 1, 0, 0],
    ]
    np.testing.assert_allclose(kept[:, 0].T, expected, atol=5e-4)


def test_sparse_probabilities_sum_to_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(21, 0.1), (12, 16)).transpose(2, 0, 1)
    probabilities[7] *= 1e-3
    probabilities = (probabilities / probabilities.sum(axis=0)).astype(np.float32)
    kept, keys = sparse(probabilities)
    assert keys == [c for c in range(21) if c != 7]
    np.testing.assert_allclose(kept.sum(axis=0, dtype=float), 1, atol=2e-3)
    assert kept.min() >= 0 and kept.max() <= 1


def test_many_classes_that_are_hardly_there_do_not_turn_an_object_into_background():
    """As on COCO: 79 classes with 0.8 percent each, and one that is the most probable."""
    probabilities = np.full((81, 4, 5), 0.008, np.float32)
    probabilities[0], probabilities[5] = 0.15, 1 - 0.15 - 79 * 0.008
    kept, keys = sparse(probabilities)
    assert keys == [0, 5]
    np.testing.assert_allclose(kept[0] / kept[1], 0.15 / 0.218, rtol=2e-3)


def test_the_most_probable_class_is_kept_however_improbable():
    probabilities = np.full((200, 1, 2), 1 / 200, np.float32)
    probabilities[7, 0, 0] = probabilities[9, 0, 1] = 0.006
    assert sparse(probabilities)[1] == [0, 7, 9]


def test_background_is_kept_even_where_it_is_nothing():
    probabilities = np.zeros((3, 2, 2), np.float32)
    probabilities[2] = 1.0
    kept, keys = sparse(probabilities)
    assert keys == [0, 2]
    assert (kept[0] == 0).all() and (kept[1] == 1).all()


# --- CAMs and refined maps


def normalised(cams):
    cams = cams.clamp(min=0)
    return cams / (cams.amax(dim=(2, 3), keepdim=True) + 1e-5)


def test_initial_cams_are_unflipped_and_never_ask_for_an_affinity(image):
    network = Equivariant()
    once = initial_cams(viewer(network), image, [0, 2], [1.0], False)
    both = initial_cams(viewer(network), image, [0, 2], [1.0], True)
    expected = normalised(network(viewer(network).tensor(image, 1.0, False), None).cams)
    assert once.dtype == np.float16 and once.shape == (2, 6, 8)
    np.testing.assert_allclose(once, expected[0, [0, 2]], atol=1e-3)
    np.testing.assert_allclose(both, once, atol=1e-3)
    assert {affinity for _, affinity in network.calls} == {None}


def test_initial_cams_sum_their_views(image):
    network, total = FakeNetwork(), 0
    for height, width in ((48, 64), (24, 32), (72, 96)):
        cams = network(torch.zeros(1, 3, height, width), None).cams[:, [1]].clamp(min=0)
        total = total + F.interpolate(cams, (6, 8), mode="bilinear")
    found = initial_cams(viewer(network), image, [1], [1.0, 0.5, 1.5], False)
    np.testing.assert_allclose(found, normalised(total)[0], atol=1e-3)


def test_an_image_without_labels_has_no_cams(image):
    assert initial_cams(viewer(FakeNetwork()), image, [], [1.0], True).shape == (0, 6, 8)


@pytest.mark.parametrize("paper", [True, False])
def test_refined_maps_are_propagated_normalised_cams(image, paper):
    network = FakeNetwork(paper)
    output = network(torch.zeros(1, 3, 48, 64), "full")
    cams, saliency = refined_maps(viewer(network), image, [0, 2], [1.0], False)
    present = normalised(output.cams)[:, [0, 2]].flatten(2)
    expected = torch.einsum("ij,kj->ki", output.affinity[0], present[0]).reshape(2, 6, 8)
    assert cams.dtype == saliency.dtype == np.float16
    np.testing.assert_allclose(cams, expected, atol=1e-3)
    probability = output.refined_saliency if paper else output.refined_saliency.sigmoid()
    np.testing.assert_allclose(saliency, probability[0, 0], atol=1e-3)


def test_refined_maps_are_the_mean_of_their_views(image):
    network, cams, saliency = FakeNetwork(), [], []
    for height, width in ((48, 64), (24, 32)):
        for flipped in (False, True):
            output = network(torch.zeros(1, 3, height, width), "full")
            present = normalised(output.cams)[:, [1]]
            tokens = output.affinity @ present.flatten(2).transpose(1, 2)
            maps = [tokens.transpose(1, 2).reshape(present.shape), output.refined_saliency]
            maps = [m.flip(-1) if flipped else m for m in maps]
            maps = [F.interpolate(m, (6, 8), mode="bilinear") for m in maps]
            cams.append(maps[0])
            saliency.append(maps[1])
    found = refined_maps(viewer(network), image, [1], [1.0, 0.5], True)
    np.testing.assert_allclose(found[0], sum(cams)[0] / 4, atol=1e-3)
    np.testing.assert_allclose(found[1], sum(saliency)[0, 0] / 4, atol=1e-3)


def test_saliency_that_is_not_refined_is_taken_plain(image):
    network = FakeNetwork()
    answer = network.answer
    network.answer = lambda *given: answer(*given)._replace(refined_saliency=None)
    _, saliency = refined_maps(viewer(network), image, [0], [1.0], False)
    expected = answer(torch.zeros(1, 3, 48, 64), "full").saliency.sigmoid()[0, 0]
    np.testing.assert_allclose(saliency, expected, atol=1e-3)


def test_network_without_saliency_refines_cams_alone(image):
    network = FakeNetwork()
    answer = network.answer
    network.answer = lambda *given: answer(*given)._replace(saliency=None, refined_saliency=None)
    cams, saliency = refined_maps(viewer(network), image, [0], [1.0], False)
    assert cams.shape == (1, 6, 8)
    assert saliency is None


def test_colours_reach_the_network_as_rgb():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    ok, encoded = cv2.imencode(".png", red[..., ::-1])  # OpenCV writes BGR
    assert ok
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    tensor = viewer(FakeNetwork()).tensor(decoded, 1.0, False)
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([3.0, -2.0, -2.0])
