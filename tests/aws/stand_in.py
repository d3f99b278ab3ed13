"""AWS's stand-in: moto's server on a free loopback port, and clients of it with the rights of the account's owner."""

import socket
import sys

import boto3
from asks import REGION
from botocore.config import Config
from parts import Part, until
from shared.broker import free_port

# The owner's calls are quick or a failure; a retry would hide it.
CONFIG = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=60)


class StandIn:
    def __init__(self, logs):
        self.port = free_port()
        server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", self.port]
        self.part = Part("moto", logs, *server)
        until("moto accepts", self.accepts)

    def accepts(self):
        if self.part.process.poll() is not None:
            raise AssertionError(f"moto ended: {self.part.tail()}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.part.stop()

    def client(self, service):
        return client(service, self.port, {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner"})


def client(service, port, credentials):
    """A client of `service` with an identity: straight at the stand-in's port, or at the recorder's."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=credentials.get("AWS_SESSION_TOKEN"),
        config=CONFIG,
    )
