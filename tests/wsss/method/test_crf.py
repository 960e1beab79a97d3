"""The dense CRF against mean-field updates written out, and its unaries by hand."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pydensecrf.densecrf as densecrf
import pytest
from pydensecrf.utils import unary_from_softmax

import wsss.method.crf
from wsss.configuration.method_sections import SALIENCY_CRF, SEGMENTATION_CRF, Crf
from wsss.datasets.index import ImageRecord
from wsss.method.crf import (
    PROCESS,
    crf_bytes,
    crf_processes,
    dense_crf,
    refine_saliency,
    refine_segmentation,
    saliency_unary,
)
from wsss.method.label_maps import label_map_of

# CRF_d of the paper's equation 1, by DSS's settings, and DeepLab's CRF of section 4.1.
SALIENCY = {
    "iterations": 1,
    "gaussian_sxy": 3,
    "gaussian_compat": 3,
    "bilateral_sxy": 60,
    "bilateral_srgb": 5,
    "bilateral_compat": 5,
}
TEST = SALIENCY | {
    "iterations": 10,
    "gaussian_sxy": 4,
    "bilateral_sxy": 83,
    "bilateral_compat": 3,
}


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def kernel(features):
    """Gaussian of all pairs of pixels (also with themselves), normalised on both sides."""
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    weights = np.exp(-distances / 2)
    norm = 1 / np.sqrt(weights.sum(axis=1))
    return norm[:, None] * weights * norm


def mean_field(image, unary, settings):
    """Krähenbühl and Koltun, algorithm 1, with exact sums over all pairs of pixels."""
    labels, height, width = unary.shape
    places = np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2)
    colours = image.reshape(-1, 3) / settings["bilateral_srgb"]
    smoothness = kernel(places / settings["gaussian_sxy"])
    appearance = kernel(np.hstack([places / settings["bilateral_sxy"], colours]))
    energy = unary.reshape(labels, -1).astype(float)
    marginals = softmax(-energy)
    for _ in range(settings["iterations"]):
        messages = settings["gaussian_compat"] * marginals @ smoothness
        messages += settings["bilateral_compat"] * marginals @ appearance
        marginals = softmax(messages - energy)
    return marginals.reshape(unary.shape)


def two_colours(rng, height=6, width=7):
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, : width // 2] = 60
    return image + rng.integers(0, 9, image.shape, dtype=np.uint8)


def random_unary(rng, labels=3, height=6, width=7):
    probabilities = rng.dirichlet(np.ones(labels), (height, width)).transpose(2, 0, 1)
    return -np.log(probabilities).astype(np.float32)


def mean_distance(settings, reference_settings, cases=8):
    """Mean absolute difference of the marginals over random images."""
    distances = []
    for seed in range(cases):
        rng = np.random.default_rng(seed)
        image, unary = two_colours(rng), random_unary(rng)
        reference = mean_field(image, unary, reference_settings)
        distances.append(np.abs(dense_crf(image, unary, Crf(**settings)) - reference).mean())
    return np.mean(distances)


def test_one_update_equals_mean_field():
    """The library's lattice filters are approximate: near it, and nearer than to anything else."""
    distance = mean_distance(SALIENCY, SALIENCY)
    assert distance < 0.01
    for other in (
        {"gaussian_compat": 0},
        {"bilateral_compat": 0},
        {"gaussian_compat": 5, "bilateral_compat": 3},
        {"bilateral_srgb": 20},
        {"gaussian_sxy": 1},
        {"iterations": 0},
        {"iterations": 2},
    ):
        assert mean_distance(SALIENCY, SALIENCY | other) > 2 * distance, other


def test_ten_weak_updates_equal_mean_field():
    weak = TEST | {"gaussian_sxy": 1, "gaussian_compat": 0.5, "bilateral_compat": 1}
    weak |= {"bilateral_sxy": 4, "bilateral_srgb": 20}
    distance = mean_distance(weak, weak)
    assert distance < 0.006
    assert mean_distance(weak, weak | {"iterations": 1}) > 2 * distance


def test_without_iterations_it_is_the_softmax():
    rng = np.random.default_rng(0)
    unary = random_unary(rng, labels=4)
    marginals = dense_crf(two_colours(rng), unary, Crf(**(TEST | {"iterations": 0})))
    assert marginals.shape == (4, 6, 7) and marginals.dtype == np.float32
    np.testing.assert_allclose(marginals, softmax(-unary), atol=1e-6)


def test_marginals_sum_to_one():
    rng = np.random.default_rng(0)
    marginals = dense_crf(two_colours(rng), random_unary(rng), Crf(**TEST))
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.06, 0.3, 0.5, 0.9, 1.0])
def test_saliency_unary_is_the_formula(p):
    background, foreground = saliency_unary(np.full((2, 3), p, np.float32))[:, 1, 2]

    def energy(q):  # the unary of DSS's CRF, which the paper's equation 1 takes
        return -math.log(q + 1e-8) / (1.05 / (1 + math.exp(-q)))

    assert background == pytest.approx(energy(1 - p), rel=1e-4, abs=1e-6)
    assert foreground == pytest.approx(energy(p), rel=1e-4, abs=1e-6)


def noisy_photograph():
    """A dark square on a light ground, and a map of it with a fifth of the pixels wrong."""
    rng = np.random.default_rng(0)
    truth = np.zeros((48, 64), bool)
    truth[12:36, 20:50] = True
    image = np.where(truth[..., None], 70, 180) + rng.integers(-4, 5, (48, 64, 3))
    wrong = rng.random(truth.shape) < 0.2
    return image.astype(np.uint8), truth, np.where(truth ^ wrong, 0.8, 0.2).astype(np.float32)


def iou(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def test_a_saliency_that_rounding_put_above_1_is_1():
    above = np.nextafter(np.float32(1), np.float32(2))
    unary = saliency_unary(np.array([[above, -1e-7]]))
    np.testing.assert_array_equal(unary, saliency_unary(np.array([[1.0, 0.0]])))


def test_saliency_crf_gives_the_foreground_and_cleans_it():
    image, truth, noisy = noisy_photograph()
    assert iou(noisy > 0.5, truth) < 0.7
    cleaned = refine_saliency(image, noisy, Crf(**SALIENCY))
    assert cleaned.shape == truth.shape
    assert iou(cleaned > 0.5, truth) > 0.95


def test_segmentation_crf_cleans_the_right_class():
    image, truth, noisy = noisy_photograph()
    probabilities = np.stack([1 - noisy, np.zeros_like(noisy), noisy])
    labels = refine_segmentation(image, probabilities, Crf(**TEST)).argmax(axis=0)
    assert iou(labels == 2, truth) > 0.98
    assert iou(labels == 0, ~truth) > 0.98


def test_unary_of_the_test_crf_is_that_of_the_library(monkeypatch):
    seen = []
    monkeypatch.setattr(wsss.method.crf, "dense_crf", lambda image, unary, _: seen.append(unary))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5)).transpose(2, 0, 1)
    probabilities[0, :2] = 0.0
    refine_segmentation(np.zeros((4, 5, 3), np.uint8), probabilities)
    assert seen[0].dtype == np.float32
    np.testing.assert_allclose(
        seen[0].reshape(3, -1), unary_from_softmax(probabilities), rtol=1e-5, atol=1e-6
    )
    assert seen[0].max() == pytest.approx(-math.log(1e-5))


def test_defaults_are_those_of_the_field():
    image, _, noisy = noisy_photograph()
    two = np.stack([1 - noisy, noisy])
    assert np.array_equal(
        refine_saliency(image, noisy), refine_saliency(image, noisy, Crf(**SALIENCY))
    )
    assert np.array_equal(
        refine_segmentation(image, two), refine_segmentation(image, two, Crf(**TEST))
    )
    found = [crf.model_dump(exclude={"long_side"}) for crf in (SALIENCY_CRF, SEGMENTATION_CRF)]
    assert found == [SALIENCY, TEST]


def test_no_label_is_left_out():
    """21 labels, most of them improbable everywhere: the library over all of them."""
    image, _, noisy = noisy_photograph()
    rest = np.random.default_rng(1).dirichlet(np.full(19, 0.05), noisy.shape).transpose(2, 0, 1)
    probabilities = np.concatenate([[0.9 * noisy, 0.9 * (1 - noisy)], 0.1 * rest])
    probabilities = probabilities.astype(np.float32)
    field = densecrf.DenseCRF2D(64, 48, 21)
    field.setUnaryEnergy(unary_from_softmax(probabilities))
    field.addPairwiseGaussian(sxy=4, compat=3)
    field.addPairwiseBilateral(sxy=83, srgb=5, rgbim=image, compat=3)
    expected = np.array(field.inference(10)).reshape(21, 48, 64)
    marginals = refine_segmentation(image, probabilities)
    assert marginals.shape == probabilities.shape
    np.testing.assert_allclose(marginals, expected, atol=1e-4)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"uint8 image of \(4, 6, 3\)"):
        refine_saliency(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 6), np.float32))
    with pytest.raises(ValueError, match="float64"):
        refine_segmentation(np.zeros((4, 5, 3)), np.zeros((2, 4, 5), np.float32))


# --- large photographs


def test_a_large_photograph_is_shrunk_and_its_marginals_enlarged():
    image, _, noisy = noisy_photograph()
    crf = Crf(**TEST, long_side=64)
    large = cv2.resize(image, (192, 144), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(large, (64, 48), interpolation=cv2.INTER_AREA)
    noisy = noisy.astype(np.float32)
    probabilities = np.stack([noisy, 1 - noisy])
    at_64 = refine_segmentation(small, probabilities, crf)
    expected = [cv2.resize(m, (192, 144), interpolation=cv2.INTER_LINEAR) for m in at_64]
    found = refine_segmentation(large, probabilities, crf)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    labels = label_map_of(large, probabilities, [0, 7], crf)
    np.testing.assert_array_equal(labels, np.array([0, 7])[np.argmax(expected, axis=0)])
    saliency = refine_saliency(large, cv2.resize(noisy, (192, 144)), crf)
    assert saliency.shape == (144, 192)


@pytest.mark.parametrize("long_side", [64, 65, None])
def test_what_is_not_longer_is_left_as_it_is(long_side):
    image, _, noisy = noisy_photograph()
    whole = refine_saliency(image, noisy, Crf(**SALIENCY, long_side=None))
    found = refine_saliency(image, noisy, Crf(**SALIENCY, long_side=long_side))
    np.testing.assert_array_equal(found, whole)


# In a process of its own, since a peak is that of a process: bytes above those before.
PEAK = """
import re, sys
from pathlib import Path
import numpy as np
from wsss.method.crf import refine_segmentation
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
labels, noise = map(int, sys.argv[1:])
random = np.random.default_rng(0)
refine_segmentation(np.zeros((8, 8, 3), np.uint8), np.full((2, 8, 8), 0.5))
rows, columns = np.mgrid[:600, :800]
image = np.stack([rows // 3, columns // 4, (rows + columns) // 8], axis=2)
image = np.clip(image + random.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
probabilities = np.full((labels, 600, 800), 1 / labels, np.float32)
before = peak()
refine_segmentation(image, probabilities)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc")
@pytest.mark.parametrize(("labels", "noise"), [(2, 12), (4, 12)])
def test_the_estimate_of_memory_holds(labels, noise):
    words = [sys.executable, "-c", PEAK, str(labels), str(noise)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    estimate = crf_bytes((600, 800), SEGMENTATION_CRF, labels) - PROCESS
    assert estimate / 2 < int(done.stdout) < estimate


def records(*sizes):
    return [ImageRecord(f"{w}x{h}", "train", False, "", None, w, h, ()) for w, h in sizes]


def test_the_largest_photograph_and_the_memory_decide_how_many_are_under_way():
    crf = SEGMENTATION_CRF.model_copy(update={"long_side": None})
    phone = records((500, 375), (4000, 3000))
    needed = crf_bytes((3000, 4000), crf, 4) / 1e6
    assert 3600 < needed < 5000  # MB; 3,600 were seen
    assert crf_processes(phone, crf, 16, int(2 * needed) + 1, 4) == 2
    assert crf_processes(phone, crf, 16, int(needed / 2), 4) == 1
    assert crf_processes(phone, crf, 16, None, 4) == 16
    assert crf_processes(phone[:1], crf, 16, 16000, 4) == 16
    assert crf_processes([], crf, 16, 16000, 4) == 16
    assert crf_processes(phone, SEGMENTATION_CRF, 16, 16000, 4) > 4 * 16000 // int(needed) / 2


# In a process of its own: what is to be shown is that it does not crash.
CORNERS = """
import json, sys
import numpy as np
from wsss.configuration.method_sections import Crf
from wsss.method.crf import refine_segmentation
random = np.random.default_rng(0)
for height, width in ((8, 3000), (60, 90)):
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    probabilities = random.dirichlet(np.ones(3), (height, width)).transpose(2, 0, 1)
    for settings in json.loads(sys.argv[1]):
        marginals = refine_segmentation(image, probabilities, Crf(iterations=1, **settings))
        assert np.isfinite(marginals).all(), settings
print("all are finite")
"""


def test_the_limits_of_the_configuration_crash_nothing():
    """With a reach of 1e-6 pydensecrf writes to memory that is not its own."""
    parts = Crf.model_json_schema()["properties"]
    reaches = [key for key in parts if key not in ("iterations", "long_side")]
    limits = {key: (parts[key]["minimum"], 1e4) for key in reaches}
    corners = [
        dict(zip(limits, values, strict=True)) for values in itertools.product(*limits.values())
    ]
    done = subprocess.run(
        [sys.executable, "-c", CORNERS, json.dumps(corners)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all are finite\n"), done.stderr
