"""No row of a study trains before all are checked: a run of hours is not for a slip in the next."""

import pytest

from experiments.run import main
from senet_jax.errors import InputError

FILE = "configs/cifar.py:seresnet20,cifar100"


@pytest.mark.parametrize(
    "given",
    [
        "model.se.ratio=16,0",
        "model.se.kind=se,sse",
        "model.stem_width=16,0",
        "model.stage_sizes=(3,3,3),(3,-1,3)",
        "data.pad=4,-1",
        "data.mixup=0,-2",
        "data.first_size=0,-8",
        "data.mean=(0.5,0.5,0.5),(0.5,2.5,0.5)",
        "data.fold=(),(6,5)",
        "data.repeats=1,0",
        "data.eval_crop=0.875,1.5",
        "data.interpolation=bilinear,nearest",
        "optim.learning_rate=0.1,-0.1",
        "optim.name=sgd,sgdd",
        "train.batch_size=128,0",
        "train.loss=softmax,hinge",
        "parallel.backend=pmap,pjit",
    ],
)
def test_a_later_row_that_cannot_be_is_refused_before_an_earlier_one_trains(given, tmp_path):
    key = given.split("=", 1)[0].rpartition(".")[2]
    with pytest.raises(InputError, match=rf"row {key}=.*{key}"):
        main(["run", f"--config={FILE}", f"--sweep={given}", f"--workdir={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [  # the first row of the study has no SE blocks, and could be trained
        (
            "--config.model.se.gate=softmax",
            r"^row 2: model seresnet20_cifar: se\.gate must be one of",
        ),
        ("--config.optim.momentum=2", r"^row original: optim: momentum"),
    ],
)
def test_flags_of_a_study_are_checked_in_every_row(flag, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        main(["run", "reduction", "--smoke", flag, f"--workdir={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()
