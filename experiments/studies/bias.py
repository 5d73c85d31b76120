"""Section 6's remark on biases in the excitation: the ablations have none, released networks do.

The authors say that leaving them out helps to model how channels depend on each other, and print no
figures for it.
"""

from experiments.grid.study import Row
from experiments.studies import section6

STUDY = section6.study(
    "bias",
    "Section 6 of Hu et al.: biases in the two layers of the excitation",
    "biases",
    (
        Row("without", {"model.se.bias": False}, section6.SE),
        Row("with", {"model.se.bias": True}, {"params": 28.1}),
    ),
    reference="without",
    paper_columns={"printed": ("params",)} | section6.ERRORS,
    notes=(
        "The printed parameters are those with biases, rounded up, in every table of the paper.",
    ),
)
