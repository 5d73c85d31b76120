"""What networks say of a split, written down example by example."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from senet_jax.errors import InputError
from senet_jax.evaluation.scores import BEST, Predicted, best
from senet_jax.system import files


class Predictions:
    """What an ensemble said of a split, to be written as CSV; a row takes about a hundred bytes."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = class_names
        self._seen = 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, predicted: Predicted) -> None:
        """The next batch of the split."""
        real = np.flatnonzero(predicted.mask)
        label, log_probability = predicted.label[real], predicted.together[real]
        top = best(log_probability)
        probability = np.exp(np.take_along_axis(log_probability, top, axis=-1))
        of_label = np.exp(np.take_along_axis(log_probability, label[:, None], axis=-1))
        self._parts.append((self._seen + real, label, of_label[:, 0], top, probability))
        self._seen += len(predicted.mask)

    def rows(self) -> Iterator[list[int | float | str]]:
        """The header, then a row for each example, in the order of the split."""
        numbers = range(1, 1 + min(BEST, len(self._names)))
        of_places = [(f"top{n}", f"top{n}_name", f"top{n}_probability") for n in numbers]
        yield ["index", "label", "label_name", "label_probability", *sum(of_places, ())]
        for part in self._parts:
            for index, label, of_label, top, probability in zip(
                *(values.tolist() for values in part), strict=True
            ):
                row = [index, label, self._names[label], of_label]
                for number, value in zip(top, probability, strict=True):
                    row += [number, self._names[number], value]
                yield row

    def write(self, path: Path) -> None:
        """Write as CSV, atomically. Raises: InputError if it cannot be written."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows())
        try:
            files.write(path, text.getvalue().encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
