"""The manifest for Kubernetes is one of JobSet's, and its command one of ours."""

from pathlib import Path

import pytest
import yaml
from kubeflow_trainer_api import models

from senet_jax import main
from senet_jax.system import cli

MANIFEST = Path(__file__).parents[2] / "experiments" / "launch" / "jobset.yaml"


@pytest.fixture
def manifest():
    return yaml.safe_load(MANIFEST.read_text("utf-8"))


def pod_of(manifest):
    (job,) = manifest["spec"]["replicatedJobs"]
    return job["template"]["spec"], job["template"]["spec"]["template"]["spec"]


def test_every_field_is_one_of_the_schema(manifest):
    """The schema is that of JobSet and Kubernetes in Kubeflow, which drops fields it lacks."""
    read = models.JobsetV1alpha2JobSet.from_dict(manifest)
    assert read.to_dict() == manifest
    manifest["spec"]["replicatedJob"] = []
    assert models.JobsetV1alpha2JobSet.from_dict(manifest).to_dict() != manifest


def test_its_processes_find_each_other_and_have_time_to_save(manifest):
    job, pod = pod_of(manifest)
    (container,) = pod["containers"]
    python, dash_m, module, *arguments = container["command"]
    assert (python, dash_m, module) == ("python", "-m", "senet_jax.main")
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    assert set(given) - {"config"} <= set(main.FLAGS)
    assert int(given["num_processes"]) == job["completions"] == job["parallelism"]
    # JobSet's name of the first pod: <jobset>-<job>-<job index>-<pod index>.<jobset>
    name, replicated = manifest["metadata"]["name"], manifest["spec"]["replicatedJobs"][0]["name"]
    host, port = given["coordinator"].split(":")
    assert host == f"{name}-{replicated}-0-0.{name}"
    assert {"containerPort": int(port), "protocol": "TCP"} in container["ports"]
    assert job["completionMode"] == "Indexed"
    assert given["process_id"] == "$(JOB_COMPLETION_INDEX)"
    cli.check_config_file(given["config"])
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert any(given["workdir"].startswith(f"{path}/") for path in mounted)
    assert pod["terminationGracePeriodSeconds"] > 30  # Kubernetes's own
