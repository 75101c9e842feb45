"""RabbitMQ for tests: Debian's server as a process on free loopback ports, everything of it in a temp folder.

The name service of Erlang (`epmd`), which the server would leave behind, is a process of ours on a port of its own.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.support.aws import free_ports

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MISSING = "RabbitMQ is not installed: `apt-get install rabbitmq-server` (`make test` does it when it may)."
USER, PASSWORD = "guest", "guest"
READER = "reader"  # may read, and neither make nor write anything
_START = b"AMQP\x00\x00\x09\x01"


class RabbitMissing(Exception):
    """There is no RabbitMQ to test against; the sentence says how to get it."""


@dataclass
class Rabbit:
    """A running broker. `restart` keeps what is durable."""

    folder: Path
    port: int
    tls_port: int
    environment: Mapping[str, str] = field(repr=False)
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def url(self, user: str = USER, password: str = PASSWORD, *, vhost: str = "", port: int | None = None) -> str:
        """Return what a client takes."""
        return f"amqp://{user}:{password}@127.0.0.1:{port or self.port}/{vhost}"

    @property
    def ca(self) -> str:
        """Return the path of the certificate to trust at the TLS port."""
        return str(self.folder / "ca.pem")

    def start(self) -> None:
        """Start it, and wait until it speaks."""
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [str(SERVER)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(self.environment)
            )
        end = time.monotonic() + 50
        while not _speaks(self.port):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"RabbitMQ does not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.05)  # asking again is the only way to know

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def restart(self) -> None:
        """Crash it and start it again."""
        self.stop()
        self.start()


@contextlib.contextmanager
def running_rabbit() -> Iterator[Rabbit]:
    """Start a broker; stop it and its name service by their pids. Raises RabbitMissing."""
    epmd = shutil.which("epmd")
    if not SERVER.exists() or epmd is None:
        raise RabbitMissing(MISSING)
    port, tls_port, dist, names = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="tidegate-rabbit-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        _write_settings(folder, port, tls_port)
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": made,
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tidegate{names}@localhost",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": f"{made}/mnesia",
            "RABBITMQ_LOG_BASE": f"{made}/log",
            "RABBITMQ_CONFIG_FILE": f"{made}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{made}/environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{made}/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -noinput",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the server, so that its pid is the server's
        }
        service = subprocess.Popen([epmd, "-port", str(names), "-address", "127.0.0.1"], stderr=subprocess.DEVNULL)
        rabbit = Rabbit(folder, port, tls_port, environment)
        try:
            rabbit.start()
            yield rabbit
        finally:
            rabbit.stop()
            service.kill()
            service.wait(10)


def _write_settings(folder: Path, port: int, tls_port: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ours = authority.issue_cert("127.0.0.1", "localhost")
    ours.private_key_pem.write_to_path(folder / "key.pem")
    for index, part in enumerate(ours.cert_chain_pems):
        part.write_to_path(folder / "cert.pem", append=index > 0)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [
            {"name": name, "password_hash": _hashed(PASSWORD), "hashing_algorithm": _HASHING, "tags": "", "limits": {}}
            for name in (USER, READER)
        ],
        "vhosts": [{"name": "/"}, {"name": "locked"}],
        "permissions": [
            {"user": USER, "vhost": "/", **everything},
            {"user": READER, "vhost": "/", "configure": "", "write": "", "read": ".*"},
        ],
    }
    (folder / "definitions.json").write_text(json.dumps(definitions))
    (folder / "plugins").write_text("[].\n")
    (folder / "environment").touch()
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.default = 127.0.0.1:{port}\n"
        f"listeners.ssl.default = 127.0.0.1:{tls_port}\n"
        f"ssl_options.cacertfile = {folder}/ca.pem\n"
        f"ssl_options.certfile = {folder}/cert.pem\n"
        f"ssl_options.keyfile = {folder}/key.pem\n"
        "ssl_options.verify = verify_none\n"
        "ssl_options.fail_if_no_peer_cert = false\n"
        f"load_definitions = {folder}/definitions.json\n"
        "disk_free_limit.absolute = 1MB\n"
    )


_HASHING = "rabbit_password_hashing_sha256"


def _hashed(password: str) -> str:
    salt = b"salt"
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _speaks(port: int) -> bool:
    """Say whether a broker answers a greeting."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
            probe.sendall(_START)
            return probe.recv(1) == b"\x01"
    except (OSError, ssl.SSLError):
        return False
