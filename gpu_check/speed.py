"""Training steps: images a second, memory, what waits for the loader, what waits for the GPU."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing

import torch

from gpu_check.answers import Answer
from gpu_check.material import Material
from wsss.storage.artifacts import ArtifactReader
from wsss.training.batches import BatchPlan, TrainingImages, batch_loader, batches_of
from wsss.training.loop import Hardware, Trainer

OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)


def answers(material: Material) -> Iterator[Answer]:
    """Precisions and layouts; larger batches; the loader; synchronisations."""
    for precision in material.size.precisions:
        for channels_last in (False, True):
            yield _layout(material, precision, channels_last)
    for precision in ("fp32", "bf16"):
        yield _batches(material, precision)
    for precision in ("fp32", "bf16"):
        yield _loader(material, precision)
    for precision in ("fp32", "fp16"):
        yield _synchronisations(material, precision)


def _layout(material: Material, precision: str, channels_last: bool) -> Answer:
    layout = "channels-last" if channels_last else "channels-first"
    size = material.size
    figures = _measured(material, precision, channels_last, size.batch)
    return Answer(
        f"training, crop {size.crop}, batch {size.batch}, {precision}, {layout}",
        _in_words(figures),
        figures=figures,
    )


def _batches(material: Material, precision: str) -> Answer:
    """Twice as many images a step until memory ends."""
    size, images, found = material.size, material.size.batch, {}
    while images < size.most_images:
        images *= 2
        try:
            found[images] = _measured(material, precision, False, images)
        except OUT_OF_MEMORY:
            break
    said = [f"{images}: {_in_words(figures)}" for images, figures in found.items()]
    end = f"no memory for {images}" if images not in found else f"{images} was the last tried"
    figures = {str(images): figures for images, figures in found.items()}
    return Answer(f"training, larger batches, {precision}", "; ".join([*said, end]), None, figures)


def trainer(material: Material, precision: str, channels_last: bool = False) -> Trainer:
    """The product's own training loop; nothing is saved."""
    settings = material.settings.stage.model_copy(update={"precision": precision})
    hardware = Hardware(material.device, channels_last)
    return Trainer(material.network().train(), settings, hardware, states=None)


def _measured(
    material: Material, precision: str, channels_last: bool, images: int
) -> dict[str, float]:
    """Images a second, and the peak of memory in GB (None on a CPU)."""
    runs = trainer(material, precision, channels_last)
    batch = material.batch(images, material.size.crop)
    on_gpu = material.device.type == "cuda"
    # As many images under the clock whatever the batch, but two steps at least.
    steps = max(2, material.size.steps * material.size.batch // images)
    for _ in range(min(material.size.warm_up, steps - 1)):
        runs.step(batch)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(material.device)
    seconds = _seconds_of(material, lambda: runs.step(batch), steps)
    peak = torch.cuda.max_memory_allocated(material.device) / 2**30 if on_gpu else None
    return {"images_per_second": images * steps / seconds, "peak_gb": peak}


def _seconds_of(material: Material, step: Callable[[], object], steps: int) -> float:
    synchronise(material.device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(material.device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _in_words(figures: dict) -> str:
    speed = f"{figures['images_per_second']:.1f} img/s"
    return speed if figures["peak_gb"] is None else f"{speed}, {figures['peak_gb']:.1f} GB"


def _loader(material: Material, precision: str) -> Answer:
    """How much of a step is waiting for images: against the same steps on a batch that is there."""
    runs = trainer(material, precision)
    batch = material.batch(material.size.batch, material.size.crop)
    for _ in range(material.size.warm_up):
        runs.step(batch)
    alone = _seconds_of(material, lambda: runs.step(batch), material.size.steps)
    shares = {}
    for workers in material.size.workers:
        with closing(_batches_of_photographs(material, workers)) as batches:
            for _ in range(material.size.warm_up):
                runs.step(next(batches))
            whole = _seconds_of(
                material, lambda read=batches: runs.step(next(read)), material.size.steps
            )
        shares[str(workers)] = max(0.0, 1 - alone / whole)
    said = ", ".join(f"{number} workers {share:.0%}" for number, share in shares.items())
    return Answer(f"share of a step that waits for the loader, {precision}", said, None, shares)


def _batches_of_photographs(material: Material, workers: int):
    """Endless enough: as many epochs as the steps need."""
    settings, backbone = material.settings.stage, material.network().backbone
    labels = ArtifactReader(material.pseudo_labels, "pseudo_labels")
    images = TrainingImages(material.index, backbone.mean, backbone.std, settings, None, labels)
    steps = material.size.warm_up + material.size.steps
    epochs = 1 + steps * material.size.batch // len(images)
    plan = BatchPlan(len(images), material.size.batch, epochs, seed=0)
    yield from batches_of(batch_loader(images, plan, workers, material.device.type == "cuda"))


def _synchronisations(material: Material, precision: str) -> Answer:
    """Places inside a step where the CPU waits for the GPU. fp16 has one: its scaler's look."""
    question = f"synchronisations inside a step, {precision}"
    if material.device.type != "cuda":
        return Answer(question, "only a GPU has them")
    runs = trainer(material, precision)
    batch = material.batch(material.size.batch, material.size.crop)
    runs.step(batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [f"{w.filename}:{w.lineno}" for w in caught if "synchroni" in str(w.message)]
    allowed = 1 if precision == "fp16" else 0
    said = f"{len(places)}" + (f" ({', '.join(sorted(set(places)))})" if places else "")
    return Answer(question, said, len(places) <= allowed, {"places": places})
