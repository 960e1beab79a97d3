"""Where the paper and the released code describe different networks: two sets of values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkDesign:
    """What differs between the network of the paper and the released one.

    Attributes:
        decoder_rates: dilation of each 3x3 convolution of a dense decoder.
        convs_before_attention: how many of them come before the non-local block.
        output_projection: a 1x1 convolution on the attended features before they are added.
        stack_order: the order of the two affinities in the input of the self-attention.
        refine_probabilities: refine probabilities, divided by the row sums of the affinity
            (else: logits, undivided).
        classifier_dropout: probability of Dropout2d before the classifier.
    """

    decoder_rates: tuple[int, ...]
    convs_before_attention: int
    output_projection: bool
    stack_order: tuple[str, str]
    refine_probabilities: bool
    classifier_dropout: float


DESIGNS = {
    # Paper, sections 3.1-3.2 and figure 3. The division by the row sums is ours: the rows of the
    # cross-task affinity do not sum to 1, and a refined "probability" above 1 has no cross entropy.
    "paper": NetworkDesign(
        decoder_rates=(6, 12),
        convs_before_attention=2,
        output_projection=False,
        stack_order=("sal", "seg"),
        refine_probabilities=True,
        classifier_dropout=0.0,
    ),
    # Repository xulianuwa/AuxSegNet, network/AuxSegNet.py.
    "official": NetworkDesign(
        decoder_rates=(6, 12, 18),
        convs_before_attention=2,
        output_projection=True,
        stack_order=("seg", "sal"),
        refine_probabilities=False,
        classifier_dropout=0.5,
    ),
}


def network_design(design):
    """Return the `NetworkDesign` of that name (or the design itself, given one)."""
    if isinstance(design, NetworkDesign):
        return design
    if design not in DESIGNS:
        raise ValueError(f"unknown network design {design!r}; known: {', '.join(DESIGNS)}")
    return DESIGNS[design]
