"""Training batches: which images, and that image and labels are seen in the same way."""

import multiprocessing

import cv2
import numpy as np
import pytest
import torch
from coordinate_images import SIZE, ColumnLabels, map_index
from torch.utils.data import DataLoader, Dataset

from wsss.compute.signals import ignore_stopping
from wsss.configuration.training_sections import Classifier, Resize, Stage
from wsss.errors import InputError
from wsss.storage.pixels import resize_image, resize_labels
from wsss.training.augmentation import jitter_colours, padded, random_crop_origin
from wsss.training.batches import BatchPlan, TrainingImages, View, batch_loader, batches_of

MEAN, STD = (0.1234, 0.4321, 0.2345), (0.2, 0.25, 0.3)  # no 8-bit value becomes zero
PLAIN = {"crop": 64, "flip": False, "colour_jitter": (0.0, 0.0, 0.0, 0.0)}
# Only what batches are made by; crops may be smaller here than for training.
STAGE = Stage.model_construct(
    **PLAIN, random_scale=(1.0, 1.0), random_scale_per="image", label_padding=255
)
CLASSIFIER = Classifier.model_construct(**PLAIN, resize=Resize(long_side=(32, 60)))


@pytest.fixture
def images(tmp_path):
    def build(section=STAGE, long_side=None, **settings):
        reader = ColumnLabels() if section is STAGE else None
        index, settings = map_index(tmp_path, 6), section.model_copy(update=settings)
        return TrainingImages(index, MEAN, STD, settings, long_side, reader)

    return build


def batches(images, seed=0, batch_size=3, epochs=1, workers=0, start=0):
    plan = BatchPlan(len(images), batch_size, epochs, seed, start)
    return list(batch_loader(images, plan, workers, False))


def pixels(image):
    """Normalised (3, H, W) -> values 0..255."""
    values = image.permute(1, 2, 0).numpy() * np.float32(STD) + np.float32(MEAN)
    return 255 * values


def seen_size(image):
    """(height, width) of what is not padding."""
    filled = (image != 0).any(dim=0)
    return int(filled.any(dim=1).sum()), int(filled.any(dim=0).sum())


# --- which images


def indices(plan):
    return [[draw.index for draw in batch] for batch in plan]


def test_an_epoch_sees_every_image_once():
    found = indices(BatchPlan(12, 4, 3, seed=5))
    assert [len(batch) for batch in found] == [4] * 9
    epochs = np.reshape(found, (3, 12)).tolist()
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_last_incomplete_batch_is_left_to_other_epochs():
    found = indices(BatchPlan(10, 4, 20, seed=0))
    assert len(found) == 40
    for e in range(20):
        epoch = found[2 * e] + found[2 * e + 1]
        assert len(set(epoch)) == 8
    assert {i for batch in found for i in batch} == set(range(10))


def test_fewer_images_than_a_batch_are_taken_again():
    plan = BatchPlan(3, 8, 2, seed=0)
    assert len(plan) == 2
    for batch in indices(plan):
        assert sorted(np.bincount(batch, minlength=3)) == [2, 3, 3]


@pytest.mark.parametrize(
    ("images", "least", "steps"),
    [
        (640, 1, 1280),
        (640, 300, 1280),
        (300, 300, 600),
        (100, 300, 600),
        (102, 300, 600),
        (3, 300, 600),
        (3, 1, 8),
    ],
)
def test_few_images_are_passed_over_more_often(images, least, steps):
    settings = STAGE.model_copy(update={"epochs": 8, "batch_size": 4, "least_images": least})
    assert BatchPlan(images, 4, settings.passes(images), seed=0).steps == steps


def test_no_epochs_are_no_steps():
    settings = CLASSIFIER.model_copy(update={"epochs": 0, "batch_size": 8, "least_images": 300})
    assert settings.passes(640) == 0


def test_plan_follows_from_the_seed():
    assert list(BatchPlan(9, 2, 2, seed=1)) == list(BatchPlan(9, 2, 2, seed=1))
    assert indices(BatchPlan(9, 2, 2, seed=1)) != indices(BatchPlan(9, 2, 2, seed=2))


@pytest.mark.parametrize("start", [0, 1, 4, 7, 8])
def test_resumed_plan_goes_on_where_it_was(start):
    whole, rest = BatchPlan(9, 2, 2, seed=1), BatchPlan(9, 2, 2, seed=1, start=start)
    assert len(rest) == len(whole) - start
    assert list(rest) == list(whole)[start:]


def test_every_sample_has_its_own_randomness_and_every_batch_one():
    drawn = list(BatchPlan(3, 8, 4, seed=0))
    keys = [draw.key for batch in drawn for draw in batch]
    batch_keys = [{draw.batch_key for draw in batch} for batch in drawn]
    assert len(set(keys)) == 32
    assert all(len(batch) == 1 for batch in batch_keys)
    assert len(set.union(*batch_keys)) == 4
    assert set.union(*batch_keys).isdisjoint(keys)


# --- how they are seen


def test_small_image_is_padded_at_the_bottom_and_right(images):
    for padding in (255, 0):
        (batch,) = batches(images(label_padding=padding), batch_size=6)
        assert batch["image"].shape == (6, 3, 64, 64)
        for i in range(6):
            values = np.rint(pixels(batch["image"][i]))
            rows, columns = np.mgrid[:32, :40]
            np.testing.assert_array_equal(values[:32, :40, 0], 5 * columns)
            np.testing.assert_array_equal(values[:32, :40, 1], 5 * rows)
            assert seen_size(batch["image"][i]) == SIZE
            np.testing.assert_array_equal(batch["segmentation"][i, :32, :40], columns)
            # 112 + row; the first value above half is 128.
            np.testing.assert_array_equal(batch["saliency"][i, :32, :40], rows >= 16)
            for name in ("segmentation", "saliency"):
                padded = torch.ones(64, 64, dtype=bool)
                padded[:32, :40] = False
                assert (batch[name][i][padded] == padding).all()


def test_image_and_labels_belong_together(images):
    (batch,) = batches(images(), batch_size=6)
    numbers = [round(float(pixels(image)[0, 0, 2]) / 20) for image in batch["image"]]
    assert sorted(numbers) == list(range(6))
    expected = [[float(i % 3 == c) for c in range(3)] for i in numbers]
    assert batch["labels"].tolist() == expected


def test_crop_and_flip_are_those_of_the_labels(images):
    origins, directions = set(), []
    for batch in batches(images(crop=16, flip=True), epochs=20):
        for image, segmentation, saliency in zip(
            batch["image"], batch["segmentation"], batch["saliency"], strict=True
        ):
            values = np.rint(pixels(image) / 5).astype(int)
            np.testing.assert_array_equal(values[..., 0], segmentation)
            np.testing.assert_array_equal(values[..., 1] >= 16, saliency == 1)
            origins.add((values[0, 0, 0], values[0, 0, 1]))
            directions.append(values[0, 1, 0] - values[0, 0, 0])
    assert len(directions) == 120
    assert set(directions) == {-1, 1}
    assert 40 < directions.count(-1) < 80  # half of them, five standard deviations at most off
    columns, rows = zip(*origins, strict=True)
    assert (min(rows), max(rows)) == (0, 16)
    assert len(set(columns)) > 20


def test_no_flip_without_the_setting(images):
    for batch in batches(images(crop=16), epochs=10):
        assert (batch["segmentation"][:, 0, 1] > batch["segmentation"][:, 0, 0]).all()


def test_scaled_labels_lie_on_the_scaled_image(images):
    (batch,) = batches(images(random_scale=[1.5, 1.5]), batch_size=6)
    for image, segmentation in zip(batch["image"], batch["segmentation"], strict=True):
        assert seen_size(image) == (48, 60)
        shift = pixels(image)[:48, :60, 0] / 5 - segmentation[:48, :60].numpy()
        assert np.abs(shift).max() < 0.61
        assert abs(shift.mean()) < 0.1


def test_scale_is_shared_by_a_batch_where_the_setting_says_so(images):
    shared = batches(images(random_scale=[0.7, 1.3], random_scale_per="batch"), epochs=10)
    sizes = [{seen_size(image) for image in batch["image"]} for batch in shared]
    assert all(len(batch) == 1 for batch in sizes)
    heights = [height for batch in sizes for height, _ in batch]
    assert len(set(heights)) > 5
    assert min(heights) >= 22 and max(heights) <= 42
    single = batches(images(random_scale=[0.7, 1.3], random_scale_per="image"), epochs=10)
    assert any(len({seen_size(image) for image in batch["image"]}) == 3 for batch in single)


def test_classifier_images_get_a_random_long_side(images):
    found = batches(images(CLASSIFIER), epochs=20, seed=3)
    assert set(found[0]) == {"image", "labels"}
    sizes = [seen_size(image) for batch in found for image in batch["image"]]
    widths = [width for _, width in sizes]
    assert min(widths) >= 32 and max(widths) <= 60
    assert max(widths) - min(widths) > 20
    assert all(abs(height - 0.8 * width) <= 0.5 for height, width in sizes)


def test_long_side_shrinks_image_and_labels(images):
    (batch,) = batches(images(long_side=20), batch_size=6)
    for image, segmentation in zip(batch["image"], batch["segmentation"], strict=True):
        assert seen_size(image) == (16, 20)
        shift = pixels(image)[:16, :20, 0] / 5 - segmentation[:16, :20].numpy()
        assert np.abs(shift).max() < 0.61
        assert (segmentation[16:] == 255).all()


RANDOM = {
    "crop": 24,
    "flip": True,
    "random_scale": [0.7, 1.3],
    "colour_jitter": [0.3, 0.3, 0.3, 0.1],
}


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_workers_do_not_change_the_batches(images):
    images = images(**RANDOM)
    assert_same(batches(images, epochs=2), batches(images, epochs=2, workers=1))


def test_resumed_batches_are_those_that_were_left(images):
    images = images(**RANDOM)
    assert_same(batches(images, epochs=2)[1:], batches(images, epochs=2, start=1))
    other = batches(images, epochs=2, seed=1)
    assert not torch.equal(batches(images, epochs=2)[0]["image"], other[0]["image"])


def test_reading_batches_leaves_the_random_numbers_of_training_alone(images):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(images(**RANDOM))
    assert torch.equal(torch.rand(3), expected)


def plain_sample(images, draw):
    """An item as one would first write it: each step takes the whole image, the crop comes last."""
    record, settings = images.records[draw.index], images.settings
    rng = np.random.default_rng(draw.key)
    image, maps = images.index.read_image(record), images.pseudo_labels.read(record.image_id).array
    factor = rng.uniform(*settings.random_scale)
    size = tuple(round(side * factor) for side in image.shape[:2])
    flip = rng.random() < 0.5
    top, left = (rng.integers(0, max(side - settings.crop, 0) + 1) for side in size)
    image = plain_jitter(resize_image(image, size), settings.colour_jitter, rng)
    image = (image.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    whole = {"image": image} | {name: resize_labels(maps[name], size) for name in maps}
    whole["saliency"] = (whole["saliency"] >= 128).astype(np.uint8)
    sample = {}
    for name, array in whole.items():
        array = (array[:, ::-1] if flip else array)[top:, left:][: settings.crop, : settings.crop]
        fill = 0 if name == "image" else settings.label_padding
        square = np.full((settings.crop, settings.crop, *array.shape[2:]), fill, array.dtype)
        square[: array.shape[0], : array.shape[1]] = array
        sample[name] = square
    return sample


def plain_jitter(image, strengths, rng):
    """By torchvision's definitions, in float32 on the whole image."""
    factors = [rng.uniform(1 - strength, 1 + strength) for strength in strengths[:3]]
    shift = rng.uniform(-strengths[3], strengths[3])
    values = np.clip(image.astype(np.float32) * factors[0], 0, 255)
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY).mean()
    values = np.clip(values * factors[1] + grey * (1 - factors[1]), 0, 255)
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = np.clip(values * factors[2] + grey * (1 - factors[2]), 0, 255)
    if strengths[3]:
        hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
        values = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.rint(values).astype(np.uint8)


@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_an_item_is_the_crop_of_what_is_made_of_the_whole_image(images, jitter):
    """Bit by bit; of jittered colours a value in a thousand may be rounded the other way."""
    images = images(**RANDOM | {"colour_jitter": [3 * jitter] * 3 + [jitter]})
    draws = [draw for batch in BatchPlan(len(images), 3, 8, seed=0) for draw in batch]
    differing = 0
    for draw in draws:
        found, expected = images[draw], plain_sample(images, draw)
        for name in ("segmentation", "saliency"):
            np.testing.assert_array_equal(found[name], expected[name])
        image = found["image"].permute(1, 2, 0).numpy()
        if not jitter:
            np.testing.assert_array_equal(image, expected["image"])
        steps = np.abs(image - expected["image"]) * 255 * np.float32(STD)
        assert steps.max() < 1.01
        differing += (steps > 0.5).sum()
    assert differing <= len(draws) * 24 * 24 * 3 / 1000


# --- augmentation


def test_colour_jitter_by_hand():
    image = np.random.default_rng(0).integers(40, 120, (8, 9, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(jitter_colours(image, image, [0, 0, 0, 0], rng), image)
    brighter = [jitter_colours(image, image, [0.3, 0, 0, 0], rng) / image for _ in range(40)]
    factors = [ratio.mean() for ratio in brighter]
    assert all(ratio.std() < 0.01 for ratio in brighter)
    assert 0.69 < min(factors) < 0.8 and 1.2 < max(factors) < 1.31
    grey = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_allclose(jitter_colours(grey, grey, [0, 0, 0.3, 0.1], rng), grey, atol=1)
    turned = jitter_colours(image, image, [0, 0, 0, 0.1], rng).astype(int)
    assert np.abs(turned - image).max() > 5
    # A turn of the hue keeps the largest and the smallest of the three colours.
    for extreme in (np.max, np.min):
        np.testing.assert_allclose(extreme(turned, axis=2), extreme(image, axis=2), atol=1)


def test_crop_reaches_every_corner():
    rng = np.random.default_rng(0)
    origins = {random_crop_origin((5, 2), 3, rng) for _ in range(100)}
    assert origins == {(0, 0), (1, 0), (2, 0)}


@pytest.mark.parametrize(
    ("flip", "expected"),
    [(False, [[4, 5, -1], [6, 7, -1], [8, 9, -1]]), (True, [[5, 4, -1], [7, 6, -1], [9, 8, -1]])],
)
def test_a_view_is_a_padded_square(flip, expected):
    array = np.arange(10).reshape(5, 2)
    view = View((5, 2), flip, (2, 0), 3)
    assert padded(view.of(array), 3, -1).tolist() == expected


class Unreadable(Dataset):
    """Items of which the third cannot be read."""

    def __len__(self):
        return 4

    def __getitem__(self, position):
        if position == 2:
            raise InputError("this one is damaged")
        return position


@pytest.fixture
def loading():
    return batches_of(DataLoader(Unreadable(), num_workers=1, worker_init_fn=ignore_stopping))


def test_loading_processes_end_with_the_batches(loading):
    next(loading)
    assert multiprocessing.active_children()
    loading.close()
    assert not multiprocessing.active_children()


def test_loading_processes_end_although_a_traceback_holds_on_to_them(loading):
    with pytest.raises(InputError, match="this one is damaged") as kept:
        list(loading)
    assert not multiprocessing.active_children()
    assert kept.tb
