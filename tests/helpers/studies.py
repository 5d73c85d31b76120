"""What tests go through with every study."""


def datasets_of(study):
    """A dataset of each recipe that the study can be trained on."""
    # Images of imagenet2012 are streamed, and `transfer` halves classes in memory.
    most = ("imagenet2012",) if study.name != "transfer" else ()
    return ("digits", "cifar100", *most)
