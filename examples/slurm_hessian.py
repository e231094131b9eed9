"""The full Hessian of LiH on the nodes of a SLURM cluster, by dask-jobqueue.

    pip install dask-jobqueue
    python examples/slurm_hessian.py --jobs 16 --queue short

Run it where `sbatch` works, such as on the login node. Each job is one worker, which runs in the
environment of this Python. The jobs end with this script.
"""

import argparse
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Client
from lih_hessian import report


def cluster_of(arguments):
    """Returns a Dask cluster that submits its workers as jobs of SLURM."""
    return SLURMCluster(
        queue=arguments.queue,
        account=arguments.account,
        cores=1,
        processes=1,
        memory="4GB",
        walltime="01:00:00",
        interface=arguments.interface,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=4, help="workers, each a job of one core")
    parser.add_argument("--queue", help="SLURM's partition")
    parser.add_argument("--account", help="SLURM's account")
    parser.add_argument("--interface", help="network that nodes reach this one by, such as ib0")
    parser.add_argument("--out", type=Path, default="out/slurm_hessian.png", help="the plot")
    arguments = parser.parse_args()
    with cluster_of(arguments) as cluster, Client(cluster) as client:
        cluster.scale(jobs=arguments.jobs)
        client.wait_for_workers(1)  # more of them join as SLURM starts their jobs
        report(client, arguments.out)


if __name__ == "__main__":
    main()
