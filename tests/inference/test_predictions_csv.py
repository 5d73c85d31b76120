"""The CSV file of predictions reads back as it was written."""

import csv

import numpy as np

from senet_jax.evaluation.scores import Predicted
from senet_jax.inference.predictions_csv import PredictionsCsv


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written_reads_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    names = ("tabby, cat", 'a "pug"', "7", "Bär")
    written, label = PredictionsCsv(), rng.integers(0, 4, (2, 8))
    log_p = np.log(rng.dirichlet(np.ones(4), (2, 8)))
    mask = np.ones((2, 8))
    mask[0, 2] = mask[1, 6:] = 0
    for part in range(2):
        written.add(Predicted(label[part], mask[part], log_p[part], log_p[part][None]), names)
    written.write(tmp_path / "predictions.csv")
    rows, real = read(tmp_path / "predictions.csv"), np.flatnonzero(mask)
    assert [int(row["index"]) for row in rows] == real.tolist()
    for row, of_classes, true in zip(
        rows, log_p.reshape(16, 4)[real], label.ravel()[real], strict=True
    ):
        assert float(row["label_probability"]) == np.exp(of_classes[true])
        assert row["label_name"] == names[true]
        for place, number in enumerate(np.argsort(-of_classes), start=1):
            assert int(row[f"top{place}"]) == number
            assert row[f"top{place}_name"] == names[number]
            assert float(row[f"top{place}_probability"]) == np.exp(of_classes[number])
        assert "top5" not in row
