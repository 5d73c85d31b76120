"""Write senet_jax/weights/timm.csv: what timm says of every set of weights of our networks.

python tests/generate/make_timm.py        (needs timm; tests do not)
"""

import csv
import io
from pathlib import Path

from timm.models import get_pretrained_cfg, list_pretrained

from senet_jax.weights import timm


def main():
    text = io.StringIO()
    columns = ("weights", "pixels", "crop_pct", "test_pixels", "test_crop_pct", "interpolation")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*columns, "mean", "std", "num_classes", "license"])
    published = list_pretrained()
    for network in timm.NETWORKS:
        default = get_pretrained_cfg(network)
        names = [name for name in published if name.partition(".")[0] == network]
        names.sort(key=lambda name: default is None or not name.endswith(f".{default.tag}"))
        for name in names:
            c = get_pretrained_cfg(name)
            assert (c.crop_mode, c.label_offset, c.fixed_input_size) == ("center", None, False), c
            for size in (c.input_size, c.test_input_size or c.input_size):
                assert size == (3, size[1], size[1]), c
            row = (name, c.input_size[1], c.crop_pct, c.test_input_size and c.test_input_size[1])
            mean, std = (" ".join(map(str, values)) for values in (c.mean, c.std))
            row += (c.test_crop_pct, c.interpolation, mean, std, c.num_classes, c.license)
            table.writerow(["" if cell is None else cell for cell in row])
    path = Path(timm.__file__).with_name("timm.csv")
    path.write_text(text.getvalue(), "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
