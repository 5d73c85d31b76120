"""Exact parameters and multiply-adds of any model, stage by stage.

    python -m senet_jax.summary seresnet50 --se.ratio=8
    python -m senet_jax.summary --list 'se*'
    python -m senet_jax.summary --all               (every model, with what the paper prints for it)
    python -m senet_jax.summary --markdown          (the same for docs/models.md)

A multiply-add is counted as one, for convolutions and fully connected layers only, at the given
image size: the paper's convention for its "GFLOPs" to within the last printed digit.
"""

import dataclasses
import fnmatch
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

from senet_jax.errors import InputError
from senet_jax.layers.squeeze_excite import SEConfig
from senet_jax.models import MODELS, create_model, list_models, paper
from senet_jax.models.counts import Part, image_shape_of, summarize
from senet_jax.system import cli

COLUMNS = ("model", "parameters", "with se.bias", "GMACs", "pixels", "paper's errors")


def all_models(pattern: str = "*") -> list[tuple[str, ...]]:
    """COLUMNS of every network that matches: those for ImageNet, then those for CIFAR."""
    rows = []
    for name in sorted(
        fnmatch.filter(MODELS, pattern), key=lambda name: image_shape_of(name)[0] == 32
    ):
        shape = image_shape_of(name)
        counts, biased = summarize(create_model(name), shape), "-"
        if name.startswith("se"):
            biased = f"{summarize(create_model(name, se={'bias': True}), shape).params:,}"
        macs = f"{counts.macs / 1e9:.3f}"
        size = str(shape[0])
        rows.append((name, f"{counts.params:,}", biased, macs, size, paper.errors_of(name)))
    return rows


def markdown_table() -> str:
    """The table of `all_models` as Markdown, for docs/models.md."""
    lines = [COLUMNS, ("---", *["---:"] * 4, "---")]
    lines += [(f"`{name}`", *cells) for name, *cells in all_models()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_integer("num_classes", None, "Width of the classifier.", flag_values=values)
    flags.DEFINE_integer("image_size", None, "Height and width in pixels.", flag_values=values)
    flags.DEFINE_string("stride_on", None, "Stride of a bottleneck: 3x3, 1x1.", flag_values=values)
    flags.DEFINE_bool("list", False, "List the models that match.", flag_values=values)
    flags.DEFINE_bool("all", False, "Print all models in a table.", flag_values=values)
    flags.DEFINE_bool("markdown", False, "Print this table as Markdown.", flag_values=values)
    se = ConfigDict(dataclasses.asdict(SEConfig()))
    cli.given_keys(argv, "se", se)  # refuses unknown ones with a sentence; the next line would not
    config_flags.DEFINE_config_dict("se", se, flag_values=values)
    names = cli.parse_flags(argv, values)
    if values.list:
        matches = [name for pattern in names or ["*"] for name in list_models(pattern)]
        if not matches:
            raise InputError(f"no model matches {names[0]!r}; see --list")
        print("\n".join(matches))
        return
    if values.markdown:
        print(markdown_table(), end="")
        return
    if values.all:
        table = Table(title="Errors: top-1 / top-5 on ImageNet", title_justify="left")
        for column in COLUMNS:
            number = column not in (COLUMNS[0], COLUMNS[-1])
            wraps = column == COLUMNS[-1]
            table.add_column(column, justify="right" if number else "left", no_wrap=not wraps)
        rows = [row for pattern in names or ["*"] for row in all_models(pattern)]
        if not rows:
            raise InputError(f"no model matches {names[0]!r}; see --list")
        for row in rows:
            table.add_row(*row)
        Console(file=sys.stdout).print(table)
        return
    if len(names) != 1:
        raise InputError("give one model, e.g. `python -m senet_jax.summary seresnet50`")
    given = config_flags.get_override_values(values["se"])
    fields = {} if values.stride_on is None else {"stride_on": values.stride_on}
    model = create_model(names[0], num_classes=values.num_classes, se=given, **fields)
    size = image_shape_of(names[0])[0] if values.image_size is None else values.image_size
    if size < 1:
        raise InputError(f"--image_size must be at least 1 pixel, not {size}")
    summary = summarize(model, (size, size, 3))
    table = Table(
        "", title=f"{names[0]}, {size} x {size} pixels", title_justify="left", min_width=50
    )
    table.add_column("parameters", justify="right")
    table.add_column("multiply-adds", justify="right")
    for part in (*summary.parts, Part("total", summary.params, summary.macs)):
        table.add_row(
            part.name, f"{part.params:,}", f"{part.macs:,}", end_section=part == summary.parts[-1]
        )
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    cli.run(main, __doc__)
