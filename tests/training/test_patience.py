"""Early stopping: when it comes, that it is said and recorded, and that runs continue over it."""

from pathlib import Path

import jax
import pytest
from helpers.image_folders import write_folder
from helpers.results import results
from helpers.runs import finish, logged, photos_config, same, tiny_config

from experiments import status
from experiments.reporting import about_runs, plot, run_files
from experiments.studies import load_study
from senet_jax.data.sources import lookup
from senet_jax.errors import InputError
from senet_jax.inference.trained_run import load_run
from senet_jax.runs import checkpoints
from senet_jax.training import optim
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.result import in_words
from senet_jax.training.session import Session


def stopping(learning_rate=1e-6):
    """A run of sixteen steps that learns nothing: the first of eight evaluations is the best."""
    config = tiny_config()
    config.optim.update({"learning_rate": learning_rate, "warmup_epochs": 0.0})
    config.train.update({"epochs": 4.0, "eval_every_epochs": 0.5, "patience": 2})
    return config


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stopped") / "run"
    return directory, train_and_evaluate(stopping(), directory, jax.local_devices()[:1])


def test_a_run_stops_after_so_many_evaluations_without_a_lower_error(stopped, tmp_path):
    directory, result = stopped
    errors = {s: v for (s, name), v in logged(directory).items() if name == "eval/top1_error"}
    best = min(errors, key=lambda step: (errors[step], step))
    assert (result["best_step"], result["step"]) == (best, max(errors))
    assert result["step"] == best + 4 < result["planned_steps"] == 16
    assert checkpoints.complete_steps(directory / "checkpoints")[-1] == result["step"]
    assert result["eval/top1_error"] == errors[result["step"]]  # of the last step
    assert f"stopped early, at step {best + 4} of 16" in in_words(result, tmp_path)
    assert (directory / "confusion.csv").exists()
    trained = load_run(directory)
    assert int(trained.state.step) == result["step"]
    assert train_and_evaluate(stopping(), directory) == result


def test_it_is_said_while_it_trains_and_a_run_continues_to_the_same_stop(
    stopped, tmp_path, one_device, monkeypatch, capfd
):
    directory, result = stopped
    save = Session.save_if_due
    for step in (2, result["step"]):  # the latter right after the checkpoint, before the result

        def killed(session, asked, step=step):
            save(session, asked or session.step == step)
            if session.step == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Session, "save_if_due", killed)
            with pytest.raises(KeyboardInterrupt):
                train_and_evaluate(stopping(), tmp_path / "cut", one_device)
        assert not (tmp_path / "cut" / "result.json").exists()
    said = capfd.readouterr().err
    assert f"stopping at step {result['step']}/16: no evaluation since step" in said
    train_and_evaluate(stopping(), tmp_path / "cut", one_device)
    same(directory, tmp_path / "cut")


@pytest.mark.parametrize(
    ("step", "best", "owed", "patience", "stops"),
    [
        (4, (50.0, 2), False, 2, False),
        (6, (50.0, 2), False, 2, True),
        (6, (50.0, 2), True, 2, False),  # its evaluation may yet be better
        (6, (50.0, 6), False, 1, False),
        (7, (50.0, 6), False, 1, False),  # between evaluations
        (8, (50.0, 2), False, 3, False),  # the end of the run is no early stop
        (6, (50.0, 2), False, 0, False),
        (2, None, False, 1, False),
    ],
)
def test_it_is_a_function_of_the_step_and_the_best_evaluation(
    tmp_path, step, best, owed, patience, stops
):
    class Of:
        settings = type("Settings", (), {"patience": patience})
        plan = type("Plan", (), {"total_steps": 8, "eval_every_steps": 2})

    session = Session(Of, tmp_path, 0.0, None, step, owed, best=best)
    assert session.stopped_early == stops
    assert session.ended == (stops or (step == 8 and not owed))


@pytest.mark.parametrize(("patience", "epochs"), [(7, 4.0), (1, 1.0), (1, 0.5)])
def test_patience_that_outlasts_the_run_is_refused(one_device, patience, epochs):
    config = stopping()
    config.train.update({"patience": patience, "epochs": epochs})
    with pytest.raises(InputError, match=f"train.patience={patience} has no effect: this run has"):
        prepare(config, one_device)


@pytest.mark.parametrize(("first", "last"), [(17, 17), (100, 200)])
def test_a_trace_of_steps_after_the_end_of_the_run_is_refused(tiny, one_device, first, last):
    tiny.train.update({"epochs": 4.0, "profile_steps": (first, last)})
    sentence = rf"train.profile_steps=\({first}, {last}\) has no effect: this run has 16 steps"
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, one_device)
    prepare(tiny, one_device, begun=True)
    tiny.train.profile_steps = (16, last)
    prepare(tiny, one_device)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2.0), (1, 3.0), (2, 3.0), (2, 4.0), (5, 4.0)])
def test_a_plateau_for_which_a_run_is_too_short_is_named(
    tiny, one_device, caplog, patience, epochs
):
    tiny.optim.update({"schedule": "plateau", "patience": patience, "warmup_epochs": 0.0})
    tiny.train.epochs = epochs
    run = prepare(tiny, one_device)
    plateau = optim.initial_plateau()
    for _ in range(int(epochs) - 1):  # after the last evaluation there are no steps
        plateau = optim.after_evaluation(run.optim, plateau, 2.0)
    warned = "optim.schedule='plateau' has no effect with optim.patience=" in caplog.text
    assert warned == (float(plateau.scale) == 1.0)


def test_tables_curves_and_the_status_say_that_a_row_stopped(tmp_path, monkeypatch):
    which = load_study("reduction")
    found = results(_16={0: 50.0, 1: 40.0}, _original={0: 50.0})
    for runs in found.values():
        for run in runs:
            run["config"] = {"train.patience": 3}
    found["16"][0] |= {"step": 40, "planned_steps": 1000}
    (line,) = (line for line in about_runs.in_words(which, found) if "stopped" in line)
    assert line.startswith("Row 16 stopped early (train.patience 3): seed 0 at step 40 of 1,000; ")
    titles = []
    monkeypatch.setattr(plot, "png", lambda figure, _: titles.append(figure.axes[0].get_title()))
    for runs in found.values():
        for run in runs:
            run["curve"] = [{"epoch": 1.0, "eval/top1_error": 50.0}]
    plot.curves(which, found, "")
    del found["16"][0]["planned_steps"]
    plot.curves(which, found, "")
    assert ["after a seed has stopped early: of the others" in title for title in titles] == [
        True,
        False,
    ]
    finish(tmp_path, tiny_config(), curve=(60.0, 50.0), step=20, planned_steps=40)
    run = run_files.read_run(tmp_path, [])
    assert [point["epoch"] for point in run["curve"]] == [0.5, 1.0]  # of two that were planned
    standing = status.standing(tmp_path)
    assert (standing.step, standing.total_steps, standing.epoch) == (20, 40, 1.0)


def test_it_is_said_where_errors_are_of_other_images_than_before(tmp_path, one_device, caplog):
    """An image that goes missing changes the error, and which step has the lowest."""
    folder = f"folder:{write_folder(tmp_path / 'images')}"
    config = photos_config()
    config.data.update(name=folder, train_split="train", eval_split="test", image_size=8)
    config.train.update(epochs=1.5, eval_every_epochs=0.5)
    gone = [Path(file) for file in lookup.find(folder).examples["test"].files[:2]]
    numbers = []

    def lose(step, means):
        numbers.append(means["examples"])
        for file in gone if len(numbers) == 1 else ():
            file.unlink()

    train_and_evaluate(config, tmp_path / "run", one_device, after_evaluation=lose)
    assert numbers[0] - 2 == numbers[1] == numbers[2]
    said = [line for line in caplog.messages if "images are evaluated at step" in line]
    assert len(said) == 1
    assert f"{numbers[1]} images are evaluated at step" in said[0]
    assert f"{numbers[0]} the last time" in said[0]
