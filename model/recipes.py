"""Where the paper and the released code describe different networks: two sets of values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkRecipe:
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


RECIPES = {
    # Paper, sections 3.1-3.2 and figure 3. The division by the row sums is ours: the rows of the
    # cross-task affinity do not sum to 1, and a refined "probability" above 1 has no cross entropy.
    "paper": NetworkRecipe(
        decoder_rates=(6, 12),
        convs_before_attention=2,
        output_projection=False,
        stack_order=("sal", "seg"),
        refine_probabilities=True,
        classifier_dropout=0.0,
    ),
    # Repository xulianuwa/AuxSegNet, network/AuxSegNet.py.
    "official": NetworkRecipe(
        decoder_rates=(6, 12, 18),
        convs_before_attention=2,
        output_projection=True,
        stack_order=("seg", "sal"),
        refine_probabilities=False,
        classifier_dropout=0.5,
    ),
}


def network_recipe(recipe):
    """Return the `NetworkRecipe` of that name (or the recipe itself, given one)."""
    if isinstance(recipe, NetworkRecipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"unknown network recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return RECIPES[recipe]
