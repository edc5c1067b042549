"""A service of gRPC as a function of an agent, or of a proxy: what its stock clients and its server see of these between them."""

import os
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import grpc
import functions_pb2 as pb
from functions_pb2_grpc import FunctionsStub



def address(variable):
    return os.environ[variable].rstrip("/").removeprefix("http://")


CALL = (("authorization", "Bearer to-call"),)
DEPLOY = (("authorization", "Bearer to-deploy"),)
PATIENCE = 60


class Echo(grpc.GenericRpcHandler):
    """Methods of bytes: no generated code is needed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.cancelled = threading.Event()

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(method)

    def unary(self, request, context):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata((("seen", metadata.get("mine", "")), ("token", metadata.get("authorization", "none"))))
        with self.lock:
            self.now -= 1
        return request

    def both(self, requests, context):
        for request in requests:
            yield request

    def wait(self, request, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(PATIENCE)
        return request

    def fail(self, request, context):
        context.set_trailing_metadata((("why", "because"),))
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")


class Services(unittest.TestCase):
    server_at = "FAUCET_URL"
    function = "py"
    service = "test.Py"

    @classmethod
    def setUpClass(cls):
        cls.echo = Echo()
        cls.server = grpc.server(ThreadPoolExecutor(16), handlers=(cls.echo,))
        port = cls.server.add_insecure_port("127.0.0.1:0")
        cls.server.start()
        cls.channel = grpc.insecure_channel(address(cls.server_at))
        definition = pb.Definition(name=cls.function, url=f"grpc://127.0.0.1:{port}", services=[cls.service])
        request = pb.DeployRequest(definitions=[definition], wait=60)
        deployed = FunctionsStub(cls.channel).Deploy(request, metadata=DEPLOY, timeout=PATIENCE).functions
        assert deployed[0].status == "deployed", deployed

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.stop(None).wait()

    def unary(self, method, service=None):
        return self.channel.unary_unary(f"{service or '/' + self.service}/{method}")

    def test_unary(self):
        for service in (f"/{self.service}", f"/functions/{self.function}/{self.service}"):
            answer, call = self.unary("Unary", service).with_call(
                b"abc", metadata=CALL + (("mine", "yes"),), timeout=PATIENCE
            )
            self.assertEqual(answer, b"abc")
            trailers = dict(call.trailing_metadata())
            # The token is the agent's, not the service's.
            self.assertEqual((trailers["seen"], trailers["token"]), ("yes", "none"))

    def test_streams(self):
        parts = [bytes([number]) * 50_000 for number in range(100)]
        answers = self.channel.stream_stream(f"/{self.service}/Both")(iter(parts), metadata=CALL, timeout=PATIENCE)
        self.assertEqual(list(answers), parts)

    def test_one_at_a_time(self):
        with ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(self.unary("Unary"), b"%d" % number, metadata=CALL, timeout=PATIENCE) for number in range(100)]
            self.assertEqual([call.result() for call in calls], [b"%d" % number for number in range(100)])
        self.assertEqual(self.echo.most, 1)

    def test_errors(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.unary("Fail")(b"", metadata=CALL, timeout=PATIENCE)
        self.assertEqual((caught.exception.code(), caught.exception.details()), (grpc.StatusCode.DATA_LOSS, "lost"))
        self.assertEqual(dict(caught.exception.trailing_metadata())["why"], "because")
        for method, metadata, code in (
            ("Unary", (), grpc.StatusCode.UNAUTHENTICATED),
            ("None", CALL, grpc.StatusCode.UNIMPLEMENTED),
        ):
            with self.assertRaises(grpc.RpcError) as caught:
                self.unary(method)(b"", metadata=metadata, timeout=PATIENCE)
            self.assertEqual(caught.exception.code(), code)
        with self.assertRaises(grpc.RpcError) as caught:
            self.unary("Unary", "/test.Other")(b"", metadata=CALL, timeout=PATIENCE)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_cancelling(self):
        for cancel in (lambda future: future.cancel(), None):
            self.echo.cancelled.clear()
            future = self.unary("Wait").future(b"", metadata=CALL, timeout=0.5 if cancel is None else PATIENCE)
            if cancel:
                time.sleep(0.2)
                cancel(future)
            self.assertTrue(self.echo.cancelled.wait(PATIENCE))
            self.assertEqual(self.unary("Unary")(b"free", metadata=CALL, timeout=PATIENCE), b"free")

    def test_a_service_is_one_functions_alone(self):
        definition = pb.Definition(name="another", url="grpc://127.0.0.1:9", services=[self.service])
        with self.assertRaises(grpc.RpcError) as caught:
            stub = FunctionsStub(self.channel)
            stub.Deploy(pb.DeployRequest(definitions=[definition], wait=60), metadata=DEPLOY, timeout=PATIENCE)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        self.assertIn(f"`{self.function}`", caught.exception.details())


class ServicesAtProxy(Services):
    server_at = "FAUCET_PROXY_URL"
    function = "far-py"
    service = "test.Far"


if __name__ == "__main__":
    unittest.main()
