"""A SLURM cluster on this machine, for a test or a look; all its files in one folder.

    python tests/helpers/slurm_cluster.py sinfo
    python tests/helpers/slurm_cluster.py python -m experiments.run reduction --smoke \\
        --launcher=slurm --slurm.time=10
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

# The daemons end with this process, even if it is killed.
UNTIL_WE_END = ("setpriv", "--pdeathsig=TERM") if shutil.which("setpriv") else ()

# Two nodes, each a daemon here, of two processors, whatever the machine has; no cgroups, no
# accounting, and arrays of three jobs at most. Their names are their addresses: JAX reaches the
# first process by its node's name.
NODES = ("127.0.0.1", "127.0.0.2")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=3
MpiDefault=none
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """There is no SLURM on this machine, or it does not start; the message says why."""


@contextlib.contextmanager
def cluster(folder):
    """Inside, a cluster runs; gives the environment in which its commands find it.

    Everything that was started is stopped, jobs as well.

    Raises: Unavailable.
    """
    if lacking := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        raise Unavailable(f"SLURM is not installed: there is no {', '.join(lacking)}")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
    with contextlib.ExitStack() as stack:
        _prepare(folder)
        commands = [
            ["munged", "--foreground", "--force"]
            + [f"--{what}-file={folder}/munge.{what}" for what in ("key", "pid", "log", "seed")]
            + [f"--socket={folder}/munge.socket"],
            ["slurmctld", "-D"],
            *(["slurmd", "-D", "-N", node] for node in NODES),
        ]
        for command in commands:
            name = command[-1] if command[0] == "slurmd" else command[0]
            log = stack.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                [*UNTIL_WE_END, *command],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(_stop, process)
        _wait_until_idle(folder, environment)
        stack.callback(_cancel_all, environment)
        yield environment


def _prepare(folder):
    for name in ("state", *NODES):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in ("controller", *NODES)]
        for one in free:
            one.bind(("", 0))
        controller, *daemons = (one.getsockname()[1] for one in free)
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr={node} Port={port} CPUs=2 State=UNKNOWN"
        for node, port in zip(NODES, daemons, strict=True)
    )
    text = CONFIG.format(
        host=host, user=getpass.getuser(), folder=folder, controller=controller, nodes=nodes
    )
    (folder / "slurm.conf").write_text(text)


def _wait_until_idle(folder, environment):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        sinfo = ["sinfo", "--noheader", "--Node", "--format=%T"]
        asked = subprocess.run(sinfo, env=environment, capture_output=True, text=True, check=False)
        if asked.stdout.split() == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    logs = [folder / f"{name}.log" for name in ("munge", "slurmctld", *NODES)]
    last = [path.read_text().splitlines()[-3:] for path in logs if path.exists()]
    raise Unavailable(f"SLURM does not start: {asked.stdout}{asked.stderr} {last}")


def _cancel_all(environment):
    subprocess.run(["scancel", "--me"], env=environment, check=False)
    deadline = time.monotonic() + 40  # KillWait and some more
    while time.monotonic() < deadline:
        asked = subprocess.run(
            ["squeue", "--noheader"], env=environment, capture_output=True, text=True, check=False
        )
        if not asked.stdout.strip():
            return
        time.sleep(0.2)


def _stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, cluster(Path(place)) as found:
        sys.exit(subprocess.run(sys.argv[1:], env=found, check=False).returncode)
