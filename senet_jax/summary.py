"""Count the parameters and multiply-adds of any model exactly, stage by stage.

    python -m senet_jax.summary seresnet50 --se.ratio=8
    python -m senet_jax.summary --list 'se*'
    python -m senet_jax.summary --all 'se*'
    python -m senet_jax.summary --markdown

A multiply-add is counted as one, for convolutions and fully connected layers only, at the given
image size: the paper's convention for its "GFLOPs" to within the last printed digit.

    --se.FIELD     a field of the SE blocks, such as --se.ratio, --se.placement or --se.kind
    --num_classes  width of the classifier
    --image_size   height and width in pixels
    --stride_on    which convolution of a bottleneck has the stride: 3x3 or 1x1
    --list         print the names of the models that match
    --all          print a table of the models that match, with the errors that the paper prints
    --markdown     print this table of all models in Markdown
"""

import dataclasses
import fnmatch
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

from senet_jax.errors import InputError
from senet_jax.layers.slot import SEConfig
from senet_jax.models import MODELS, create_model, list_models, paper
from senet_jax.models.counts import Part, Summary, image_shape_of, summarize
from senet_jax.system import cli

COLUMNS = ("model", "parameters", "with se.bias", "GMACs", "pixels", "paper's errors")
T = TypeVar("T")


def main(argv: list[str]) -> None:
    values = define_flags(argv)
    names = cli.parse_flags(argv, values)
    for mode in ("list", "all", "markdown"):
        if values[mode].value:
            cli.check_beside(values, mode)
    if values.markdown and names:
        raise InputError(f"--markdown is of all models; for those like {names[0]!r} there is --all")
    if values.list:
        print("\n".join(matching(names, list_models)))
    elif values.markdown:
        print(markdown_table(), end="")
    elif values.all:
        Console(file=sys.stdout).print(table_of_all(matching(names, all_models)))
    else:
        Console(file=sys.stdout).print(table_of_one(names, values))


def define_flags(argv: Sequence[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_integer("num_classes", None, "Width of the classifier.", flag_values=values)
    flags.DEFINE_integer("image_size", None, "Height and width in pixels.", flag_values=values)
    flags.DEFINE_string("stride_on", None, "Stride of a bottleneck: 3x3, 1x1.", flag_values=values)
    flags.DEFINE_bool("list", False, "Print the names that match.", flag_values=values)
    flags.DEFINE_bool("all", False, "Print a table of the models that match.", flag_values=values)
    flags.DEFINE_bool("markdown", False, "Print this table in Markdown.", flag_values=values)
    se = ConfigDict(dataclasses.asdict(SEConfig()))
    cli.given_keys(argv, "se", se)  # refuses unknown ones with a sentence; the next line would not
    config_flags.DEFINE_config_dict("se", se, flag_values=values)
    return values


def matching(patterns: Sequence[str], find: Callable[[str], list[T]]) -> list[T]:
    """What `find` gives for each shell pattern, or for all models if there is none.

    Raises: InputError if that is nothing.
    """
    matches = [match for pattern in patterns or ["*"] for match in find(pattern)]
    if not matches:
        raise InputError(f"no model matches {patterns[0]!r}; see --list")
    return matches


def all_models(pattern: str = "*") -> list[tuple[str, ...]]:
    """COLUMNS of each network whose name matches: those for ImageNet, then those for CIFAR."""
    names = fnmatch.filter(MODELS, pattern)
    return [
        columns_of(name) for name in sorted(names, key=lambda name: image_shape_of(name)[0] == 32)
    ]


def columns_of(name: str) -> tuple[str, ...]:
    shape = image_shape_of(name)
    counts, with_bias = summarize(create_model(name), shape), "-"
    if name.startswith("se"):
        with_bias = f"{summarize(create_model(name, se={'bias': True}), shape).params:,}"
    macs = f"{counts.macs / 1e9:.3f}"
    return name, f"{counts.params:,}", with_bias, macs, str(shape[0]), paper.errors_of(name)


def markdown_table() -> str:
    """All models in Markdown, for docs/models.md."""
    lines = [COLUMNS, ("---", *["---:"] * 4, "---")]
    lines += [(f"`{name}`", *cells) for name, *cells in all_models()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def table_of_all(rows: Sequence[tuple[str, ...]]) -> Table:
    """Models for the terminal; only the paper's errors may wrap."""
    table = Table(title="Errors: top-1 / top-5 on ImageNet", title_justify="left")
    name, *numbers, errors = COLUMNS
    table.add_column(name, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(errors)
    for row in rows:
        table.add_row(*row)
    return table


def table_of_one(names: Sequence[str], values: flags.FlagValues) -> Table:
    """The parts of the one model that the command names, with the fields that its flags set."""
    if len(names) != 1:
        raise InputError("give one model, e.g. `python -m senet_jax.summary seresnet50`")
    (name,) = names
    se = config_flags.get_override_values(values["se"])
    fields = {} if values.stride_on is None else {"stride_on": values.stride_on}
    model = create_model(name, num_classes=values.num_classes, se=se, **fields)
    size = image_shape_of(name)[0] if values.image_size is None else values.image_size
    if size < 1:
        raise InputError(f"--image_size must be at least 1 pixel, not {size}")
    return table_of_parts(f"{name}, {size} x {size} pixels", summarize(model, (size, size, 3)))


def table_of_parts(title: str, summary: Summary) -> Table:
    table = Table("", title=title, title_justify="left", min_width=50)
    table.add_column("parameters", justify="right")
    table.add_column("multiply-adds", justify="right")
    for part in (*summary.parts, Part("total", summary.params, summary.macs)):
        is_last = part == summary.parts[-1]
        table.add_row(part.name, f"{part.params:,}", f"{part.macs:,}", end_section=is_last)
    return table


if __name__ == "__main__":
    cli.run(main, __doc__)
