"""Results of a study to its table and figures, from the result files alone.

    python -m experiments.report reduction [--dataset=cifar10] [--workdir=DIR] [--publish]
    python -m experiments.report --all [--root=runs]
    python -m experiments.report --index

Writes table.csv, runs.csv, table.md and table.png into the study's directory, with the curves of
the runs in curves.csv and curves.png, and prints the table. Where there are no runs, the table is
that of the published ones. `--publish` copies them all to experiments/results/ and the table into
README.md. `--all` writes one page with all studies to report/index.html. `--index` only brings the
list of studies in README.md up to date.
"""

from pathlib import Path

from absl import flags

from experiments.grid.plan import dataset_of, define_flags, directory_of
from experiments.grid.study import Study
from experiments.reporting import page, publish, table
from experiments.reporting.collect import Results, Stopped, collect, missing, unfinished
from experiments.reporting.report import report
from experiments.studies import the_study
from senet_jax.errors import InputError
from senet_jax.system import cli


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_bool("publish", False, "Also write README.md.", flag_values=values)
    flags.DEFINE_bool("all", False, "One page with all studies.", flag_values=values)
    flags.DEFINE_bool("index", False, "The list of studies in README.md.", flag_values=values)
    flags.DEFINE_string("root", "runs", "With --all: where the runs are.", flag_values=values)
    names = cli.parse_flags(argv, values)
    if values.all or values.index:
        if names or values.publish or (values.all and values.index):
            raise InputError("--all and --index each stand alone, without a study or --publish")
        if values.index:
            publish.write_index()
        else:
            print(f"-> {page.write(Path(values.root))}")
        return
    study = the_study(names, "report")
    directory = directory_of(study, values)
    results, stopped = collect(study, directory), unfinished(study, directory)
    if results:
        report(study, results, directory)
    else:
        if stopped:
            lines = missing(study, {}, stopped)
            line = next((line for line in lines if " failed: " in line), lines[0])
            raise InputError(f"no run in {directory} has a result; r{line[1:].rstrip('.')}")
        results, stopped = _published(study, values, directory)
        table.show(study, results, table.numbers(study, results), stopped)
    if values.publish:
        publish.publish(study, results, stopped)


def _published(study: Study, values: flags.FlagValues, directory: Path) -> tuple[Results, Stopped]:
    """The published results that the flags mean. Raises: InputError if there are none."""
    path = publish.path_of(study, dataset_of(study, values))
    if values.workdir or values.smoke or not path.exists():
        raise InputError(
            f"there are no results in {directory}; make them with "
            f"`python -m experiments.run {study.name}`"
        )
    print(f"There are no results in {directory}; these are those of {path.name}.")
    return publish.read(path)


if __name__ == "__main__":
    cli.run(main, __doc__)
