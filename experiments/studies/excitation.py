"""Table 12: the gate that the excitation ends with (Hu et al., section 6.3)."""

from experiments.grid.comparison import worse
from experiments.grid.study import Row
from experiments.studies._section6 import SE, ablation

STUDY = ablation(
    order=12,
    title="Table 12 of Hu et al.: the gate of the excitation",
    column="gate",
    rows=(
        Row("relu", {"model.se.gate": "relu"}, {"top1": 23.47, "top5": 6.98}),
        Row("tanh", {"model.se.gate": "tanh"}, {"top1": 23.00, "top5": 6.38}),
        Row("sigmoid", {"model.se.gate": "sigmoid"}, SE),
    ),
    reference="sigmoid",
    notes=("With a ReLU the paper's network falls behind ResNet-50 without SE (23.30 / 6.55).",),
    primary=(worse("relu", "sigmoid"), worse("tanh", "sigmoid")),
)
