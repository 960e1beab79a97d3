"""What a dry run of the demo is expected to list: rule -> number of jobs."""

DEMO = "results/demo"
RUN = f"{DEMO}/auxsegnet/seed0"
DATA = {"index_dataset": 1, "predict_saliency": 1}
CLASSIFIER = {**DATA, "train_classifier": 1, "extract_cams": 1}


def stage_jobs(number, scored=1):
    """Jobs per rule for `number` stages of which `scored` are scored."""
    jobs = {
        "make_pseudo_labels": number,
        "train_stage": number,
        "refine_cams": number - 1,
        "evaluate_pseudo_labels": scored,
        "segment": scored,
        "segment_crf": scored,
        "evaluate_segmentation": scored,
    }
    return {rule: count for rule, count in jobs.items() if count}


END_OF_STAGES = {"draw_strip": 1, "make_gallery": 1, "summarise": 1, "all": 1}
END = {"draw_curves": 1, **END_OF_STAGES}
FROM_STAGE_1 = {
    "train_stage": 1,
    "segment": 2,
    "segment_crf": 2,
    "evaluate_segmentation": 1,
    "draw_curves": 1,
    **END_OF_STAGES,
}
FROM_STAGE_0 = {
    **FROM_STAGE_1,
    "train_stage": 2,
    "refine_cams": 2,
    "make_pseudo_labels": 2,
    "evaluate_pseudo_labels": 1,
    "segment": 4,
    "segment_crf": 4,
    "evaluate_segmentation": 2,
}
ALL_LABELS = {**FROM_STAGE_0, "make_pseudo_labels": 4, "evaluate_pseudo_labels": 2}
