"""Labels and scores: the update of a stage, the test CRF, evaluation."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from benchmarks.material import Bench
from benchmarks.timing import Row, Way, compare
from wsss.configuration.method_sections import SEGMENTATION_CRF
from wsss.method.cam import normalise, refine, resize
from wsss.method.crf import refine_saliency
from wsss.method.inference import Viewer, refined_maps, saliency_probability, sparse_probabilities
from wsss.method.label_maps import label_map_of
from wsss.method.pseudo_labels import fuse, make_pseudo_labels
from wsss.method.scores import Scores, score_image
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter

KEYS = [0, 1]  # ids of the classes that an image is said to hold
NOTHING = {"identity": {}, "parameters": {}, "sources": {}}
Labels = list[tuple[np.ndarray, np.ndarray]]  # saliency and segmentation of each image


def rows(bench: Bench) -> Iterator[Row]:
    """The update of a stage, two photographs under the test CRF, scores."""
    size = bench.size
    says = "plain network; .npy of all classes, float32 at full size; CRF, fusion; PNG"
    viewers = [Viewer(bench.network(p).eval(), torch.device("cpu"), 320) for p in (True, False)]
    plain = Way(says, lambda: plain_update(bench, viewers[0]), size.updated)
    says = "this network; float16 of the image's classes on its grid; CRF, fusion; HDF5"
    ours = Way(says, lambda: update(bench, viewers[1]), size.updated)
    yield compare("label update of a stage, an image", "ms", plain, ours, size.slow_rounds)
    yield _crf_of_labels(bench)
    yield _crf_at_size(bench)
    yield _evaluation(bench)


def plain_update(bench: Bench, viewer: Viewer) -> Labels:
    """As the released `infer_AuxAff.py` and `gen_pgt.py`, through the files between them."""
    settings, path, updated = bench.config.pseudo_labels, f"{bench.folder}/plain_update", []
    thresholds = (settings.cam_threshold, settings.saliency_threshold)
    for record in bench.records[: bench.size.updated]:
        image = bench.index.read_image(record)
        with torch.inference_mode():
            output = viewer.run(image)
            cams = resize(refine(normalise(output.cams), output.affinity), image.shape[:2])
            refined = resize(saliency_probability(viewer.network, output), image.shape[:2])
        np.save(f"{path}.npy", cams[0].numpy())
        cv2.imwrite(f"{path}.png", np.rint(refined[0, 0].numpy() * 255).astype(np.uint8))
        cams, refined = np.load(f"{path}.npy"), cv2.imread(f"{path}.png", cv2.IMREAD_GRAYSCALE)
        original = bench.labels.read(record.image_id).array["saliency"] / 255
        saliency = refine_saliency(image, (refined / 255 + original) / 2, settings.saliency_crf)
        segmentation = fuse(cams[KEYS], KEYS, original, *thresholds)
        updated.append((np.rint(saliency * 255).astype(np.uint8), segmentation))
        for name, labels in zip(("saliency", "segmentation"), updated[-1], strict=True):
            cv2.imwrite(f"{path}_{name}.png", labels)
    return updated


def update(bench: Bench, viewer: Viewer) -> Labels:
    """As the jobs `refine_cams` and `make_pseudo_labels`."""
    records, updated = bench.records[: bench.size.updated], []
    expected = [record.image_id for record in records]
    with ArtifactWriter(bench.folder / "cams.h5", "cams", **NOTHING, expected=expected) as artifact:
        for record in records:
            maps = refined_maps(viewer, bench.index.read_image(record), KEYS, [1.0], False)
            artifact.write(record.image_id, dict(zip(("cams", "refined"), maps, strict=True)))
    maps = ArtifactReader(bench.folder / "cams.h5")
    path = bench.folder / "updated.h5"
    with ArtifactWriter(path, "pseudo_labels", **NOTHING, expected=expected) as artifact:
        for record in records:
            found = maps.read(record.image_id).array
            cams, refined = (found[name].astype(np.float32) for name in ("cams", "refined"))
            original = bench.labels.read(record.image_id).array["saliency"]
            image, settings = bench.index.read_image(record), bench.config.pseudo_labels
            updated.append(make_pseudo_labels(image, cams, KEYS, original, refined, settings))
            names = ("saliency", "segmentation")
            artifact.write(record.image_id, dict(zip(names, updated[-1], strict=True)))
    return updated


def probabilities(bench: Bench) -> np.ndarray:
    """Of VOC's 21 classes for the first image, (21, h, w) at stride 8; three of them matter."""
    height, width = bench.image.shape[:2]
    brightness = cv2.resize(bench.image, (width // 8, height // 8)).transpose(2, 0, 1) / 255
    maps = np.full((21, *brightness.shape[1:]), 1e-4, np.float32)
    maps[:3] = brightness + 0.01
    return maps / maps.sum(axis=0)


def _crf_of_labels(bench: Bench) -> Row:
    maps = probabilities(bench)
    kept, labels = sparse_probabilities(maps)
    crf = SEGMENTATION_CRF
    return compare(
        f"test CRF of a photograph of {max(bench.image.shape)} pixels",
        "ms",
        Way("over all 21 labels", lambda: label_map_of(bench.image, maps, range(21), crf)),
        Way(
            f"over the {len(labels)} that matter in it",
            lambda: label_map_of(bench.image, kept, labels, crf),
        ),
        bench.size.slow_rounds,
    )


def _crf_at_size(bench: Bench) -> Row:
    width, height = bench.size.large
    image, side = cv2.resize(bench.image, (width, height)), 3 * width // 4
    kept, labels = sparse_probabilities(probabilities(bench))
    whole, shrunk = (
        SEGMENTATION_CRF.model_copy(update={"long_side": long_side}) for long_side in (None, side)
    )
    return compare(
        f"test CRF of a photograph of {width}x{height}",
        "s",
        Way("whole", lambda: label_map_of(image, kept, labels, whole)),
        Way(f"shrunk to {side} for it", lambda: label_map_of(image, kept, labels, shrunk)),
        bench.size.slow_rounds,
    )


def _evaluation(bench: Bench) -> Row:
    index, count, path = bench.drawn, len(bench.drawn.records), bench.folder / "predicted.h5"
    expected = [record.image_id for record in index.records]
    with ArtifactWriter(path, "predictions_crf", **NOTHING, expected=expected) as artifact:
        for record in index.records:
            artifact.write(record.image_id, np.roll(index.read_mask(record), 7, axis=1))
    reader = ArtifactReader(path)

    def decode() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for record in index.records:
            image_id = record.image_id
            yield image_id, reader.read(image_id).array, index.read_mask(record)

    def score() -> None:
        scores = Scores(len(index.classes))
        for image_id, *maps in decode():
            scores.add(image_id, score_image(*maps, len(index.classes)))

    alone = Way("decoding masks and predictions alone", lambda: list(decode()), count)
    ours = Way("scores of pixels, boundaries, objects, too", score, count)
    return compare("evaluation", "img/s", alone, ours, bench.size.rounds)
