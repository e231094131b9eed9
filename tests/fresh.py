"""Processes of their own for tests, as forks of one that has imported what most of them need.

A process takes six seconds of computing to import TensorFlow, PennyLane and qshift, and tests start
dozens. A fork of one that has done so, and nothing else, begins like any other, but has the modules
already. What is about imports, or about how Python itself is started, takes a process from scratch.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types

_READY = ("tensorflow", "qshift.api.qnode")
_FILE = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Process:
    """A program that runs in a process of its own.

    Args:
        code: The program.
        *arguments: The rest of its `sys.argv`.
        cwd: The directory that it runs in; this process's own if not given.
        env: Its environment variables; this process's own if not given.

    Attributes:
        pid: The process's id.
    """

    def __init__(self, code: str, *arguments, cwd=None, env=None):
        self._out, self._err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self._state, state = socket.socketpair()
        with tempfile.TemporaryFile("w+") as asked, open(os.devnull) as nothing, state:
            request = {
                "code": code,
                "argv": ["-c", *map(str, arguments)],
                "cwd": str(cwd or os.getcwd()),
                "env": dict(os.environ if env is None else env),
            }
            json.dump(request, asked)
            asked.seek(0)
            files = (asked, nothing, self._out, self._err, state)
            socket.send_fds(_server()[0], [b"\n"], [each.fileno() for each in files])
        self._answers = self._state.makefile()
        if not (answer := self._answers.readline()):
            raise RuntimeError("the process that forks is not there")
        self.pid = int(answer)

    def wait(self, timeout: float = 300.0) -> subprocess.CompletedProcess:
        """Waits for the end of the process, which is killed after so many seconds; returns what
        `subprocess.run` returns."""
        self._state.settimeout(timeout)
        try:
            returncode = int(self._answers.readline())
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            told = []
            for file in (self._out, self._err):
                file.seek(0)
                told.append(file.read())
                file.close()
            self._state.close()
        return subprocess.CompletedProcess("-c", returncode, *told)


def run(code: str, *arguments, timeout: float = 300.0, **settings) -> subprocess.CompletedProcess:
    """Runs a program in a process of its own, to its end; see `Process`."""
    return Process(code, *arguments, **settings).wait(timeout)


def run_file(path, *arguments, **settings) -> subprocess.CompletedProcess:
    """Runs a file with a program as `run` does."""
    return run(_FILE, path, *arguments, **settings)


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    """Starts the process that forks; it ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=os.path.dirname(os.path.dirname(__file__)),
        )
    return ours, process


def _serve(requests: socket.socket) -> dict:
    """Forks for each request until nobody asks any more; returns in the forks, with the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that watch processes may go
    while True:
        message, files, *_ = socket.recv_fds(requests, 1, 5)
        if not message:
            sys.exit()
        if not os.fork():
            break
        for each in files:
            os.close(each)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    asked, *streams, state = files
    if pid := os.fork():
        with contextlib.suppress(OSError):  # nobody waits any more
            os.write(state, b"%d\n" % pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(state, b"%d\n" % status)
        os._exit(0)
    for place, each in enumerate(streams):
        os.dup2(each, place)
    with open(asked) as file:
        request = json.load(file)
    for each in (*streams, state):
        os.close(each)
    return request


def _main():
    for module in _READY:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that garbage collectors of forks do not touch, and thereby copy, what is there
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = request["argv"]
    sys.path[0] = ""
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(request["code"], "<string>", "exec"), vars(main))


if __name__ == "__main__":
    _main()
