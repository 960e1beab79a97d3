"""Where the paper and the released code describe different networks: two sets of values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkDesign:
    """What differs between the network of the paper and the released one.

    Attributes:
        third_conv: a 3x3 convolution of rate 18 after the non-local block of a dense branch.
        output_projection: a 1x1 convolution on the attended features before they are added.
        stack_order: the order of the two affinities in the input of the self-attention.
        refine_probabilities: refine probabilities, divided by the row sums of the affinity
            (else: logits, undivided).
        classifier_dropout: probability of Dropout2d before the classifier.
    """

    third_conv: bool
    output_projection: bool
    stack_order: tuple[str, str]
    refine_probabilities: bool
    classifier_dropout: float


DESIGNS = {
    # Paper, sections 3.1-3.2 and figure 3. The division by the row sums is ours: the rows of the
    # cross-task affinity do not sum to 1, and a refined "probability" above 1 has no cross entropy.
    "paper": NetworkDesign(
        third_conv=False,
        output_projection=False,
        stack_order=("sal", "seg"),
        refine_probabilities=True,
        classifier_dropout=0.0,
    ),
    # Repository xulianuwa/AuxSegNet, network/AuxSegNet.py.
    "official": NetworkDesign(
        third_conv=True,
        output_projection=True,
        stack_order=("seg", "sal"),
        refine_probabilities=False,
        classifier_dropout=0.5,
    ),
}
