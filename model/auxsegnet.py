"""AuxSegNet: classification, saliency and segmentation with a learned cross-task affinity.

Xu et al., "Leveraging Auxiliary Tasks with Affinity Learning for Weakly Supervised Semantic
Segmentation", ICCV 2021. Attribute names follow the released code (xulianuwa/AuxSegNet), so that
its checkpoints load.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from model.affinity import (
    Attention,
    BlockAffinity,
    CrossTaskAttention,
    affinity_rows,
    apply_affinity,
    attend,
    tokens,
    untokens,
)
from model.backbones import create_backbone
from model.designs import network_design
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


class AuxSegNet(nn.Module):
    """The network of figure 2 of the paper.

    Args:
        num_classes: C, object classes without background.
        backbone: a name of `model.backbones.BACKBONES`.
        design: `paper`, `official` or a `NetworkDesign`.
        output_stride: of the backbone.
        branches: a key of `BRANCHES`.
        affinity: a key of `AFFINITIES`.
        decoder_channels: D, channels of the dense decoders.
        attention_start: initial weights of the affinities: "random" as released, or "similarity"
            (see `Attention.start_from_similarity`), which short training needs.

    Raises:
        ValueError: an unknown name, or an affinity that needs a branch that is off.
    """

    def __init__(
        self,
        num_classes,
        backbone="resnet38",
        design="paper",
        *,
        output_stride=8,
        branches="all",
        affinity="cross_task",
        decoder_channels=128,
        attention_start="random",
    ):
        super().__init__()
        self.design = network_design(design)
        self.branches, self.affinity = _check_switches(num_classes, branches, affinity)
        self.refined = AFFINITIES[affinity]
        self.num_classes = num_classes
        self.backbone = create_backbone(backbone, output_stride=output_stride)
        if "cls" in self.branches:
            self.dropout = nn.Dropout2d(self.design.classifier_dropout)
            self.fc8 = nn.Conv2d(self.backbone.channels, num_classes, 1, bias=False)
        if "seg" in self.branches:
            self._add_decoder("seg", decoder_channels, num_classes + 1, affinity != "none")
        if "sal" in self.branches:
            self._add_decoder("sal", decoder_channels, 1, affinity.startswith("cross_task"))
        if affinity.startswith("cross_task"):
            self.cross_att = CrossTaskAttention()
        self._initialise(attention_start)

    def _add_decoder(self, task, channels, outputs, attention):
        inputs = self.backbone.channels
        for i, rate in enumerate(self.design.decoder_rates, start=1):
            conv = nn.Conv2d(inputs, channels, 3, padding=rate, dilation=rate)
            setattr(self, f"{task}_conv{i}", conv)
            inputs = channels
        setattr(self, f"{task}_conv4", nn.Conv2d(channels, outputs, 1, bias=False))
        if attention:
            setattr(self, f"{task}_att", Attention(channels))
            setattr(self, f"{task}_g", nn.Conv2d(channels, channels, 1))
            if self.design.output_projection:
                setattr(self, f"{task}_W", nn.Conv2d(channels, channels, 1))

    def _initialise(self, attention_start):
        """Xavier for the classifier and the decoders, as in the released code."""
        if attention_start not in ATTENTION_STARTS:
            known = ", ".join(ATTENTION_STARTS)
            raise ValueError(f"unknown attention_start {attention_start!r}; known: {known}")
        for name, module in self.named_children():
            if name == "fc8" or "_conv" in name:
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, Attention) and attention_start == "similarity":
                module.start_from_similarity()

    def forward(self, images, affinity="full"):
        """Normalised images (B, 3, H, W) -> `AuxSegNetOutput`.

        `affinity` says how the affinity is made and returned: "full" as one (B, N, N) tensor,
        "blocks" as a `BlockAffinity` (memory of a few row blocks), None not at all; then the
        refined maps are None too.
        """
        if affinity not in ("full", "blocks", None):
            raise ValueError(f"affinity must be 'full', 'blocks' or None, not {affinity!r}")
        features = self.backbone(images)
        class_logits, cams = self._classify(features)
        segmentation, seg_source = self._decode("seg", features, affinity)
        saliency, sal_source = self._decode("sal", features, affinity)
        matrix = self._affinity({"seg": seg_source, "sal": sal_source}, affinity)
        refined_sal = self._refine("sal", saliency, matrix, torch.sigmoid)
        refined_seg = self._refine("seg", segmentation, matrix, _softmax_classes)
        return AuxSegNetOutput(
            class_logits, cams, saliency, refined_sal, segmentation, refined_seg, matrix
        )

    def _classify(self, features):
        if "cls" not in self.branches:
            return None, None
        pooled = self.dropout(features).mean(dim=(2, 3), keepdim=True)
        # The CAM sees neither dropout nor ReLU; W_c F, paper section 3.1.
        return self.fc8(pooled).flatten(1), F.conv2d(features, self.fc8.weight)

    def _decode(self, task, features, affinity):
        """Logits of a dense branch, and the source of its affinity where it has one."""
        if task not in self.branches:
            return None, None
        last = len(self.design.decoder_rates)
        before = self.design.convs_before_attention
        features = self._convs(task, features, 1, before)
        source = None
        if hasattr(self, f"{task}_att"):
            attended, source = self._attend(task, features, affinity)
            features = features + attended
        features = self._convs(task, features, before + 1, last)
        return getattr(self, f"{task}_conv4")(features), source

    def _convs(self, task, features, first, last):
        for i in range(first, last + 1):
            features = F.relu(getattr(self, f"{task}_conv{i}")(features))
        return features

    def _attend(self, task, features, affinity):
        """Attended features, and what the cross-task affinity is made of.

        That is the task's affinity itself, or its (queries, keys) where it is never held whole.
        """
        queries, keys = getattr(self, f"{task}_att")(features)
        values = at_least_float32(tokens(getattr(self, f"{task}_g")(features)))
        with torch.autocast(features.device.type, enabled=False):
            if affinity == "full":
                source = affinity_rows(queries, keys)
                attended = source @ values
            else:
                source = (queries, keys)
                attended = attend(queries, keys, values)
        attended = untokens(attended, features).to(features.dtype)
        if self.design.output_projection:
            attended = getattr(self, f"{task}_W")(attended)
        return attended, source

    def _affinity(self, sources, mode):
        if mode is None or not self.refined:
            return None
        cross = getattr(self, "cross_att", None)
        order = self.design.stack_order if cross is not None else ("seg",)
        ordered = [sources[task] for task in order]
        if mode == "blocks":
            return BlockAffinity(ordered, cross)
        with torch.autocast(ordered[0].device.type, enabled=False):
            return ordered[0] if cross is None else cross.merge(*ordered)

    def _refine(self, task, logits, matrix, probabilities):
        """Refine a prediction by the affinity (paper, equations 6-7), in float32 at least."""
        if matrix is None or task not in self.refined:
            return None
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_least_float32(logits)
            if not self.design.refine_probabilities:
                return apply_affinity(matrix, logits)
            probability = probabilities(logits)
            ones = torch.ones_like(probability[:, :1])
            summed = apply_affinity(matrix, torch.cat([probability, ones], dim=1))
            return summed[:, :-1] / summed[:, -1:]


def _softmax_classes(logits):
    return logits.softmax(dim=1)


def _check_switches(num_classes, branches, affinity):
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    if branches not in BRANCHES:
        raise ValueError(f"unknown branches {branches!r}; known: {', '.join(BRANCHES)}")
    if affinity not in AFFINITIES:
        raise ValueError(f"unknown affinity {affinity!r}; known: {', '.join(AFFINITIES)}")
    enabled = BRANCHES[branches]
    if affinity != "none" and "seg" not in enabled:
        raise ValueError(f"affinity {affinity!r} needs the segmentation branch")
    if affinity.startswith("cross_task") and "sal" not in enabled:
        raise ValueError(f"affinity {affinity!r} needs the saliency branch")
    return enabled, affinity
