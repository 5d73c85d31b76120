"""Section 6's remark on biases in the excitation, which the ablations lack.

Released networks have them. The authors say that leaving them out helps to model how channels
depend on each other, and print no figures for it.
"""

from experiments.grid.comparison import equivalent
from experiments.grid.study import Row
from experiments.studies._section6 import ERRORS, SE, ablation

STUDY = ablation(
    order=17,
    title="Section 6 of Hu et al.: biases in the two layers of the excitation",
    column="biases",
    rows=(
        Row("without", {"model.se.bias": False}, SE),
        Row("with", {"model.se.bias": True}, {"params": 28.1}),
    ),
    reference="without",
    paper_columns={"printed": ("params",)} | ERRORS,
    notes=(
        "The printed parameters are those with biases, rounded up, in every table of the paper.",
    ),
    primary=(equivalent("with", "without"),),
)
