"""How long a run takes on a CPU, before it runs: for the small network, which is made for one."""

from math import ceil

from wsss.configuration.resolve import variant_config
from wsss.configuration.sections import Configuration
from wsss.configuration.training_sections import Training
from wsss.datasets.index import DatasetIndex
from wsss.method.crf import crf_seconds

# Seconds of one core of a Xeon of 2023, at output stride 16 (docs/RESULTS.md, VOC animals).
SALIENCY = 0.62  # a photograph, U^2-Netp
CLASSIFYING = 1.5e-6  # a pixel of a training crop of the classifier
TRAINING = 2.5e-6  # the same of a stage
VIEWING = 1.4e-6  # a pixel of a view
FINER = 3.3  # times as much at output stride 8
UNSHRUNK = 500  # pixels of a long side where photographs are not shrunk: those of VOC


def run_seconds(config: Configuration, index: DatasetIndex) -> dict[str, float]:
    """Seconds of one core that the first variant takes with one seed, by kind of work.

    Nothing for other networks than efficientnet_lite0, and for GPUs: nobody has measured these.
    """
    own = variant_config(config, next(iter(config.variants)))
    if own.backbone.name != "efficientnet_lite0":
        return {}
    train, val = index.split("train"), index.split("val")
    predicted = len(val) * (own.stages - 1)
    predicted += sum(len(index.split(name)) for name in {"val", *config.prediction.splits})
    stride = FINER if own.backbone.output_stride == 8 else 1
    view = VIEWING * stride * 0.75 * (own.images.long_side or UNSHRUNK) ** 2
    views = sum(scale**2 for scale in own.prediction.scales) * (1 + own.prediction.flip)
    crf = [crf_seconds((r.height, r.width), own.prediction.crf) for r in index.records]
    return {
        "saliency": SALIENCY * len(train) * (own.saliency.source == "u2netp"),
        "classifier": CLASSIFYING * stride * _trained_pixels(own.classifier, len(train)),
        "training": TRAINING * stride * _trained_pixels(own.stage, len(train)) * own.stages,
        "maps": view * len(train) * own.stages,
        "predictions": view * views * predicted,
        "CRF": predicted * sum(crf) / max(1, len(crf)),
    }


def _trained_pixels(settings: Training, images: int) -> int:
    steps = settings.passes(images) * settings.steps_per_epoch(images)
    return steps * settings.batch_size * settings.crop**2


def readable_minutes(seconds: float) -> str:
    """Rounded up, as estimates are: 7 min, 2 h 10 min."""
    hours, minutes = divmod(ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
