"""The archive for VOC's evaluation server."""


rule make_voc_submission:
    input:
        **DATA_INPUT,
        test_images=TEST_IMAGES,
        labels=submitted_labels,
    output:
        "results/{dataset}/submission/{variant}_seed{seed}_stage{stage}.tar.gz",
    log:
        log_of_stage("voc_submission.log"),
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    shell:
        command(
            "--labels {input.labels}",
            "--output {output}",
            DATA,
            RUN,
        )
