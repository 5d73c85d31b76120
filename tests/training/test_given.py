"""Any documented field of any network can be given on a command line, and nothing else."""

import inspect
import re
from pathlib import Path

import pytest
from helpers.command_line import configured
from ml_collections import FieldReference

from configs import cifar, imagenet
from experiments.grid import sweep
from experiments.grid.narrow import NARROW
from experiments.grid.plan import base_config, plan
from experiments.run import override
from experiments.studies import load_study
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.models import MODELS, create_model
from senet_jax.runs import workdir
from senet_jax.training import given
from senet_jax.training.start import split_origin

DIGITS = "configs/digits.py:seresnet20"
FAMILIES = {type(create_model(name)): name for name in reversed(MODELS)}


def file_of(network):
    """The configuration file, with its argument, of a network."""
    if "cifar" in network or "shake" in network:
        return f"configs/cifar.py:{network.removesuffix('_cifar')}"
    return f"configs/imagenet.py:{network}"


def network_of(config):
    return create_model(**split_origin(config.model.to_dict())[1])


def documented(family):
    """The fields in the "Attributes:" of a family's docstring and of those it is made from."""
    texts = [inspect.getdoc(each) for each in family.__mro__ if issubclass(each, Network)]
    lines = "\n".join(text.partition("Attributes:")[2].partition("Raises:")[0] for text in texts)
    names = re.findall(r"^  (\w[\w, ]*):", lines, re.MULTILINE)
    return {field for name in names for field in name.split(", ")}


# ml_collections loads configuration files in a way that Python 3.12 lacks and 3.11 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_documented_field_of_a_network_can_be_given(family, monkeypatch):
    """Given its own value, it is recorded, and the network is the same."""
    name = FAMILIES[family]
    fields = documented(family) - {"se", "block", "features", "num_classes", "dtype", "axis_name"}
    fields -= {"sync_batch_norm", "freeze_batch_norm"}
    assert {"dropout", "implementation"} < fields
    own = given.fields_of(name)
    assert fields == own.keys() - {"dtype"}
    before = configured(file_of(name))
    open_fields = [f for f in own if isinstance(own[f], FieldReference)]  # without a value
    texts = {**own, **dict.fromkeys(open_fields, 64)}
    after = configured(file_of(name), *(f"--config.model.{f}={text}" for f, text in texts.items()))
    assert after.model.to_dict() == before.model.to_dict() | texts
    assert network_of(after).clone(**dict.fromkeys(open_fields)) == network_of(before)


def test_the_page_of_models_lists_all_these_fields():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    table = page.partition("### Other fields")[2].partition("```")[0].partition("|---|---|")[2]
    listed = {tuple(re.findall(r"`(\w+)`", line)) for line in table.strip().splitlines()}
    fields = {frozenset(given.fields_of(name)) for name in FAMILIES.values()}
    of_all = frozenset.intersection(*fields)
    assert {frozenset(line) for line in listed} == {of_all, *(each - of_all for each in fields)}


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_member_of_any_family_can_be_given_by_flags(name, monkeypatch):
    plain = {k: v for k, v in NARROW[name].items() if k != "se"}
    se = {f"se.{key}": value for key, value in NARROW[name].get("se", {}).items()}
    arguments = [f"--config.model.{key}={value}" for key, value in (plain | se).items()]
    config = configured(file_of(name), *arguments)
    recipe = {k: config.model[k] for k in ("dropout", "stride_on") if k in config.model}
    assert network_of(config) == create_model(name, **(recipe | NARROW[name]))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (imagenet, "stem_pool", "caffe"),
        (imagenet, "stem_width", 32),
        (cifar, "width", 4),
        (cifar, "stage_sizes", (1, 1, 1)),
    ],
)
def test_only_a_field_that_is_given_is_recorded(file, key, value, monkeypatch, tmp_path):
    """So that runs of earlier versions continue."""
    name = file.__name__.partition(".")[2]
    before = file.get_config().to_dict()
    assert configured(f"configs/{name}.py").to_dict() == before
    config = configured(f"configs/{name}.py", f"--config.model.{key}={value}")
    assert flatten(config.to_dict()) == flatten(before) | {f"model.{key}": value}
    assert getattr(network_of(config), key) == value
    workdir.start(tmp_path, config)
    assert workdir.load_config(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("file", "argument", "sentence"),
    [
        (DIGITS, "model.widht=8", "unknown key --config.model.widht; did you mean 'model.width'?"),
        (DIGITS, "model.drpout=0.1", "unknown key --config.model.drpout; did you mean 'model.drop"),
        (DIGITS, "model.blocks=(1,1,1)", "unknown key --config.model.blocks"),
        (DIGITS, "model.num_classes=3", "unknown key --config.model.num_classes"),
        (DIGITS, "model.axis_name=x", "unknown key --config.model.axis_name"),
        (DIGITS, "model.width=wide", "--config.model.width must be a whole number, not 'wide'"),
        (DIGITS, "model.stem_pool=caffe", "stem_pool has no effect with stem='cifar'"),
        ("configs/imagenet.py:mobilenetv1", "model.se_after=both", "se_after has no effect witho"),
        ("configs/imagenet.py:vgg16_bn", "model.stride_on=1x1", "unknown key --config.model.strid"),
        ("configs/imagenet.py:resnet50", "model.name=nope --config.model.width=8", "unknown model"),
    ],
)
def test_a_field_that_a_network_lacks_is_refused(file, argument, sentence, monkeypatch):
    with pytest.raises(InputError) as refusal:
        network_of(configured(file, *f"--config.{argument}".split()))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_fields_are_those_of_the_network_that_the_command_line_names(monkeypatch):
    arguments = ("--config.model.name=sepreresnet110_cifar", "--config.model.width", "8")
    assert network_of(configured(DIGITS, *arguments)).width == 8


def rows_of(which, bases, *arguments):
    return plan(which, override(bases, arguments, which, []), (0,), workdir.Path("runs"))


def test_fields_of_a_network_hold_for_the_rows_of_a_study_and_can_be_swept():
    which = load_study("reduction")
    bases = [base_config(which, row, "digits", smoke=False) for row in which.rows]
    runs = rows_of(which, bases, "--config.model.width=8")
    assert {network_of(run.config).width for run in runs} == {8}
    which, config = sweep.study_of(DIGITS, ["model.width=4,8"], smoke=False)
    runs = rows_of(which, [config.copy_and_resolve_references() for _ in which.rows])
    assert [network_of(run.config).width for run in runs] == [4, 8]
    with pytest.raises(InputError, match=r"unknown key .*widht; did you mean 'model\.width'"):
        sweep.study_of(DIGITS, ["model.widht=4,8"], smoke=False)
    with pytest.raises(InputError, match=r"unknown key .*widht; did you mean 'model\.width'"):
        rows_of(which, [config.copy_and_resolve_references() for _ in which.rows],
                "--config.model.widht=8")  # fmt: skip


def test_a_field_that_some_row_lacks_cannot_hold_for_all():
    which = load_study("backbones")
    bases = [base_config(which, row, "imagenet2012", smoke=False) for row in which.rows]
    with pytest.raises(InputError, match="cannot hold for every row: BN-Inception has no such key"):
        rows_of(which, bases, "--config.model.width=8")


def test_a_value_of_another_type_goes_back_to_its_default_where_it_has_no_effect(tmp_path):
    """In a file of the user's own nothing has checked its type."""
    path = tmp_path / "own.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "from configs import digits\n"
        "def get_config():\n"
        "    flat = digits.get_config().to_dict()\n"
        "    flat['optim']['boundaries'] = '0.5'\n"
        "    return ConfigDict(flat)\n"
    )
    assert configured(str(path)).optim.boundaries == (0.5, 0.75)
