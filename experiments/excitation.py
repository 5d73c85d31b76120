"""Excitation: which gate (Table 12, section 6.3 of Hu et al.), and what gates do (section 7.2).

python -m experiments.run excitation                  (the study of Table 12)
python -m experiments.excitation --workdir=runs/x     (a run's gates: role_of_excitation.py)
"""

from experiments import ablation
from experiments.study import Row

STUDY = ablation.study(
    "excitation",
    "Table 12 of Hu et al.: the gate of the excitation",
    "gate",
    (
        Row("relu", {"model.se.gate": "relu"}, {"top1": 23.47, "top5": 6.98}),
        Row("tanh", {"model.se.gate": "tanh"}, {"top1": 23.00, "top5": 6.38}),
        Row("sigmoid", {"model.se.gate": "sigmoid"}, ablation.SE),
    ),
    reference="sigmoid",
    notes=("With a ReLU the paper's network falls behind ResNet-50 without SE (23.30 / 6.55).",),
)


if __name__ == "__main__":
    from experiments import role_of_excitation
    from senet_jax import cli

    cli.run(role_of_excitation.main, role_of_excitation.__doc__)
