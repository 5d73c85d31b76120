"""Make a study's table and figures, from the result files alone.

    python -m experiments.report reduction [--dataset=cifar10] [--workdir=DIR] [--publish]
    python -m experiments.report reduction --published --publish
    python -m experiments.report --all [--root=runs]
    python -m experiments.report --claims
    python -m experiments.report --index

Writes table.csv, runs.csv, table.md and table.png into the study's directory, with the curves of
the runs in curves.csv and curves.png, and prints the table. If there are no runs, it prints the
table of the published ones. A damaged run and a figure that cannot be drawn are named, all else is
written, and the exit status is 2.

`--published` adds the published runs of the same configuration to those that are here, so that
publishing them together loses none.

`--publish` also writes all but table.csv to experiments/results/STUDY/DATASET/, and the table into
the pages (README.md and docs/) that have the marks `<!-- STUDY_DATASET -->` and
`<!-- end STUDY_DATASET -->`. `--all` writes one page with all studies to report/index.html.
`--claims` prints which claims of the paper the published runs reproduce. `--index` only brings the
list of studies, between the marks `<!-- studies -->` and `<!-- end studies -->`, README's table of
results and the table of the claims up to date.
"""

from pathlib import Path

from absl import flags

from experiments.grid.plan import define_flags, define_published, directory_of
from experiments.reporting import forest, headline, page, publish, published, speed, table, verdicts
from experiments.reporting.about_runs import missing
from experiments.reporting.collect import collect
from experiments.reporting.write import write_report
from experiments.studies import the_study
from senet_jax.errors import InputError, refuse
from senet_jax.system import cli


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    define_published(values)
    flags.DEFINE_bool("publish", False, "Also write to experiments/results/.", flag_values=values)
    flags.DEFINE_bool("all", False, "One page with all studies.", flag_values=values)
    flags.DEFINE_bool("claims", False, "The verdicts on the claims.", flag_values=values)
    flags.DEFINE_bool("index", False, "Bring the list of studies up to date.", flag_values=values)
    cli.define_path("root", "runs", "With --all: where the runs are.", flag_values=values)
    names = cli.parse_flags(argv, values)
    if alone := [name for name in ("all", "index", "claims") if values[name].value]:
        if names or values.publish or len(alone) > 1:
            raise InputError(
                "--all, --index and --claims each stand alone, without a study or --publish"
            )
        cli.check_beside(values, *(["all", "root"] if values.all else alone))
        if values.index:
            publish.write_index()
            write_overviews()
        elif values.claims:
            verdicts.show()
        else:
            path, problems = page.write(Path(values.root))
            print(f"-> {path}")
            refuse(problems)
        return
    study = the_study(names, "report")
    directory = directory_of(study, values)
    collected = collect(study, directory)
    results, unfinished, problems = collected.results, collected.unfinished, [*collected.damaged]
    results = published.counted(study, results, values)
    if results:
        problems += write_report(study, results, directory, unfinished)
    else:
        if unfinished:
            lines = missing(study, {}, unfinished)
            line = next((line for line in lines if " failed: " in line), lines[0])
            raise InputError(f"no run in {directory} has a result; r{line[1:].rstrip('.')}")
        results, unfinished = published.stand_in(study, values, directory)
        table.show(study, results, unfinished)
    if values.publish:
        problems += publish.publish(study, results, unfinished)
        write_overviews()
    refuse(problems)


def write_overviews() -> None:
    """Bring the tables of results, claims and speed, and the picture of pairs, up to date."""
    headline.write()
    verdicts.write()
    forest.write()
    speed.write()


if __name__ == "__main__":
    cli.run(main, __doc__)
