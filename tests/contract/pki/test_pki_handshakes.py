"""Every certificate completes a real mutual-TLS handshake: OpenSSL, Python and both Node.js, on either side."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from tests.contract.pki.conftest import Made, Pair
from tests.contract.pki.servers import process_server
from tests.support.nodered import node

HOST = "pi.local"
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ANSWER = b"HTTP/1.0 200 ok\r\n\r\n"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

NODE_SERVER = """
const fs = require("fs");
const [cert, key, ca] = process.argv.slice(1).map((file) => fs.readFileSync(file));
const server = require("tls").createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, (s) => {
  s.on("error", () => {});
  s.once("data", () => s.end("HTTP/1.0 200 ok\\r\\n\\r\\n"));
});
server.listen(0, "127.0.0.1", () => console.log("ACCEPT 127.0.0.1:" + server.address().port));
"""
NODE_CLIENT = """
const fs = require("fs");
const [port, servername, version, ca, cert, key] = process.argv.slice(1);
const options = { host: "127.0.0.1", port, servername, minVersion: version, maxVersion: version,
  ca: fs.readFileSync(ca), cert: cert && fs.readFileSync(cert), key: key && fs.readFileSync(key) };
const socket = require("tls").connect(options, () => socket.write("GET / HTTP/1.0\\r\\n\\r\\n"));
socket.on("data", (data) => process.stdout.write(data));
socket.on("error", (error) => { console.error(error.message); process.exit(1); });
"""


def openssl_server(made: Made, server: Pair) -> AbstractContextManager[int]:
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", server.cert_file, "-key", server.key_file]
    return process_server(
        [*command, "-CAfile", made.device_ca_file, "-Verify", "1", "-verify_return_error", "-www"]
    )


def node_server(version: str) -> Callable[[Made, Pair], AbstractContextManager[int]]:
    def start(made: Made, server: Pair) -> AbstractContextManager[int]:
        program = [str(node(version)), "-e", NODE_SERVER]  # type: ignore[arg-type]
        return process_server([*program, server.cert_file, server.key_file, made.device_ca_file])

    return start


@contextmanager
def python_server(made: Made, server: Pair) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert_file, server.key_file)
    context.load_verify_locations(made.device_ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                with raw:
                    raw.settimeout(10)
                    try:
                        with context.wrap_socket(raw, server_side=True) as connection:
                            connection.recv(100)
                            connection.sendall(ANSWER)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def python_client(made: Made, port: int, host: str, version: str, device: Pair | None) -> bool:
    context = ssl.create_default_context(cafile=made.server_ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if device is not None:
        context.load_cert_chain(device.cert_file, device.key_file)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            connection.sendall(REQUEST)
            return b"200 ok" in connection.recv(100)
    except OSError:
        return False


def openssl_client(made: Made, port: int, host: str, version: str, device: Pair | None) -> bool:
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{port}",
        "-servername",
        host,
        "-verify_hostname",
        host,
    ]
    command += ["-CAfile", made.server_ca_file, "-verify_return_error", "-quiet", "-x509_strict"]
    command += ["-tls1_2" if version == "1.2" else "-tls1_3"]
    command += ["-cert", device.cert_file, "-key", device.key_file] if device else []
    done = subprocess.run(command, input=REQUEST, capture_output=True, timeout=30, check=False)
    return b"200 ok" in done.stdout


def node_client(program: str) -> Callable[[Made, int, str, str, Pair | None], bool]:
    def connect(made: Made, port: int, host: str, version: str, device: Pair | None) -> bool:
        files = [made.server_ca_file, *([device.cert_file, device.key_file] if device else [])]
        command = [str(node(program)), "-e", NODE_CLIENT, str(port), host, f"TLSv{version}", *files]  # type: ignore[arg-type]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        return b"200 ok" in done.stdout

    return connect


SERVERS = {
    "openssl": openssl_server,
    "python": python_server,
    "node22": node_server("4.1"),
    "node24": node_server("5.0"),
}
CLIENTS = {
    "openssl": openssl_client,
    "python": python_client,
    "node22": node_client("4.1"),
    "node24": node_client("5.0"),
}


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
@pytest.mark.parametrize("server", SERVERS)
def test_device_gets_in_with_every_client(made: Made, server: str, kind: str) -> None:
    """A device's certificate completes the handshake with every client, over TLS 1.2 and 1.3."""
    with SERVERS[server](made, made.servers[kind]) as port:
        seen = {
            (name, version): client(made, port, HOST, version, made.devices[kind])
            for name, client in CLIENTS.items()
            for version in VERSIONS
        }
    assert seen == dict.fromkeys(seen, True)


@pytest.mark.parametrize("server", SERVERS)
def test_strangers_and_foreign_servers_are_refused(made: Made, server: str) -> None:
    """No certificate, one of a CA with the same subject, and the server's own are refused; so is a wrong host."""
    with SERVERS[server](made, made.servers["p256"]) as port:
        for version in VERSIONS:
            for device in (None, made.strangers["p256"], made.strangers["rsa2048"], made.servers["p256"]):
                assert not python_client(made, port, HOST, version, device), (version, device)
            assert python_client(made, port, HOST, version, made.devices["rsa2048"])
    with SERVERS[server](made, made.servers["p256"]) as port:
        for name, client in CLIENTS.items():
            assert not client(made, port, "other.local", "1.3", made.devices["p256"]), name
    with SERVERS[server](made, made.devices["p256"]) as port:
        assert not python_client(made, port, HOST, "1.3", made.devices["p256"])
