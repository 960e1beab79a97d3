"""A network of a few thousand weights in the place of the real ones."""

import torch
from torch import nn

from model.auxsegnet import AuxSegNet
from model.backbones import FixedBatchNorm2d
from wsss.method.inference import Viewer


class TinyBackbone(nn.Module):
    """Eight channels at stride 8, with dropout and fixed norms as the real ones have."""

    channels, stride = 8, 8
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

    def __init__(self, output_stride=8):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 9, stride=8, padding=4)
        self.bn = FixedBatchNorm2d(8)
        self.dropout = nn.Dropout2d(0.3)
        self.body = nn.Conv2d(8, 8, 1)

    def forward(self, images):
        return torch.relu(self.body(self.dropout(torch.relu(self.bn(self.stem(images))))))


def varied(network, image):
    """An untrained network, in evaluation mode, whose predictions vary over an image.

    As it is, it sees one class everywhere, since its affinity is an even average. Here attention
    is made selective, and each class a direction in which the features of the image vary.
    """
    for branch in (network.seg, network.sal):
        branch.attention.query.weight.data *= 8
        branch.attention.key.weight.data *= 8
    layer, network.seg.classifier = network.seg.classifier, nn.Identity()
    view = Viewer(network.eval(), torch.device("cpu"), 96)
    features = view.run(image).segmentation[0].flatten(1).clone()
    network.seg.classifier = layer
    mean = features.mean(dim=1)
    weight = torch.randn(layer.weight.shape[:2])
    weight -= torch.outer(weight @ mean, mean) / (mean @ mean)
    layer.weight.data = (4 * weight / (weight @ features).std())[..., None, None]
    return network


def tiny_network(seed=0, **options):
    torch.manual_seed(seed)
    options = {"design": "official", "decoder_channels": 8, **options}
    return AuxSegNet(3, "tiny", **options)


def classifying_network():
    return tiny_network(branches="cls", affinity="none")
