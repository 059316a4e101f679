"""Dask does the spreading, containers the holding: tasks of a cluster, each in a container.

Each worker gets an executor more (a plugin brings it), and tasks are sent to that by an annotation.
What they may use up is limited; what they do to their files or processes is nobody else's matter.
Needs the package `distributed`, on the workers as well.
"""

import os
import time

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin

import pyrunc


class Containers(WorkerPlugin):
    """Gives each worker an executor by this name, whose tasks run in containers."""

    def __init__(self, name: str, **limits: object) -> None:
        self.name = name
        self.limits = limits

    def setup(self, worker: Worker) -> None:
        worker.executors[self.name] = pyrunc.Executor(worker.state.nthreads, **self.limits)

    def teardown(self, worker: Worker) -> None:
        worker.executors.pop(self.name).shutdown()


def square(number: int) -> tuple[int, int]:
    """Return its square, and which process said so."""
    return number * number, os.getpid()


def main() -> None:
    """Square eight numbers in containers of two workers, and let a task take too long."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        # Time enough to import Dask in: its own functions call the task's.
        limits = {"memory": "512M", "timeout": 120, "best_effort": True}
        client.register_plugin(Containers("contained", **limits))
        client.register_plugin(Containers("brief", timeout=1))
        with dask.annotate(executor="contained"):
            futures = client.map(square, range(8), pure=False)
        told = client.gather(futures)
        print([value for value, _ in told])
        print("process ids inside:", {pid for _, pid in told})
        places = client.who_has(futures).values()
        print("workers:", len({worker for where in places for worker in where}))
        with dask.annotate(executor="brief"):
            endless = client.submit(time.sleep, 1000, pure=False)
        print("too long:", type(endless.exception()).__name__)


if __name__ == "__main__":
    main()
