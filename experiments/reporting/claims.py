"""What the paper and a well-known article claim about SE, each claim a statement on some rows.

`python -m experiments.report --claims` prints which of them our published runs reproduce.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, and the primary comparisons of a study that decide it; see Study.primary.

    Attributes:
      text: the claim, in a sentence without its full stop.
      source: where it is made.
      study: the name of the study that decides it.
      rows: labels of the rows whose comparisons must all be confirmed; one that is contradicted
        contradicts the claim.
    """

    text: str
    source: str
    study: str
    rows: tuple[str, ...]


def _paper(place: str, text: str, study: str, *rows: str) -> Claim:
    return Claim(text, f"Hu et al., {place}", study, rows)


def _article(variant: int, text: str) -> Claim:
    place = f"the article, wrong variant {variant}"
    return Claim(text, place, "wrong_variants", (f"wrong-{variant}",))


CLAIMS = (
    _paper("Table 10", "SE improves the network", "reduction", "16"),
    _paper("Table 5", "SE improves networks with pre-activation", "preactivation", "SE"),
    _paper(
        "section 6.1",
        "Between r = 2 and r = 16 the reduction ratio hardly matters",
        "reduction",
        *("2", "4", "8"),
    ),
    _paper("Table 10", "r = 32 is worse than r = 16", "reduction", "32"),
    _paper("section 6.2", "Squeezing by the maximum is as good as by the mean", "squeeze", "max"),
    _paper("section 6.3", "A ReLU gate is worse than a sigmoid", "excitation", "relu"),
    _paper("section 6.3", "A tanh gate is worse than a sigmoid", "excitation", "tanh"),
    _paper("section 6.4", "Every stage alone helps", "stages", "2", "3", "4"),
    _paper("section 6.4", "SE in all stages helps", "stages", "all"),
    _paper("section 6.5", "SE after the addition is worse", "integration", "SE-POST"),
    _paper(
        "section 6.5",
        "SE before the branch or on the shortcut is as good",
        "integration",
        *("SE-PRE", "SE-Identity"),
    ),
    _paper(
        "section 6.5",
        "SE after the 3x3 convolution is as good, with fewer parameters",
        "se3x3",
        "SE_3x3",
    ),
    _paper("section 7.1", "Without the squeeze, gain is lost", "no_squeeze", "NoSqueeze"),
    _paper("section 6", "Biases in the excitation do not matter", "bias", "with"),
    _article(1, "A gate per channel, without the other channels, is worse"),
    _article(2, "A convolution in the block's place is worse"),
    _article(3, "A gate computed from the unit's input is worse"),
    Claim("SE helps under a recipe of today as well", "our question", "recipes", ("SE,modern",)),
)
