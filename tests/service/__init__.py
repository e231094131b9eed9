"""The loopback service as tests use it; see `service/server.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

TOKEN = "loopback-token-0123456789abcdef"  # what must not be found in any output
INSTANCES = {
    plan: f"crn:v1:bluemix:public:quantum-computing:us-east:a/loopback:{plan}-instance::"
    for plan in ("open", "premium")
}


class Loopback:
    """A server in a process of its own, which outlives any client.

    Args:
        *arguments: Of `server.py`, such as ``"--delay", "0.5"``.
    """

    def __init__(self, *arguments: str):
        self.directory = tempfile.TemporaryDirectory(prefix="loopback-")
        server = Path(__file__).with_name("server.py")
        options = ["--token", TOKEN, "--directory", self.directory.name, *map(str, arguments)]
        environment = {k: v for k, v in os.environ.items() if k.lower() not in self.variables}
        with (Path(self.directory.name) / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(server), *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the loopback server did not start")
        ready = json.loads(line)
        self.port, self.certificate = ready["port"], ready["certificate"]

    variables = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle")

    def environment(self, plan: str = "premium") -> dict[str, str]:
        """Returns the environment variables of a client that talks to this server.

        Proxies are asked even for loopback addresses then, and no name is resolved.
        """
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            "HTTP_PROXY": proxy,
            "http_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": "",
            "no_proxy": "",
            "REQUESTS_CA_BUNDLE": self.certificate,
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "QISKIT_IBM_TOKEN": TOKEN,
            "QISKIT_IBM_INSTANCE": INSTANCES[plan],
        }

    def ask(self, what: str, content=None):
        """Asks one of the server's private endpoints; with content, tells it something."""
        data = None if content is None else json.dumps(content).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}/private/{what}", data, 30) as answer:
            return json.load(answer)

    def counts(self) -> dict:
        """Returns how many jobs were created: jobs, by_tag, by_content; and all requests."""
        return self.ask("counts")

    def jobs(self) -> list[dict]:
        """Returns all jobs with their options."""
        return self.ask("jobs")

    def faults(self, *rules: dict) -> None:
        """Replaces the faults; see `service/faults.py`. Without any, all is well again."""
        self.ask("faults", list(rules))

    def reset(self) -> None:
        """Forgets jobs, sessions, counts and faults."""
        self.ask("reset", {})

    def close(self) -> None:
        """Ends the server."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.directory.cleanup()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_) -> None:
        self.close()
