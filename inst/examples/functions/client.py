"""Calls a chain over gRPC: standard input to standard output, as it comes.

    pip install grpcio grpcio-tools
    echo "I hate this" | python client.py "sed e=s/hate/love/ | to-upper"

What is called is at FAUCET_TO, by default 127.0.0.1:9000; FAUCET_CALL_TOKEN is its token, if it wants one.
"""

import os
import pathlib
import sys

import grpc

# functions.proto, from which grpcio-tools makes these two, is beside this file or where the package has it.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "protocol"))
messages, services = grpc.protos_and_services("functions.proto")


def requests(chain):
    """The first says what is called, those after it have the input."""
    yield messages.InvokeRequest(chain=chain, content_type="text/plain")
    while piece := sys.stdin.buffer.read1(65536):
        yield messages.InvokeRequest(data=piece)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    address = os.environ.get("FAUCET_TO", "127.0.0.1:9000").removeprefix("http://").rstrip("/")
    token = os.environ.get("FAUCET_CALL_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        stub = services.FunctionsStub(channel)
        try:
            for answer in stub.Invoke(requests(sys.argv[1]), metadata=metadata):
                sys.stdout.buffer.write(answer.data)
                sys.stdout.buffer.flush()
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
