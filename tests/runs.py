"""What a finished run leaves, without the run."""

from senet_jax import workdir


def finish(directory, config, **result):
    """Write config.json and result.json; `result` is what differs from a run of our own."""
    workdir.start(directory, config)
    result = {
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "params": 1000,
        "eval/top1_error": 50.0,
        "eval/examples": 360,
        "wall_time_seconds": 10.0,
        "device_kind": "cpu",
        "devices": 1,
        "host_cpus": 2,
        "jax_version": "0",
        "git_commit": "abc",
    } | result
    workdir.write_json(directory / "result.json", result)
