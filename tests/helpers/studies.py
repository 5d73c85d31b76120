"""What tests go through with every study."""


def datasets_of(study):
    """A dataset of each recipe that the study can be trained on."""
    # Of imagenet2012 `transfer` does not know the classes that it would halve.
    most = ("imagenet2012",) if study.name != "transfer" else ()
    return ("digits", "cifar100", *most)
