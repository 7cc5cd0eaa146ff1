"""Faults from Python tests, over the API of `murphy serve`. Needs the standard library only.

    with murphy.faults("connect:error=ECONNREFUSED:port=6379", pid=os.getpid()) as fault:
        ...                                   # whatever is to survive this
        assert fault.report()["faults"][0]["injected"] > 0
"""

import contextlib
import http.client
import json
import os
import socket
import threading

SOCKET = os.environ.get("MURPHY_SOCKET", "/run/murphy/api.socket")
LEASE = 10


class Refused(Exception):
    """What murphy says is wrong."""


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(SOCKET)


def ask(method, path, body=None):
    with contextlib.closing(Connection("murphy")) as connection:
        connection.request(method, path, body and json.dumps(body))
        answer = connection.getresponse()
        said = json.loads(answer.read())
    if answer.status >= 400:
        raise Refused(f"{said.get('at', path)}: {said['detail']}")
    return said


class Fault:
    def __init__(self, id):
        self.id = id

    def report(self):
        return ask("GET", f"/v1/faults/{self.id}")["report"]


@contextlib.contextmanager
def faults(*expressions, duration="5m", **target):
    """Injects while the block runs. A test that is killed loses its faults with the lease."""
    order = {"faults": expressions, "target": target, "for": duration, "lease": f"{LEASE}s"}
    fault = Fault(ask("POST", "/v1/faults", order)["id"])
    done = threading.Event()

    def renew():
        while not done.wait(LEASE / 4):
            ask("POST", f"/v1/faults/{fault.id}/renew")

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield fault
    finally:
        done.set()
        renewing.join()
        ask("DELETE", f"/v1/faults/{fault.id}")
