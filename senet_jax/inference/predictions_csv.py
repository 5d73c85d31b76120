"""A CSV file of predictions: what an ensemble says of each example of a split."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from senet_jax.evaluation.scores import BEST, Predicted, best
from senet_jax.system import files


class PredictionsCsv:
    """Rows of predictions, collected batch by batch; a row takes about a hundred bytes."""

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._seen = 0
        self._batches: list[tuple[np.ndarray, ...]] = []

    def add(self, predicted: Predicted, class_names: Sequence[str]) -> None:
        """Add the next batch of the split."""
        self._names = class_names
        real = np.flatnonzero(predicted.mask)
        label, log_probability = predicted.label[real], predicted.together[real]
        top = best(log_probability)
        probability = np.exp(np.take_along_axis(log_probability, top, axis=-1))
        of_label = np.exp(np.take_along_axis(log_probability, label[:, None], axis=-1))
        self._batches.append((self._seen + real, label, of_label[:, 0], top, probability))
        self._seen += len(predicted.mask)

    def rows(self) -> Iterator[list[int | float | str]]:
        """Yield the header, then a row per example, in the order of the split."""
        places = range(1, 1 + min(BEST, len(self._names)))
        columns = [(f"top{n}", f"top{n}_name", f"top{n}_probability") for n in places]
        yield ["index", "label", "label_name", "label_probability", *sum(columns, ())]
        for batch in self._batches:
            for index, label, of_label, top, probability in zip(
                *(values.tolist() for values in batch), strict=True
            ):
                row = [index, label, self._names[label], of_label]
                for number, value in zip(top, probability, strict=True):
                    row += [number, self._names[number], value]
                yield row

    def write(self, path: Path) -> None:
        """Write the file atomically; of a link, the file that it leads to.

        Raises: InputError if it cannot be written.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows())
        files.write(path.resolve(), text.getvalue().encode())
