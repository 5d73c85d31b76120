"""The card of exported weights: a README.md in the form of Hugging Face's hub.

    https://huggingface.co/docs/hub/model-cards

It says what is known of the weights and nothing else: where they come from, what they were trained
on and how, their error with an interval, the commit, and how to load them. No path of this machine
gets into it.
"""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from senet_jax.config import flatten
from senet_jax.data import folds
from senet_jax.data.sources import names
from senet_jax.data.sources.tfds_builder import INFO
from senet_jax.errors import counted
from senet_jax.evaluation import intervals
from senet_jax.inference import other_seeds
from senet_jax.inference.classifier import Classifier
from senet_jax.runs.stored import BEST, EMA, read_records
from senet_jax.system import files
from senet_jax.weights import sources, timm

README, MARK = "README.md", "Written by `senet_jax.export`"
METRICS = {"final": "eval/top1_error", EMA: "eval_ema/top1_error", BEST: "best_top1_error"}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where weights come from, as far as it is known.

    Attributes:
      name: what to call them.
      licence: identifier of the licence of the weights, or "".
      config: configuration of the run that trained them, without paths of the machine; or {}.
      result: the content of its result.json, or {}.
      weights: which of the run's.
      seeds: error of this and the runs beside it that differ in nothing but the seed, in per cent;
        see other_seeds.py.
    """

    name: str
    licence: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = "final"
    seeds: tuple[float, ...] = ()

    @property
    def error(self) -> float | None:
        """The top-1 error in per cent on the run's evaluation split, if it was measured."""
        return self.result.get(METRICS[self.weights])

    @property
    def measured_at(self) -> tuple[list[int], float] | None:
        """Height and width of the images of the error, and their crop; None if nothing says it."""
        if side := self.config.get("data.eval_size") or self.config.get("data.image_size"):
            return [side, side], self.config["data.eval_crop"]
        shape = self.result.get("image_shape")
        return shape and ([*shape[:2]], 1.0)

    @property
    def measured_on(self) -> str:
        """The images of the error: a split, or a fold of one, or some classes of it."""
        fold, classes = self.config.get("data.fold"), self.config.get("data.classes")
        kind = "train" if fold else "eval"
        split = folds.in_words(self.config[f"data.{kind}_split"], fold or ())
        if not classes:
            return split
        first, end = classes
        if isinstance(end, float):
            return f"{split}, classes from {100 * first:g} to {100 * end:g} % of their number"
        return f"{split}, classes {first} to {end - 1}"


def origin_of(source: str, weights: str) -> Origin:
    """Where the weights of a source, as load_classifier takes it, come from."""
    path = Path(source).expanduser()
    if not sources.is_run(path):
        name = Path(source).name.removeprefix("hf-hub:")
        return Origin(name, "" if path.exists() else timm.licence_of(name))
    config, result = read_records(path, unfinished=True)
    sections = {key: public(value) for key, value in flatten(config.to_dict()).items()}
    name = f"{sections['model.name']} trained on {sections['data.name']}"
    errors = other_seeds.errors(path, METRICS[weights])
    return Origin(name, "", sections, result or {}, weights, errors)


def public(value: Any) -> Any:
    """A value of a configuration, of which a path keeps only the last part.

    A prepared dataset of TFDS, the last part of whose path is its version, keeps its name.
    """
    if not isinstance(value, str):
        return value
    kind, place = names.parted(value)
    if kind == "hf":
        is_path = names.is_local(place)
    else:
        is_path = bool(kind) or value.startswith(("/", "~", ".")) or Path(value).exists()
    if not is_path:
        return value
    info = files.read_json(Path(place).expanduser() / INFO) if kind in ("", "tfds") else None
    if isinstance(info, dict) and isinstance(info.get("name"), str):
        return info["name"]
    return f"{kind}:{Path(place).name}" if kind else Path(place).name


def readme(network: Classifier, origin: Origin, written: Sequence[str], repository: str) -> bytes:
    """Write the card of a network.

    Args:
      written: names of the files beside it.
      repository: what it is called on the hub, "ORG/NAME"; "" if it is in a folder alone.
    """
    has_weights = "model.safetensors" in written
    name = html.escape(origin.name, quote=False)  # a dataset's folder may be called anything
    architecture = _architecture(network) if has_weights else ""
    parts = [
        f"---\n{_front_matter(network, origin, architecture)}\n---\n",
        f"# {repository.partition('/')[2] or name}\n",
        f"{MARK} ({name}).\n",
        *_training(network, origin),
        "## Images\n",
        _images(network),
        "## Load\n",
        *_ways(network, written, architecture, repository),
    ]
    return "\n".join(parts).encode()


def _architecture(network: Classifier) -> str:
    """The name of the network in timm's library, or "" for one in its form that only we have."""
    from senet_jax.weights import saving

    name = saving.architecture_of(network.model)
    return name if name in timm.NETWORKS else ""


def _front_matter(network: Classifier, origin: Origin, architecture: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    if origin.error is not None and not _seen_otherwise(network, origin):
        data = origin.config["data.name"]
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=data,
                dataset_name=data,
                dataset_split=origin.measured_on,
                metric_type="accuracy",
                metric_name="Top-1 accuracy (%)",
                metric_value=round(100 - origin.error, 4),
            )
        ]
    tags = ["image-classification", "jax", type(network.model).__name__.lower()]
    return ModelCardData(
        license=origin.licence or None,
        library_name="timm" if architecture else "senet_jax",
        pipeline_tag="image-classification",
        tags=[*tags, "timm"] if architecture else tags,
        model_name=origin.name,
        eval_results=results,
    ).to_yaml()


def _seen_otherwise(network: Classifier, origin: Origin) -> str:
    """A sentence for a network that is shown images in another way than its error was measured."""
    height, width, _ = network.preprocessing.image_shape
    now = [height, width], network.preprocessing.eval_crop
    if origin.error is None or origin.measured_at in (None, now):
        return ""
    (height, width), crop = origin.measured_at
    return (
        f" That is the error with images of {height} x {width} pixels, crop {crop:g}; with those "
        "below it was not measured."
    )


def _training(network: Classifier, origin: Origin) -> list[str]:
    if not origin.config:
        return [
            "Where they come from says what they were trained on and how; nothing was measured "
            "here.\n"
        ]
    config, result = origin.config, origin.result
    recipe = {key: value for key, value in config.items() if not key.startswith("parallel.")}
    return [
        "## Data and recipe\n",
        f"`{config['model.name']}` on `{config['data.name']}`, split `{config['data.train_split']}`"
        f", {config['train.epochs']:g} epochs in batches of {config['train.batch_size']}, seed "
        f"{config['seed']}; commit `{result.get('git_commit', 'unknown')}`.\n",
        "<details><summary>The whole configuration</summary>\n",
        f"```json\n{json.dumps(recipe, indent=1)}\n```\n",
        "</details>\n",
        "## Error\n",
        f"{_error(origin)}{_seen_otherwise(network, origin)}\n",
    ]


def _error(origin: Origin) -> str:
    """The error of the weights, in words, with an interval."""
    error, result = origin.error, origin.result
    if error is None:
        return "These weights were not evaluated."
    examples = int(result["eval/examples"])
    low, high = intervals.wilson(round(error * examples / 100), examples)
    text = (
        f"Top-1 error {error:.2f} % on split `{origin.measured_on}` "
        f"(95 % interval of {counted(examples, 'image')}, Wilson: {low:.2f} to {high:.2f} %)."
    )
    if origin.weights == EMA:
        text += " The weights are averages over steps of the run (`--weights=ema`)."
    if origin.weights == BEST:
        text += " The weights were chosen on this split, so that the error is too good."
    elif "planned_steps" in result:
        text += " This split said when to stop training, so that the error is too good."
    if seen := int(result.get("seen_before", 0)):
        text += (
            f" {seen:,} of these images are among those that its first weights or its teacher were "
            "trained on, so that the error is too good."
        )
    if len(origin.seeds) > 1:
        mean, low, high = intervals.of_seeds(origin.seeds)
        # No error is beyond these; and without a spread there is nothing to estimate one from.
        ends = f"95 % t interval: {max(low, 0):.2f} to {min(high, 100):.2f} %"
        interval = ends if low < high else "all alike, which gives no interval"
        text += f" Mean over {len(origin.seeds)} seeds: {mean:.2f} % ({interval})."
    return text


def _images(network: Classifier) -> str:
    preprocessing = network.preprocessing
    height, width, channels = preprocessing.image_shape
    return (
        f"{height} x {width} pixels, "
        f"{counted(channels, 'channel')}; crop {preprocessing.eval_crop:g} "
        f"({preprocessing.crop_mode}), {preprocessing.interpolation}; "
        f"{len(network.class_names)} classes.\n"
    )


def _ways(
    network: Classifier, written: Sequence[str], architecture: str, repository: str
) -> list[str]:
    place = f"hf-hub:{repository}" if repository else "FOLDER"
    height, width, _ = network.preprocessing.image_shape
    ways = []
    if "model.safetensors" in written and height == width:  # as weights/image_spec.py needs it
        ways += [
            "With senet_jax, in JAX:\n",
            "```python\nfrom senet_jax import load_classifier\n\n"
            f'network = load_classifier("{place}")\n```\n',
        ]
    if architecture:
        place = place if repository else f"local-dir:{place}"
        ways += [
            "With timm, in PyTorch:\n",
            f'```python\nimport timm\n\nmodel = timm.create_model("{place}", pretrained=True)\n'
            "```\n",
        ]
    if "model.stablehlo" in written:
        ways += [
            "With JAX alone, uint8 images [batch, H, W, C] to logits:\n",
            "```python\nimport jax\n\n"
            'program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))\n'
            "logits = program.call(images)\n```\n",
        ]
    if "model.onnx" in written:
        ways += [
            "With ONNX Runtime, the same:\n",
            "```python\nimport onnxruntime\n\n"
            'session = onnxruntime.InferenceSession("model.onnx")\n'
            '(logits,) = session.run(None, {"images": images})\n```\n',
        ]
    return ways
