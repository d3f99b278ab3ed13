"""What a test needs to start a broker with client certificates."""

import getpass
import os
import shutil
import socket
import subprocess


# With client certificates, whose names the ACL gets; beside it a plain listener on loopback. Nothing is given up.
SETTINGS = """
per_listener_settings true
user {user}
listener {tls_port} 127.0.0.1
cafile {dir}/ca.pem
certfile {dir}/server.pem
keyfile {dir}/server.key
require_certificate true
use_identity_as_username true
acl_file {dir}/acl
listener {plain_port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 100
message_size_limit 131072
"""


def settings(dir, tls_port, plain_port):
    return SETTINGS.format(user=getpass.getuser(), dir=dir, tls_port=tls_port, plain_port=plain_port)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def mosquitto():
    return shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")


def make_certificates(dir, clients):
    """A root, a server for this machine, and clients: file names and what they are called in the certificate."""

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=dir, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=test root", "-keyout", "ca.key", "-out", "ca.pem")
    wanted = [("server", "localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost")]
    wanted += [(file, name, "extendedKeyUsage=clientAuth") for file, name in clients.items()]
    for file, name, extension in wanted:
        (dir / f"{file}.ext").write_text(extension)
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{file}.key", "-out", f"{file}.csr")
        signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{file}.ext"]
        openssl("x509", "-req", "-days", "2", "-in", f"{file}.csr", *signer, "-out", f"{file}.pem")
