"""The floor: a server in C that decides nothing and answers each call as authz-service answered one.

What it adds to the median request is Envoy's and the machine's. Its p99 is chance, and may be above ours.
"""

import subprocess
from pathlib import Path

from grpc_health.v1.health_pb2 import HealthCheckResponse

from bench.credentials import in_grpc
from bench.processes import BenchFailed, Listener

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = "cc"
HEALTHY = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()


def constant_answer(answer: bytes, socket: Path, *, core: int) -> Listener:
    """The server, compiled beside its socket.

    :param answer: a ``CheckResponse``.
    :raises BenchFailed: it cannot be compiled.
    """
    program, response = socket.with_suffix(""), socket.with_suffix(".response")
    command = [COMPILER, "-O2", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"{SOURCE.name} does not compile:\n{done.stderr[-2000:]}")
    # Envoy asks for its health as well. To either question the other's answer is a field that it does not know.
    response.write_bytes(in_grpc(answer + HEALTHY))
    return Listener([str(program), str(socket), str(response)], socket, core=core)
