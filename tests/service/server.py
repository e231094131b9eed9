"""IBM's runtime service on this machine, for an unmodified `QiskitRuntimeService`.

    python tests/service/server.py --port 0 --seed 1 --faults reset-after:0.1,503:0.1

It is an HTTP proxy that answers, itself, all requests to the hosts that the client talks to: the
runtime service, the token service, the search for instances and the catalogue of plans. A client
whose environment names it as its proxy, and its certificate as the one to trust, needs no change at
all, and no name is ever resolved; see `service.environment`. It prints one line of JSON once it
listens: its port and the file of the certificate.

Requests to the server's own address are for tests: ``/private/counts``, ``/private/jobs``,
``/private/faults``, ``/private/backends``, ``/private/queue``, ``/private/delete``,
``/private/expire`` and ``/private/reset``.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import _SocketWriter
from urllib.parse import parse_qs, unquote, urlsplit

import executor
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from faults import BODIES, Faults, parse
from jobs import FINAL, Job, Machine, Queue, decoded, digest, stamp

HOSTS = [
    f"{name}.cloud.ibm.com" for name in ("iam", "quantum", "globalcatalog", "resource-controller")
] + ["api.global-search-tagging.cloud.ibm.com"]
PLANS = {"open": "free", "premium": "subscription"}
_MOST_TAGS, _LONGEST_TAG = 8, 86


def crn(plan: str) -> str:
    """Returns the name of the instance of a plan."""
    return f"crn:v1:bluemix:public:quantum-computing:us-east:a/loopback:{plan}-instance::"


def options(job: Job) -> dict:
    """Returns the options of a job."""
    if job.program == "executor":
        return executor.options(job.params)
    programs = ("pubs", "circuits", "instructions")
    return {name: value for name, value in job.params.items() if name not in programs}


class Answer(Exception):
    """What a request is answered."""

    def __init__(self, status: int, content=None, **headers):
        self.status, self.content, self.headers = status, content, headers


def refusal(status: int, code: int, message: str, **headers) -> Answer:
    """Returns an error as the service words it."""
    return Answer(status, {"errors": [{"code": code, "message": message}]}, **headers)


class Service:
    """All that the requests have in common."""

    def __init__(self, seed: int, token: str, delay: float, ahead: int, rules: list[dict]):
        self.seed, self.token = seed, token
        self.machines = {
            machine.name: machine
            for machine in (
                Machine("ibm_ideal", "FakeManilaV2", noisy=False),
                Machine("ibm_manila", "FakeManilaV2"),
                Machine("ibm_sherbrooke", "FakeSherbrooke"),
                Machine("ibm_fractional", "FakeFractionalBackend"),
            )
        }
        self.queue = Queue(seed, delay, ahead)
        self.faults = Faults(seed)
        self.faults.set(rules)
        self.requests = Counter()
        self.lock = threading.Lock()
        self.bearers: set[str] = set()
        self.sessions: dict[str, dict] = {}
        self.created: list[tuple[str, tuple[str, ...], str]] = []  # id, tags, content

    def reset(self) -> None:
        """Forgets everything but the certificate and the bearer tokens."""
        self.queue.reset()
        self.queue.change(delay=0.0, ahead=0, counting=False)
        self.faults.set([])
        for machine in list(self.machines.values()):
            machine.status, machine.calibrated = "active", ""
            self.rename(machine, machine.called)
        with self.lock:
            self.requests.clear()
            self.sessions.clear()
            self.created.clear()

    def rename(self, machine: Machine, name: str) -> None:
        """Gives a machine another name."""
        del self.machines[machine.name]
        machine.name = name
        self.machines[name] = machine

    # What tests ask

    def private(self, method: str, path: str, body: bytes):
        given = json.loads(body) if body else None
        if path == "/private/counts":
            with self.lock:
                created = list(self.created)
                requests = dict(self.requests)
            return {
                "jobs": len(created),
                "by_tag": Counter(tag for _, tags, _ in created for tag in tags),
                "by_content": Counter(content for *_, content in created),
                "requests": requests,
            }
        if path == "/private/jobs":
            with self.queue.lock:
                jobs = list(self.queue.jobs.values())
            return [
                self.describe(job)
                | {"options": options(job)}
                | {"content": job.content, "cost": job.cost, "pubs": job.pubs}
                | {"role": executor.role(job.params) if job.program == "executor" else None}
                for job in jobs
            ]
        if path == "/private/faults":
            if method == "POST":
                self.faults.set(given)
            return self.faults.list()
        if path == "/private/backends":
            for name, status in (given or {}).items():
                self.machines[name].status = status
            return {name: machine.status for name, machine in self.machines.items()}
        if path == "/private/rename":
            for old, new in given.items():
                self.rename(self.machines[old], new)
            return list(self.machines)
        if path == "/private/calibrate":
            for name, date in given.items():
                self.machines[name].calibrated = date
            return given
        if path == "/private/queue":
            self.queue.change(**(given or {}))
            return {"delay": self.queue.delay, "ahead": self.queue.ahead}
        if path == "/private/delete":
            with self.queue.lock:
                return [self.queue.jobs.pop(name).id for name in given]
        if path == "/private/expire":
            self.bearers.clear()
            return {}
        if path == "/private/reset":
            self.reset()
            return {}
        raise Answer(404)

    # Accounts

    def identity(self, body: bytes):
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        if form.get("apikey") != self.token:
            message = "Provided API key could not be found."
            raise Answer(400, {"errorCode": "BXNIM0415E", "errorMessage": message})
        now = int(time.time())
        claims = {"iat": now, "exp": now + 3600, "id": secrets.token_hex(8)}
        bearer = jwt.encode(claims, "loopback" * 8, algorithm="HS256")
        self.bearers.add(bearer)
        return {
            "access_token": bearer,
            "refresh_token": "none",
            "token_type": "Bearer",
            "expires_in": 3600,
            "expiration": now + 3600,
        }

    def authorize(self, headers) -> None:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        known = self.bearers if scheme == "Bearer" else {self.token}
        if given not in known:
            raise refusal(401, 1214, "The authorization token is not valid or has expired.")

    def search(self):
        return {
            "items": [
                {
                    "crn": crn(plan),
                    "name": plan,
                    "service_plan_unique_id": f"plan-{plan}",
                    "doc": {"extensions": {"backends": list(self.machines)}},
                    "tags": [],
                }
                for plan in PLANS
            ]
        }

    def catalog(self, plan: str):
        return {
            "overview_ui": {"en": {"display_name": plan.capitalize()}},
            "metadata": {"pricing": {"type": PLANS[plan]}},
        }

    # The runtime service

    def runtime(self, method: str, path: str, query: dict, body: bytes, headers, shown, unseen):
        instance = headers.get("Service-CRN", "")
        if instance not in map(crn, PLANS):
            raise refusal(403, 1211, f"There is no instance {instance!r}.")
        steps = [unquote(step) for step in path.strip("/").split("/")]
        match method, *steps:
            case "GET", "instances", "usage":
                return {"usage_consumed_seconds": 0, "usage_limit_seconds": 600}
            case "GET", "backends":
                return {"devices": [self.device(each) for each in self.machines.values()]}
            case "GET", "backends", name, "configuration":
                return self.machine(name).configuration
            case "GET", "backends", name, "properties":
                return self.machine(name).document("props")
            case "GET", "backends", name, "status":
                machine = self.machine(name)
                return {
                    "state": machine.status == "active",
                    "status": machine.status,
                    "message": machine.status,
                    "length_queue": self.waiting(machine),
                    "backend_version": machine.configuration["backend_version"],
                }
            case "POST", "jobs":
                return self.create(body, instance, shown, unseen)
            case "GET", "jobs":
                return self.list(query, instance)
            case "GET", "jobs", name:
                job = self.job(name, instance)
                shown = query.get("exclude_params") != ["true"]
                return self.describe(job) | ({"params": job.params} if shown else {})
            case "DELETE", "jobs", name:
                with self.queue.lock:
                    del self.queue.jobs[self.job(name, instance).id]
                raise Answer(204)
            case "GET", "jobs", name, "results":
                job = self.job(name, instance)
                if job.status not in FINAL:
                    raise Answer(204)
                raise Answer(200, job.result)
            case "GET", "jobs", name, "metrics":
                return self.metrics(self.job(name, instance))
            case "GET", "jobs", name, "logs":
                self.job(name, instance)
                raise Answer(200, "")
            case "POST", "jobs", name, "cancel":
                if not self.queue.cancel(self.job(name, instance)):
                    raise refusal(409, 1291, "The job is in a final state and cannot be cancelled.")
                raise Answer(204)
            case "PUT", "jobs", name, "tags":
                self.job(name, instance).tags = check_tags(json.loads(body)["tags"])
                raise Answer(204)
            case "POST", "sessions":
                return self.open_session(json.loads(body), instance)
            case "GET", "sessions", name:
                return self.session(name)
            case "PATCH", "sessions", name:
                self.session(name).update(json.loads(body))
                raise Answer(204)
            case "DELETE", "sessions", name, "close":
                self.session(name).update(accepting_jobs=False, state="closed")
                raise Answer(204)
        raise refusal(404, 1200, f"There is no {method} {path}.")

    def machine(self, name: str) -> Machine:
        if name not in self.machines:
            raise refusal(404, 1215, f"There is no backend {name!r}.")
        return self.machines[name]

    def waiting(self, machine: Machine) -> int:
        with self.queue.lock:
            jobs = [job for job in self.queue.jobs.values() if job.machine is machine]
            return sum(job.status not in FINAL for job in jobs)

    def device(self, machine: Machine) -> dict:
        online = machine.status == "active"
        return {
            "name": machine.name,
            "status": {"name": "online" if online else "paused", "reason": machine.status},
            "is_simulator": False,
            "qubits": machine.configuration["n_qubits"],
            "queue_length": self.waiting(machine),
        }

    def job(self, name: str, instance: str) -> Job:
        with self.queue.lock:
            job = self.queue.jobs.get(name)
        if job is None or job.instance != instance or job.unseen or job.shown > time.time():
            raise refusal(404, 1291, f"There is no job {name!r}.")
        return job

    def create(self, body: bytes, instance: str, shown: float, unseen: int):
        text = body.decode()
        request = json.loads(text)
        machine = self.machine(request["backend"])
        if machine.status != "active":
            raise refusal(503, 1234, f"The backend is in {machine.status}.")
        tags = check_tags(request.get("tags", []))
        session = request.get("session_id")
        if session and not self.session(session)["accepting_jobs"]:
            raise refusal(400, 1217, "The session is closed.")
        program, pubs, params = decoded(text, machine)
        if program == "estimator":
            level = params.get("resilience_level", 1)
            if level not in (0, 1, 2):
                raise refusal(400, 8050, f"resilience_level: {level} is not allowed.")
        content = digest(program, pubs, params)
        if program == "executor":
            seed = executor.seed(params)
        else:
            seed = params.get("options", {}).get("simulator", {}).get("seed_simulator")
        if seed is None:
            seed = int(digest(program, pubs, {"server": self.seed, **params})[:7], 16) + 1
        fault = self.faults.of_job(tags)
        job = Job(
            f"job-{secrets.token_hex(8)}",
            machine,
            program,
            text,
            tags,
            content,
            seed,
            session,
            instance,
            request.get("cost"),
            fault.kind if fault else None,
            len(pubs),
            shown,
            unseen,
        )
        with self.lock:
            self.created.append((job.id, tuple(tags), content))
        self.queue.add(job)
        return {"id": job.id, "backend": machine.name} | (
            {"session_id": session} if session else {}
        )

    def list(self, query: dict, instance: str):
        with self.queue.lock:
            jobs = [job for job in self.queue.jobs.values() if job.instance == instance]
        jobs = [job for job in jobs if job.shown <= time.time()]
        wanted = set(query.get("tags", []))
        jobs = [job for job in jobs if wanted <= set(job.tags)]
        hidden = [job for job in jobs if job.unseen]
        jobs = [job for job in jobs if not job.unseen]
        for job in hidden:
            job.unseen -= 1
        if "pending" in query:
            pending = query["pending"] == ["true"]
            jobs = [job for job in jobs if (job.status not in FINAL) == pending]
        for key, value in (
            ("backend", lambda job: job.machine.name),
            ("program", lambda job: job.program),
            ("session_id", lambda job: job.session),
        ):
            if key in query:
                jobs = [job for job in jobs if [value(job)] == query[key]]
        if query.get("sort") != ["ASC"]:
            jobs.reverse()
        first = int(query.get("offset", ["0"])[0])
        limit = int(query.get("limit", ["200"])[0])
        page = [self.describe(job) for job in jobs[first : first + limit]]
        return {"jobs": page, "count": len(jobs), "limit": limit, "offset": first}

    def describe(self, job: Job) -> dict:
        state = {"status": job.status}
        if job.reason:
            state |= {"reason": job.reason}
        if job.reason_code:
            state |= {"reason_code": job.reason_code}
        return {
            "id": job.id,
            "backend": job.machine.name,
            "state": state,
            "status": job.status,
            "program": {"id": job.program},
            "created": stamp(job.created),
            "ended": stamp(job.finished),
            "runtime": "loopback",
            "tags": job.tags,
            "session_id": job.session,
            "usage": {"seconds": job.seconds},
            "estimated_running_time_seconds": job.seconds,
        }

    def metrics(self, job: Job) -> dict:
        position = self.queue.position(job)
        return {
            "timestamps": {
                "created": stamp(job.created),
                "running": stamp(job.started),
                "finished": stamp(job.finished),
            },
            "bss": {"seconds": job.seconds},
            "usage": {
                "status": "pending"
                if self.queue.counting or job.status not in FINAL
                else "completed",
                "qpu_charge_time_seconds": job.seconds,
                "quantum_seconds": job.seconds,
                "seconds": job.seconds,
            },
            "executions": job.executions,
        } | ({} if position is None else {"position_in_queue": position})

    def open_session(self, wish: dict, instance: str):
        if wish.get("mode") == "dedicated" and instance == crn("open"):
            message = "You are not authorized to run a session when using the open plan."
            raise refusal(400, 1352, message)
        session = {
            "id": f"session-{secrets.token_hex(8)}",
            "backend_name": wish.get("backend"),
            "mode": wish.get("mode"),
            "max_ttl": wish.get("max_ttl"),
            "state": "open",
            "accepting_jobs": True,
        }
        with self.lock:
            self.sessions[session["id"]] = session
        return session

    def session(self, name: str) -> dict:
        if name not in self.sessions:
            raise refusal(404, 1250, f"There is no session {name!r}.")
        return self.sessions[name]


def check_tags(tags: list[str]) -> list[str]:
    """Returns tags, if the service would take them."""
    if len(tags) > _MOST_TAGS or any(len(tag) > _LONGEST_TAG for tag in tags):
        raise refusal(400, 1233, f"At most {_MOST_TAGS} tags of {_LONGEST_TAG} characters.")
    return tags


class Handler(BaseHTTPRequestHandler):
    """One connection: a tunnel to one of the hosts, or plain requests of tests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits until the client has acknowledged its headers
    host = None  # whom the client thinks it talks to

    def do_CONNECT(self):
        host = self.path.partition(":")[0]
        if host not in HOSTS:
            self.send_error(403, f"{host} is not one of {HOSTS}")
            return
        self.host = host
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = _SocketWriter(self.connection)
        self.close_connection = False

    def finish(self):
        try:
            super().finish()
            if self.host:
                self.connection.close()
        except OSError:  # the client has gone
            pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self):
        self.answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def answer(self):
        service, arrived = self.server.service, time.time()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = (
            url.path.removeprefix("/api/v1") if self.host == "quantum.cloud.ibm.com" else url.path
        )
        fault = None
        if self.host:
            pattern = re.sub(r"/(job|session)-\w+", r"/\1", f"{self.command} {path}")
            with service.lock:
                service.requests[pattern] += 1
            fault = service.faults.of_request(f"{self.command} {path}")
        if fault and fault.kind == "slow" and not fault.after:
            time.sleep(fault.seconds)
        elif fault and not fault.after and fault.kind != "cut":  # which needs the answer
            return self.fail(fault)
        try:
            # From when it came: what it takes to read a request is no delay of the service's.
            seen = (arrived + fault.late, fault.unseen) if fault else (0.0, 0)
            content = self.dispatch(service, path, parse_qs(url.query), body, *seen)
            answer = Answer(200, content)
        except Answer as raised:
            answer = raised
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds if fault.after else 0.0)
        elif fault and answer.status < 400:
            return self.fail(fault, answer)
        self.send(answer)

    def dispatch(self, service, path, query, body, *seen):
        match self.host:
            case None:
                return service.private(self.command, path, body)
            case "iam.cloud.ibm.com":
                return service.identity(body)
        service.authorize(self.headers)
        match self.host:
            case "quantum.cloud.ibm.com":
                return service.runtime(self.command, path, query, body, self.headers, *seen)
            case "globalcatalog.cloud.ibm.com":
                return service.catalog(path.rsplit("plan-", 1)[-1])
            case "resource-controller.cloud.ibm.com":
                return {"rows_count": 0, "resources": []}
        return service.search()

    def fail(self, fault, answer=None):
        """Answers a request as a fault says, or not at all."""
        if fault.kind == "timeout":
            time.sleep(3600 if fault.seconds is None else fault.seconds)
        if fault.kind in ("reset", "timeout"):
            self.close_connection = True
            linger = struct.pack("ii", 1, 0)  # closing resets the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            return
        status, _, name = fault.kind.rpartition("-")
        if name in BODIES:
            kind, content = BODIES[name]
            if content is None:
                whole = answer.content
                whole = whole if isinstance(whole, str) else json.dumps(whole)
                content = whole[: len(whole) // 2]
            return self.send(Answer(int(status or 200), content), kind)
        status = int(fault.kind)
        wait = {} if fault.seconds is None else {"Retry-After": f"{fault.seconds:g}"}
        self.send(refusal(status, 1000 + status, "A fault that was switched on.", **wait))

    def send(self, answer, kind="application/json"):
        content = answer.content
        text = content if isinstance(content, str) else json.dumps(content)
        data = b"" if content is None else text.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Listens on loopback only."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, service: Service, tls: ssl.SSLContext):
        self.service, self.tls = service, tls
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request, address):
        if not isinstance(sys.exception(), OSError):  # a client that has gone
            super().handle_error(request, address)


def certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Makes a certificate for the hosts; returns its file, and what serves with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "qshift's loopback service")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, HOSTS)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    public, private = directory / "certificate.pem", directory / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(public, private)
    return public, tls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free")
    parser.add_argument("--seed", type=int, default=1, help="of samples and random faults")
    parser.add_argument("--token", default="loopback-token", help="the API key that it knows")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a job waits")
    parser.add_argument("--ahead", type=int, default=0, help="jobs of others before each")
    parser.add_argument("--faults", type=parse, default=[], help="JSON, or reset:0.1,503-after:0.1")
    parser.add_argument("--directory", type=Path, help="for the certificate")
    parser.add_argument("--lifetime", type=float, default=7200.0, help="seconds until it ends")
    given = parser.parse_args()
    directory = given.directory or Path(tempfile.mkdtemp(prefix="loopback-"))
    public, tls = certificate(directory)
    service = Service(given.seed, given.token, given.delay, given.ahead, given.faults)
    server = Server(given.port, service, tls)
    print(json.dumps({"port": server.server_port, "certificate": str(public)}), flush=True)
    end = threading.Timer(given.lifetime, server.shutdown)  # if nobody ends it
    end.daemon = True
    end.start()
    server.serve_forever()


if __name__ == "__main__":
    main()
