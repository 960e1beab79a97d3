"""AuxSegNet: classification, saliency and segmentation with a learned cross-task affinity.

Xu et al., "Leveraging Auxiliary Tasks with Affinity Learning for Weakly Supervised Semantic
Segmentation", ICCV 2021. The names of its layers in the released code are in `model.weights`.

Shapes: B images, C object classes, feature maps of h x w, N = h * w tokens, D channels.
"""

from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from model.affinity import (
    AffinitySource,
    BlockAffinity,
    CrossTaskAttention,
    NonLocal,
    apply_affinity,
)
from model.backbones import create_backbone
from model.designs import DESIGNS, NetworkDesign
from model.precision import at_least_float32

# Paper, table 3. `cls` alone is the network of the classification pre-training.
BRANCHES = {
    "cls": {"cls"},
    "seg": {"seg"},
    "seg_cls": {"seg", "cls"},
    "seg_sal": {"seg", "sal"},
    "all": {"seg", "cls", "sal"},
}
# Paper, table 4: which affinity refines which predictions.
AFFINITIES = {
    "none": (),
    "segmentation": ("seg",),
    "cross_task_segmentation": ("seg",),
    "cross_task": ("seg", "sal"),
}

ATTENTION_STARTS = ("random", "similarity")

AffinityForm = Literal["full", "blocks"] | None


class AuxSegNetOutput(NamedTuple):
    """What the network says of a batch; None for what is switched off.

    class_logits (B, C) and cams (B, C, h, w) are raw. saliency (B, 1, h, w) and segmentation
    (B, C + 1, h, w) are logits. The refined maps are logits in design `official` and
    probabilities in design `paper`. affinity is (B, N, N) or a `BlockAffinity`.
    """

    class_logits: torch.Tensor | None
    cams: torch.Tensor | None
    saliency: torch.Tensor | None
    refined_saliency: torch.Tensor | None
    segmentation: torch.Tensor | None
    refined_segmentation: torch.Tensor | None
    affinity: torch.Tensor | BlockAffinity | None


class DenseBranch(nn.Module):
    """A branch that predicts a map, for segmentation or saliency (paper, figures 2 and 3).

    Args:
        inputs: channels of the backbone.
        channels: D.
        outputs: channels of the map.
        design: of the network.
        affinity: whether the branch learns one, by which its features are enhanced.
    """

    def __init__(
        self, inputs: int, channels: int, outputs: int, design: NetworkDesign, affinity: bool
    ):
        super().__init__()
        self.conv1 = _conv3x3(inputs, channels, rate=6)
        self.conv2 = _conv3x3(channels, channels, rate=12)
        self.conv3 = _conv3x3(channels, channels, rate=18) if design.third_conv else None
        self.classifier = nn.Conv2d(channels, outputs, 1, bias=False)
        self.attention = NonLocal(channels, design.output_projection) if affinity else None

    def initialise(self, attention_start: str) -> None:
        """Xavier for the convolutions, as in the released code."""
        for layer in (self.conv1, self.conv2, self.conv3, self.classifier):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
        if self.attention is not None and attention_start == "similarity":
            self.attention.start_from_similarity()

    def forward(
        self, features: torch.Tensor, whole: bool
    ) -> tuple[torch.Tensor, AffinitySource | None]:
        """Features of the backbone -> logits (B, outputs, h, w), and the source of the affinity.

        `whole` and the source: see `NonLocal.forward`; None without an affinity.
        """
        x = F.relu(self.conv1(features))  # (B, D, h, w)
        x = F.relu(self.conv2(x))  # F_in
        source = None
        if self.attention is not None:
            x, source = self.attention(x, whole)  # F_out, equations 2-3
        if self.conv3 is not None:
            x = F.relu(self.conv3(x))
        return self.classifier(x), source


def _conv3x3(inputs: int, outputs: int, rate: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate)


class AuxSegNet(nn.Module):
    """The network of figure 2 of the paper.

    Args:
        num_classes: C, object classes without background.
        backbone: a name of `model.backbones.BACKBONES`.
        design: `paper` or `official`, see `model.designs`.
        output_stride: of the backbone.
        branches: a key of `BRANCHES`.
        affinity: a key of `AFFINITIES`.
        decoder_channels: D, channels of the dense branches.
        attention_start: initial weights of the affinities: "random" as released, or "similarity"
            (see `NonLocal.start_from_similarity`), which short training needs.

    Raises:
        ValueError: an unknown name, or an affinity that needs a branch that is off.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet38",
        design: str = "paper",
        *,
        output_stride: int = 8,
        branches: str = "all",
        affinity: str = "cross_task",
        decoder_channels: int = 128,
        attention_start: str = "random",
    ):
        super().__init__()
        _check_names(design, branches, affinity, attention_start)
        _check_switches(num_classes, branches, affinity)
        self.design = DESIGNS[design]
        self.branches, self.refined = BRANCHES[branches], AFFINITIES[affinity]
        self.backbone = create_backbone(backbone, output_stride=output_stride)
        inputs, cross_task = self.backbone.channels, affinity.startswith("cross_task")

        def dense_branch(outputs: int, affinity: bool) -> DenseBranch:
            return DenseBranch(inputs, decoder_channels, outputs, self.design, affinity)

        self.fc8 = self.seg = self.sal = self.cross_attention = None
        if "cls" in self.branches:
            self.dropout = nn.Dropout2d(self.design.classifier_dropout)
            self.fc8 = nn.Conv2d(inputs, num_classes, 1, bias=False)
        if "seg" in self.branches:
            self.seg = dense_branch(num_classes + 1, affinity != "none")
        if "sal" in self.branches:
            self.sal = dense_branch(1, cross_task)
        if cross_task:
            self.cross_attention = CrossTaskAttention()
        self._initialise(attention_start)

    def _initialise(self, attention_start: str) -> None:
        """After all layers are made: what a seed gives hangs on the order of the draws."""
        if self.fc8 is not None:
            nn.init.xavier_uniform_(self.fc8.weight)
        for branch in (self.seg, self.sal):
            if branch is not None:
                branch.initialise(attention_start)

    def forward(self, images: torch.Tensor, affinity: AffinityForm = "full") -> AuxSegNetOutput:
        """Normalised images (B, 3, H, W) -> `AuxSegNetOutput`.

        `affinity` says how the affinity is made and returned: "full" as one (B, N, N) tensor,
        "blocks" as a `BlockAffinity` (memory of a few row blocks), None not at all; then the
        refined maps are None too.
        """
        if affinity not in ("full", "blocks", None):
            raise ValueError(f"affinity must be 'full', 'blocks' or None, not {affinity!r}")
        features = self.backbone(images)
        class_logits, cams = self._classify(features)
        segmentation, seg_source = _predict(self.seg, features, affinity)
        saliency, sal_source = _predict(self.sal, features, affinity)
        matrix = self._affinity({"seg": seg_source, "sal": sal_source}, affinity)
        refined_sal = self._refine("sal", saliency, matrix, torch.sigmoid)
        refined_seg = self._refine("seg", segmentation, matrix, _softmax_classes)
        return AuxSegNetOutput(
            class_logits, cams, saliency, refined_sal, segmentation, refined_seg, matrix
        )

    def _classify(self, features):
        if self.fc8 is None:
            return None, None
        pooled = self.dropout(features).mean(dim=(2, 3), keepdim=True)
        # The CAM sees neither dropout nor ReLU; W_c F, paper section 3.1.
        return self.fc8(pooled).flatten(1), F.conv2d(features, self.fc8.weight)

    def _affinity(self, sources, form):
        """A_CT of both tasks (paper, equations 4-5), or A_seg where there is no cross-task one."""
        if form is None or not self.refined:
            return None
        order = self.design.stack_order if self.cross_attention is not None else ("seg",)
        ordered = [sources[task] for task in order]
        if form == "blocks":
            return BlockAffinity(ordered, self.cross_attention)
        if self.cross_attention is None:
            return ordered[0]
        with torch.autocast(ordered[0].device.type, enabled=False):
            return self.cross_attention.merge(*ordered)

    def _refine(self, task, logits, matrix, probabilities):
        """Refine a prediction by the affinity (paper, equations 6-7), in float32 at least."""
        if matrix is None or task not in self.refined:
            return None
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_least_float32(logits)
            if not self.design.refine_probabilities:
                return apply_affinity(matrix, logits)
            probability = probabilities(logits)  # (B, K, h, w)
            ones = torch.ones_like(probability[:, :1])
            summed = apply_affinity(matrix, torch.cat([probability, ones], dim=1))
            return summed[:, :-1] / summed[:, -1:]  # (A P) / (A 1)


def _predict(branch, features, form):
    """What a dense branch makes of the features; nothing where it is switched off."""
    return (None, None) if branch is None else branch(features, whole=form == "full")


def _softmax_classes(logits):
    return logits.softmax(dim=1)


def _check_names(design, branches, affinity, attention_start):
    for what, name, known in (
        ("design", design, DESIGNS),
        ("branches", branches, BRANCHES),
        ("affinity", affinity, AFFINITIES),
        ("attention_start", attention_start, ATTENTION_STARTS),
    ):
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def _check_switches(num_classes, branches, affinity):
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    enabled = BRANCHES[branches]
    if affinity != "none" and "seg" not in enabled:
        raise ValueError(f"affinity {affinity!r} needs the segmentation branch")
    if affinity.startswith("cross_task") and "sal" not in enabled:
        raise ValueError(f"affinity {affinity!r} needs the saliency branch")
