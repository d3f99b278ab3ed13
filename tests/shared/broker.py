"""What a test needs to start a broker with client certificates."""

import os
import shutil
import socket
import subprocess


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
