"""The configuration of a run that takes seconds."""

# As small as it can be: what is learnt from it is worth nothing, what lands where is. Values that
# tests change are set here, whatever the recipe has.
TINY_RUN = {
    "device": "cpu",
    "backbone": {"output_stride": 16},
    "classifier": {
        "epochs": 1,
        "least_images": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "crop": 64,
        "resize": {"long_side": [64, 96]},
    },
    "cam": {"scales": [1.0], "flip": False},
    "pseudo_labels": {"cam_threshold": 0.2, "saliency_crf": {"iterations": 1}},
    "stage": {
        "epochs": 1,
        "least_images": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "later_learning_rate": 0.005,
        "crop": 64,
    },
    "prediction": {"scales": [1.0], "flip": False, "crf": {"iterations": 10}},
    "compute": {"workers": 0},
    "resources": {kind: {"threads": 1} for kind in ("train", "infer", "crf", "index")},
}
TINY_DEMO = {"demo": {"train_images": 8, "val_images": 4, "size": [96, 64]}}
