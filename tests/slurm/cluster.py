"""A real Slurm of one node on loopback, with two GPUs that are none: no systemd, no database.

Written for Slurm 22.05, Debian 12's. Everything lies in one temporary folder, and all that was
started is stopped again: by `stop`, or by the kernel where the tests themselves are killed.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

GPUS = 2
MODEL = "tiny"
PATIENCE = 1200  # seconds after which something hangs for sure, however busy the machine

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/slurmctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# No cgroups and no MPI.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
# A job that takes more memory than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
# Jobs start and end quickly, and finished ones stay to be looked at.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,bf_min_age_reserve=0
ReturnToService=1
EnforcePartLimits=ALL
KillWait=5
MinJobAge=7200
AccountingStorageType=accounting_storage/none
# Which GPUs a job was given, written down by the node itself.
TaskProlog={folder}/bin/write-down
GresTypes=gpu
# The node claims more than the machine may have.
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=4 RealMemory=8000 Gres=gpu:{model}:{gpus}
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=standard Nodes=node1 Default=YES MaxTime=600 PriorityTier=10 PreemptMode=OFF
PartitionName=overnight Nodes=node1 MaxTime=600 PriorityTier=1 GraceTime=20
"""


class Cluster:
    """Slurm's daemons, and what its commands say about jobs."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)  # munge refuses a socket that not everybody reaches
        self.daemons = []
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/usr/bin",
        }
        self.environment.pop("SNAKEMAKE_PROFILE", None)

    def __enter__(self):
        try:
            self._configure()
            self._start_munge()
            self._start("slurmctld", "slurmctld", "-D", "-c")
            self._start("slurmd", "slurmd", "-D", "-c")
            wait_for(self._is_up, "the node to be idle", 120)
        except BaseException:
            print(self.logs())
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _configure(self):
        for name in ("munge", "slurmctld", "slurmd", "gpus", "bin"):
            (self.folder / name).mkdir()
        # The devices have to be devices, or Slurm sets no CUDA_VISIBLE_DEVICES.
        for number in range(GPUS):
            os.mknod(self.folder / f"gpus/gpu{number}", 0o20666, os.makedev(1, 3))
        values = {"host": socket.gethostname().partition(".")[0], "ports": free_ports(2)}
        values |= {"folder": self.folder, "gpus": GPUS, "model": MODEL}
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
        devices = f"Type={MODEL} File={self.folder}/gpus/gpu[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu {devices}\n")
        # slurmd of 22.05 wants one named, although nothing uses it.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # A job's own srun is started without SLURM_CONF, which /etc/slurm makes up for elsewhere.
        configuration = f"SLURM_CONF={self.folder}/slurm.conf"
        self._script("srun", f'{configuration} exec {shutil.which("srun")} "$@"')
        line = "$SLURM_JOB_ID ${CUDA_VISIBLE_DEVICES:-none}"
        self._script("write-down", f'echo "{line}" >> {self.folder}/devices.txt')

    def _script(self, name, line):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def _start_munge(self):
        folder = self.folder / "munge"
        folder.chmod(0o755)
        key = folder / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        places = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid"}
        places |= {"log-file": folder / "log", "seed-file": folder / "seed"}
        options = [f"--{name}={path}" for name, path in places.items()]
        self._start("munge/munged", "munged", "--foreground", *options)
        wait_for((folder / "socket").exists, "munge's socket", 60)

    def _start(self, name, *words):
        with open(self.folder / f"{name}.log", "w") as log:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *words],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.daemons.append(daemon)

    def _is_up(self):
        assert all(daemon.poll() is None for daemon in self.daemons), "a daemon of Slurm died"
        return self.node_state() == "idle"

    def stop(self):
        """Stop all jobs and daemons, last started first, and remove the folder."""
        try:
            if self.node_state():
                self.cancel_everything()
        finally:
            for daemon in reversed(self.daemons):
                end(psutil.Process(daemon.pid) if daemon.poll() is None else None)
                daemon.wait()
            for process in self.processes():
                end(process)
            shutil.rmtree(self.folder, ignore_errors=True)

    def cancel_everything(self):
        """Cancel all jobs and wait until they are gone."""
        self.run("scancel", "--user=root", check=False)
        wait_for(lambda: not self.run("squeue", "--noheader"), "cancelled jobs to go", 120)

    def processes(self):
        """All processes of this cluster: daemons, and what jobs started."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                environment = process.environ()
            except psutil.Error:
                continue
            mine = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
            if process.pid != os.getpid() and (mine or f"{self.folder}/" in words):
                found.append(process)
        return found

    def run(self, *words, check=True):
        """What a command of Slurm prints."""
        done = subprocess.run(
            words, env=self.environment, check=False, capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def node_state(self):
        return self.run("sinfo", "--noheader", "--format=%T", "--partition=standard", check=False)

    def jobs(self, folder=None):
        """All jobs of a folder, also finished ones, as Slurm knows them: a list of dicts."""
        lines = self.run("scontrol", "--oneliner", "show", "jobs").splitlines()
        jobs = [dict(re.findall(r"(?:^| )(\w+)=(\S*)", line)) for line in lines]
        return [job for job in jobs if folder is None or job.get("WorkDir") == str(folder)]

    def devices(self):
        """Job id -> its CUDA_VISIBLE_DEVICES, as the node wrote it down."""
        return dict(map(str.split, (self.folder / "devices.txt").read_text().splitlines()))

    def logs(self):
        """The ends of the daemons' logs."""
        logs = [path for path in self.folder.rglob("*.log") if path.is_file()]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in logs)


def free_ports(number):
    """Ports that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def end(process):
    """Terminate a process, and kill it if it does not listen."""
    if process is None:
        return
    try:
        process.terminate()
        process.wait(30)
    except psutil.TimeoutExpired:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def wait_for(condition, what, patience=PATIENCE):
    """Wait until something is true; returns it."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s in vain for {what}"
        time.sleep(0.2)
    return value
