"""A study as data: rows that override a base configuration, and the figures the paper prints.

A study is one short file in experiments/studies/ that declares a `Study`. Every command works with
every study.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from configs.common import bare_name
from experiments.grid.comparison import Comparison
from experiments.grid.folder_names import in_a_path, not_too_long
from senet_jax.errors import InputError
from senet_jax.runs import workdir

PRETRAINED = "model.pretrained"
OF_WEIGHTS = tuple(f"model.{key}" for key in workdir.ORIGIN)  # no fields of a network


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      label: the row's name, as the paper prints it.
      overrides: dotted configuration keys and their values; see on_dataset.
      paper: the figures printed for this row, by column; see Study. A figure that is printed for
        several datasets is a mapping from TFDS names. "reference1" is the top-1 error of the
        study's reference in the source of this row's figures, if that source is a different one.
      network: the paper's network in this row, by our name; None for Study.network.
      narrow: the network's fields that make a narrow member of its family, for --smoke.
      factors: the row's cells by heading, in a table of several factors; see grid.
      starts_from: label of an earlier row; this row starts from its weights of the same seed.
      derived: configuration keys whose values follow from those of `overrides`.
    """

    label: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, float | Mapping[str, float]] = dataclasses.field(default_factory=dict)
    network: str | None = None
    narrow: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    factors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    starts_from: str | None = None
    derived: tuple[str, ...] = ()

    @property
    def varied(self) -> set[str]:
        """The configuration keys that the row sets, itself or by the weights it starts from."""
        of_weights = (PRETRAINED, *workdir.LEFT) if self.starts_from else ()
        return {*self.overrides, *self.derived, *of_weights}

    @property
    def model_fields(self) -> dict[str, Any]:
        """The overrides as arguments of `create_model`, those of SE blocks in `se`."""
        of_model = {
            key.removeprefix("model."): value
            for key, value in self.overrides.items()
            if key.startswith("model.") and key not in OF_WEIGHTS
        }
        fields = {key: value for key, value in of_model.items() if not key.startswith("se.")}
        se = {k.removeprefix("se."): value for k, value in of_model.items() if k.startswith("se.")}
        return fields | {"se": se}

    def printed(self, key: str, dataset: str) -> float | None:
        """The paper's figure for a run on that TFDS dataset; None where it prints none."""
        figure = self.paper.get(key)
        return figure.get(bare_name(dataset)) if isinstance(figure, Mapping) else figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A table of the paper as data.

    Attributes:
      name: the study's name in commands and paths; the loader sets it to that of the file.
      order: the study's place in lists of studies, lowest first; equal ones go by name.
      title: one line, "source: subject", like "Table 10 of Hu et al.: the reduction ratio r".
      column: heading of the row labels; not shown if rows have factors.
      rows: the rows in the order of the table.
      base: dataset to "config:argument", the configuration that a row starts from. "*" stands for
        every other dataset, whose name replaces {dataset}. {network} is the row's network, without
        the suffix that configurations for CIFAR add.
      recipe: configuration keys that all rows change in `base`, as in Row.overrides.
      network: the paper's network, whose parameters and multiply-adds are counted for each row as
        it is trained on the paper's dataset; None if each row names its network.
      network_fields: further fields of `network`, wherever it is trained.
      cifar_fields: further fields of the network that runs on small images.
      narrow: fields that make either network narrow, for --smoke; Row.narrow overrides them.
      paper_columns: heading to the figures of Row.paper shown under it.
      plotted: legend to the top-1 error of Row.paper drawn beside ours; the paper's gains are
        differences of the first.
      reference: label of the row that the others are compared with; None if each row is compared
        with its network without SE. See reference_of.
      dataset: the dataset of the runs, unless the command line gives a different one.
      paper_datasets: TFDS names of the paper's datasets to the paper's names of them.
      notes: sentences below the table.
      secondary: headings that are left out in a narrow terminal.
      primary: the comparisons that the study claims to decide, and nothing else, by the top-1 error
        at the last step; see comparison.py.
      declared: ISO date on which `primary` was written down; the table says whether the runs were
        known then.
      precision: half width in points of the 95 % intervals of the primary comparisons at which the
        study has enough seeds. Whether anything is significant plays no part in that.
      seeds: the seeds of each row, unless the command line gives others.
      is_sweep: whether the study was made on the command line; see sweep.py. Its dataset is then
        that of its configuration, and its counts are those of the networks that were trained.
    """

    name: str = ""
    order: int = 100
    title: str
    column: str = "row"
    rows: tuple[Row, ...]
    base: Mapping[str, str]
    paper_columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    plotted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reference: str | None = None
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network: str | None = None
    network_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cifar_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    narrow: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str = "digits"
    paper_datasets: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"imagenet2012": "ImageNet"}
    )
    notes: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    primary: tuple[Comparison, ...] = ()
    declared: str = "2026-11-27"
    precision: float = 0.35
    seeds: tuple[int, ...] = (0, 1, 2)
    is_sweep: bool = False

    @property
    def factors(self) -> tuple[str, ...]:
        """The headings of the factors; empty if rows have labels only."""
        return tuple(dict.fromkeys(heading for row in self.rows for heading in row.factors))

    @property
    def varied(self) -> set[str]:
        """The configuration keys that the study's rows set, and the seed."""
        names = {"model.name"} if self.network is None else set()
        return {"seed", *names, *(key for row in self.rows for key in row.varied)}

    def paper_name_of(self, dataset: str) -> str | None:
        """The paper's name of a TFDS dataset; None for one that the paper does not use."""
        return self.paper_datasets.get(bare_name(dataset))

    def network_of(self, row: Row) -> str:
        """The paper's network in a row."""
        network = row.network or self.network
        assert network is not None, f"{self.name}, row {row.label}: neither names a network"
        return network

    def reference_of(self, row: Row) -> Row | None:
        """The row that this one is compared with; None if there is none.

        In a study with a reference it is the reference. The reference itself is compared with none,
        and neither are rows that others start from. In a study without one, a row with SE blocks is
        compared with the row of the same network and overrides without them.
        """
        if self.reference is not None:
            alone = {self.reference, *(other.starts_from for other in self.rows)}
            reference = next(other for other in self.rows if other.label == self.reference)
            return None if row.label in alone else reference
        network = self.network_of(row)
        name = {"model.name": None}
        same = (o for o in self.rows if {**o.overrides, **name} == {**row.overrides, **name})
        return next((other for other in same if f"se{other.network}" == network), None)

    @property
    def reference_name(self) -> str:
        """The name, in a sentence, of what rows are compared with."""
        if self.reference is None:
            return "the same network without SE"
        return self.in_words(self.reference)

    def in_words(self, label: str) -> str:
        """The label of a row, or of several, as a sentence names it."""
        return label if self.factors else f"{self.column} = {label}"

    @property
    def gain_of(self) -> str:
        """The key of Row.paper whose differences are the paper's gains."""
        return next(iter(self.plotted.values()), "top1")

    @property
    def source(self) -> str:
        """The table's source: the title before its colon."""
        return self.title.partition(": ")[0].removesuffix(" of Hu et al.")

    @property
    def subject(self) -> str:
        """The table's subject: the title after its colon."""
        return self.title.partition(": ")[2]


def on_dataset(values: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Choose the values of configuration keys for a TFDS dataset.

    A value that differs between datasets is a mapping from their names, where "*" is any other.

    Raises: InputError for a dataset that is neither there nor covered by "*".
    """
    name = bare_name(dataset)
    chosen = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if not {name, "*"} & value.keys():
                there = ", ".join(value)
                raise InputError(f"this study has no {key} for {name!r}, only for {there}")
            value = value.get(name, value.get("*"))
        chosen[key] = value
    return chosen


def grid(values: Mapping[str, Sequence[Any]]) -> tuple[Row, ...]:
    """Make a row for each combination of values of configuration keys; the last changes fastest.

    `grid({"model.se.ratio": (2, 16), "model.se.gate": ("relu", "sigmoid")})` has four rows; the
    first is "ratio=2,gate=relu". A table has one column per key. Its heading is the key's last
    part, or the whole key if two keys end alike.
    """
    ends = [key.rpartition(".")[2] for key in values]
    headings = [end if ends.count(end) == 1 else key for key, end in zip(values, ends, strict=True)]
    rows = []
    for combination in itertools.product(*values.values()):
        factors = dict(zip(headings, combination, strict=True))
        overrides = dict(zip(values, combination, strict=True))
        label = ",".join(f"{heading}={in_a_path(value)}" for heading, value in factors.items())
        label = not_too_long(label)
        network = overrides.get("model.name")
        rows.append(Row(label, overrides, {}, network, factors=factors))
    return tuple(rows)


def plain_and_se(
    label: str,
    network: str,
    plain: Mapping[str, Any],
    se: Mapping[str, Any],
    *,
    narrow: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Row, Row]:
    """Make two rows: a network, and the same with SE blocks.

    Args:
      label, network: the plain row's; the other's have "SE-" and "se" before them.
      plain, se: Row.paper of each row.
      narrow: the SE row's Row.narrow; the plain row has the same without `se`.
      overrides: Row.overrides of both rows.
    """
    without = {field: value for field, value in narrow.items() if field != "se"}
    return (
        Row(label, overrides or {}, plain, network, without),
        Row(f"SE-{label}", overrides or {}, se, f"se{network}", narrow),
    )
