"""A health server by gRPC's C core. Arguments: its address, and alts or plaintext. It prints a line when it listens."""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

address, security = sys.argv[1:]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services = health.HealthServicer()
services.set("up", health_pb2.HealthCheckResponse.SERVING)
services.set("down", health_pb2.HealthCheckResponse.NOT_SERVING)
health_pb2_grpc.add_HealthServicer_to_server(services, server)
if security == "alts":
    bound = server.add_secure_port(address, grpc.alts_server_credentials())
else:
    bound = server.add_insecure_port(address)
assert bound, f"cannot listen on {address}"
server.start()
print("listening", flush=True)
server.wait_for_termination()
