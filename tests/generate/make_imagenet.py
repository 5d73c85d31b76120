"""Write senet_jax/weights/imagenet.csv: the classes of ImageNet-1k in their order, with names.

python tests/generate/make_imagenet.py        (needs timm, not PyTorch)

Names are the first lemma of each synset in WordNet (Princeton University), as timm has them; where
two classes share it, the synset stands behind it.
"""

import collections
import csv
import importlib.util
from pathlib import Path

import senet_jax


def main():
    spec = importlib.util.find_spec("timm")  # to import it would take PyTorch
    assert spec is not None, "timm is not installed"
    info = Path(*spec.submodule_search_locations) / "data" / "_info"
    synsets = (info / "imagenet_synsets.txt").read_text("utf-8").split()
    lines = (info / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    lemmas = dict(line.split("\t") for line in lines)
    names = [lemmas[synset].split(",")[0] for synset in synsets]
    count = collections.Counter(names)
    path = Path(senet_jax.__file__).parent / "weights" / "imagenet.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["synset", "name"])
        for synset, name in zip(synsets, names, strict=True):
            table.writerow([synset, name if count[name] == 1 else f"{name} ({synset})"])
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
