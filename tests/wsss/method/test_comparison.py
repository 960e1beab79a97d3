"""Comparison of runs against scikit-learn, sums by hand and a bootstrap in plain loops."""

import csv

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from workflow_scripts import compare_runs
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.method.comparison import RESAMPLES, compare, count, image_weights, miou
from wsss.method.evaluation import score_table
from wsss.method.metrics import ConfusionMatrix
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog", "cow")


def random_truths(images, seed=0):
    """Masks of different sizes by image id; 0..3 and 255."""
    rng = np.random.default_rng(seed)
    return {
        f"image{i}": rng.choice([0, 1, 2, 3, 255], (9 + i % 5, 13)).astype(np.uint8)
        for i in range(images)
    }


def guesses(truths, share, seed):
    """Label maps by image id, right in about `share` of their pixels and random elsewhere."""
    rng = np.random.default_rng(seed)
    made = {}
    for image_id, truth in truths.items():
        noise = rng.integers(0, 4, truth.shape)
        right = (rng.random(truth.shape) < share) & (truth != 255)
        made[image_id] = np.where(right, truth, noise).astype(np.uint8)
    return made


def counted(truths, **runs):
    """`count` of runs given as seed -> label maps by image id."""
    label_maps = {
        name: {seed: maps.__getitem__ for seed, maps in seeds.items()}
        for name, seeds in runs.items()
    }
    return count(truths.items(), label_maps, len(CLASSES))


def two_runs(images=12, shares=(0.5, 0.6)):
    truths = random_truths(images)
    runs = {
        name: {seed: guesses(truths, share, 10 * i + seed) for seed in range(3)}
        for i, (name, share) in enumerate(zip(("first", "second"), shares, strict=True))
    }
    return counted(truths, **runs)


def mean_iou(overlaps):
    """Of single images, in percent; every class is there."""
    intersection, union = overlaps.sum(axis=0)
    return 100 * np.mean(intersection / union)


def test_overlaps_of_all_images_give_the_score_of_all_pixels():
    truths = random_truths(7)
    maps = guesses(truths, 0.5, seed=1)
    (overlaps,) = counted(truths, run={0: maps})["run"].values()
    assert overlaps.shape == (7, 2, 4) and overlaps.dtype == np.int64
    truth, guess = (np.concatenate([m.ravel() for m in d.values()]) for d in (truths, maps))
    known = truth != 255
    expected = 100 * jaccard_score(truth[known], guess[known], average="macro")
    assert miou(overlaps, np.ones((1, 7))) == pytest.approx([expected])


def test_scores_are_those_of_the_evaluation_to_the_last_digit():
    """A class that is nowhere is left out of the mean, one that is only predicted is not."""
    truths = {name: np.minimum(truth, 2) for name, truth in random_truths(5).items()}
    for most in (2, 3):
        maps = {n: np.minimum(m, most) for n, m in guesses(truths, 0.5, seed=1).items()}
        (overlaps,) = counted(truths, run={0: maps})["run"].values()
        pairs = [(truth, maps[name]) for name, truth in truths.items()]
        matrix = ConfusionMatrix(len(CLASSES))
        for truth, guess in pairs:
            matrix.update(guess, truth)
        expected = score_table(matrix, CLASSES)["iou"].iloc[-1]
        assert miou(overlaps, np.ones((1, 5)))[0] == expected


def test_a_mask_is_asked_for_once_for_all_runs():
    truths = random_truths(4)
    maps = {seed: guesses(truths, 0.5, seed) for seed in range(2)}
    asked = []

    def reading():
        for pair in truths.items():
            asked.append(pair[0])
            yield pair

    label_maps = {run: {s: m.__getitem__ for s, m in maps.items()} for run in "abc"}
    runs = count(reading(), label_maps, len(CLASSES))
    assert asked == list(truths)
    np.testing.assert_array_equal(runs["a"][1], runs["c"][1])


def one_image(percent):
    """Overlaps of one image and two classes, both with this IoU."""
    return np.array([[[percent, percent], [100, 100]]])


def test_differences_are_paired_by_seed():
    runs = {
        "first": {0: 50, 1: 40, 2: 60},
        "second": {0: 53, 1: 44, 2: 65},
        "fewer": {2: 57, 1: 41, 7: 99},
        "single": {1: 46},
        "apart": {8: 70, 9: 80},
    }
    runs = {n: {s: one_image(v) for s, v in seeds.items()} for n, seeds in runs.items()}
    table = compare(runs).set_index("run")
    assert list(table.index) == list(runs)
    columns = ["miou", "miou_std", "runs", "difference", "difference_std", "pairs", "low", "high"]
    assert list(table.columns) == columns
    nan = np.nan
    expected = {  # with one image every resample is the image itself
        "first": (50, 10, 3, 0, 0, 3, 0, 0),
        # Differences 3, 4, 5; the scores are 54 - 1, 54 - 10 and 54 + 11.
        "second": (54, np.sqrt(111), 3, 4, 1, 3, 4, 4),
        # Seeds 1 and 2: differences 1 and -3; squared distances to -1 are 4 each, over 2 - 1.
        "fewer": (197 / 3, np.std([57, 41, 99], ddof=1), 3, -1, np.sqrt(8), 2, -1, -1),
        "single": (46, nan, 1, 6, nan, 1, 6, 6),
        "apart": (75, np.sqrt(50), 2, nan, nan, 0, nan, nan),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table.loc[name].astype(float), values, atol=1e-9)


def test_resamples_draw_as_many_images_with_replacement():
    weights = image_weights(40)
    assert weights.shape == (RESAMPLES + 1, 40)
    assert (weights[0] == 1).all() and (weights.sum(axis=1) == 40).all()
    # Of a binomial of 40 draws with probability 1/40, in 40,000 of them.
    assert np.mean(weights[1:] == 0) == pytest.approx((39 / 40) ** 40, abs=0.01)
    assert weights[1:].var() == pytest.approx(39 / 40, abs=0.03)
    np.testing.assert_array_equal(weights, image_weights(40))


def test_the_interval_equals_plain_loops_with_the_same_draws():
    runs = two_runs()
    differences = []
    for weights in image_weights(12)[1:].astype(int):
        drawn = [image for image, times in enumerate(weights) for _ in range(times)]
        of_seeds = [
            mean_iou(np.stack([runs["second"][seed][image] for image in drawn]))
            - mean_iou(np.stack([runs["first"][seed][image] for image in drawn]))
            for seed in range(3)
        ]
        differences.append(sum(of_seeds) / 3)
    second = compare(runs).iloc[1]
    expected = np.percentile(differences, [2.5, 97.5])
    np.testing.assert_allclose([second["low"], second["high"]], expected)


def test_noise_is_told_from_a_difference():
    equal = compare(two_runs(images=60, shares=(0.5, 0.5))).iloc[1]
    assert equal["low"] < 0 < equal["high"]
    better = compare(two_runs(images=60, shares=(0.5, 0.6))).iloc[1]
    assert 0 < better["low"] < better["difference"] < better["high"]


def test_a_table_can_be_repeated():
    runs = two_runs()
    assert compare(runs).equals(compare(runs))


# --- the command


@pytest.fixture
def results(tmp_path):
    """Variant `plain` with seeds 0 and 1 has no refined maps, `full` with seeds 1 and 2 has all."""
    truths = random_truths(6)
    records = tuple(written_record(tmp_path, *pair) for pair in truths.items())
    index = DatasetIndex(tmp_path, CLASSES, (1, 2, 3), records)
    write_dataset(index, tmp_path / "set")
    for variant, seeds, share in (("plain", (0, 1), 0.5), ("full", (1, 2), 0.7)):
        for seed in seeds:
            write_run(tmp_path / "set", index, variant, seed, guesses(truths, share, seed))
    return tmp_path / "set"


def written_record(root, image_id, truth):
    """An image of val with its mask; image4 is not scored, and image5 has no mask."""
    mask = f"masks/{image_id}.png" if image_id != "image5" else None
    if mask:
        write_palette_png(root / mask, truth)
    height, width = truth.shape
    return ImageRecord(
        image_id, "val", image_id != "image4", "x.jpg", mask, width, height, ("cat",)
    )


def write_run(folder, index, variant, seed, maps):
    """Predictions of stage 0 in two shards; refined and crf maps are all background."""
    stage = folder / variant / f"seed{seed}" / "stage0"
    who = {"dataset": "set", "index_digest": index.digest, "classes": list(CLASSES)}
    who |= {"variant": variant, "seed": seed, "stage": 0, "split": "val"}
    for shard in range(2):
        ids = list(maps)[3 * shard :][:3]
        for kind in ("predictions", "predictions_crf"):
            path = stage / kind / f"val/shard{shard}.h5"
            about = {"identity": who, "parameters": {}, "sources": {}, "expected": ids}
            with ArtifactWriter(path, kind, **about) as writer:
                for image_id in ids:
                    empty = np.zeros_like(maps[image_id])
                    arrays = {"unrefined": maps[image_id]}
                    arrays |= {"refined": empty} if variant == "full" else {}
                    writer.write(image_id, arrays if kind == "predictions" else empty)


def compared(results, *runs, seeds=(0, 1, 2)):
    words = [results, "--runs", *runs, "--seeds", *seeds, "--output", results / "table.csv"]
    compare_runs.main([str(word) for word in words])
    with open(results / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_compares_what_is_there(results, capsys):
    names = ["plain/stage0/unrefined", "full/stage0/unrefined"]
    names += ["full/stage0/refined", "full/stage0/crf"]
    rows = compared(results, *names)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["run", *names]
    assert [row["run"] for row in rows] == names
    assert [(row["runs"], row["pairs"]) for row in rows] == [("2", "2"), *[("2", "1")] * 3]
    assert [row["difference_std"] for row in rows] == ["0.00", "", "", ""]
    truths = random_truths(6)
    plain = {seed: guesses(truths, 0.5, seed) for seed in (0, 1)}
    full = {seed: guesses(truths, 0.7, seed) for seed in (1, 2)}
    background = {name: np.zeros_like(truth) for name, truth in truths.items()}
    empty = {1: background, 2: background}
    scored = {name: truth for name, truth in truths.items() if name not in ("image4", "image5")}
    expected = compare(counted(scored, plain=plain, full=full, refined=empty, crf=empty))
    for row, (_, wanted) in zip(rows, expected.iterrows(), strict=True):
        for column in ("miou", "miou_std", "difference", "low", "high"):
            assert row[column] == f"{wanted[column]:.2f}"


def test_one_seed_has_no_deviation(results):
    (row,) = compared(results, "full/stage0/crf", seeds=[1])
    assert (row["runs"], row["miou_std"], row["difference_std"]) == ("1", "", "")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("full/stage0/best", r"full/stage0/best is not .* one of unrefined, refined, merged, crf"),
        ("full/seed0/stage0/crf", "is not VARIANT/stageN/KIND"),
        ("full/stage1/crf", r"full/stage1/crf: no .*stage1/predictions_crf/val/shard\*\.h5 of"),
        ("gone/stage0/refined", r"gone/stage0/refined: no .* of seed 0, 1, 2; make them"),
        ("plain/stage0/refined", "plain/stage0/refined: a network without affinity"),
    ],
)
def test_runs_that_are_not_there_are_refused_by_name(results, run, message):
    with pytest.raises(InputError, match=message) as error:
        compared(results, "full/stage0/unrefined", run)
    assert "\n" not in str(error.value)
    assert not (results / "table.csv").exists()


def test_without_ground_truth_there_is_nothing_to_compare(results):
    truths = random_truths(1)
    record = ImageRecord("image0", "val", True, "x.jpg", None, 13, 9, ())
    index = DatasetIndex(results, CLASSES, (1, 2, 3), (record,))
    folder = results / "unknown" / "set"
    write_dataset(index, folder)
    write_run(folder, index, "plain", 0, truths)
    with pytest.raises(InputError, match="no image of val has a mask"):
        compared(folder, "plain/stage0/unrefined")
