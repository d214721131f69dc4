"""Functions in processes of their own: killed at will, or as the gloo processes of one training.

A server process imports the packages once and forks the others, so that starting one takes no time.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch._dynamo", "accelerate", "tests.training.toy", "mdtdist.training.trainer"])


def start(function: Callable[..., None], *args: Any) -> Any:
    """A running process."""
    process = CONTEXT.Process(target=function, args=args)
    process.start()
    return process


def run_group(function: Callable[..., Any], *args: Any, size: int = 2, seconds: float = 120) -> list[Any]:
    """What a function returns in each of several processes that a launcher might have started.

    An exception is returned too, and so is the exit status of a process that ends without a result.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = CONTEXT.Queue()
    group = [start(_member, function, args, rank, size, port, queue) for rank in range(size)]
    try:
        results = dict(queue.get(timeout=seconds) for _ in group)
    finally:
        for process in group:
            process.join(20)
            process.kill()
    return [results[rank] for rank in range(size)]


def _member(function: Callable[..., Any], args: Any, rank: int, size: int, port: int, queue: Any) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
    )
    import torch

    torch.set_num_threads(1)
    try:
        queue.put((rank, function(rank, *args)))
    except BaseException as err:  # SystemExit too
        queue.put((rank, err))
