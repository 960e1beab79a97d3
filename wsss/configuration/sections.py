"""The configuration: each key with its type, range, default and description.

The sections that it consists of lie in four modules, so that a new key of the gallery is no change
of the code that trains. What users are told of a key (config.yaml, docs/configuration.md, the JSON
schema for editors) is made from here. A field without a default is set by a recipe of
`config/recipes`, or by the user.
"""

from typing import Annotated, Literal

from pydantic import Field

from wsss.configuration.data_sections import Dataset, Saliency
from wsss.configuration.key_types import Name, Positive, Section, Seed
from wsss.configuration.method_sections import Cam, Evaluation, Prediction, PseudoLabels, Refinement
from wsss.configuration.output_sections import Compute, Figures, Gallery, Masks, Resources
from wsss.configuration.training_sections import Backbone, Classifier, Images, Network, Stage


class Configuration(Section):
    """AuxSegNet workflow"""

    dataset: Dataset
    recipe: str = Field(description="the training values, a file of config/recipes")
    stages: Annotated[int, Field(ge=1, le=5)] = Field(
        description="number of training stages; 5 means stages 0..4"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = Field(
        (0,), description="training is repeated for each; tables show the mean"
    )
    variants: Annotated[dict[Name, dict], Field(min_length=1)] = Field(
        {"auxsegnet": {}},
        description="named overrides of network, stage, prediction and so on; saliency and"
        " classifier are names",
    )
    classifiers: dict[Name, dict] = Field(
        {"default": {}}, description="named overrides of backbone, classifier, cam, network.design"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto (a GPU if there is one), cuda (else fail) or cpu"
    )
    keep: Literal["all", "final"] = Field(
        "all", description="all, or final (intermediate maps are removed once used)"
    )
    shards: Positive = Field(1, description="files, and so jobs, per artifact and split")
    images: Images
    saliency: Saliency = Saliency()
    backbone: Backbone
    network: Network
    classifier: Classifier
    cam: Cam
    pseudo_labels: PseudoLabels
    stage: Stage
    refinement: Refinement = Refinement()
    prediction: Prediction
    evaluation: Evaluation = Evaluation()
    masks: Masks = Masks()
    figures: Figures = Figures()
    gallery: Gallery = Gallery()
    compute: Compute = Compute()
    resources: Resources = Resources()
