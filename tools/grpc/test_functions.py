"""The service faucet.v1.Functions as a client of Python's sees it."""

import json
import os
import threading
import time
import unittest
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import functions_pb2 as pb
from functions_pb2_grpc import FunctionsStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from google.protobuf.descriptor_pool import DescriptorPool

URL = os.environ["FAUCET_URL"].rstrip("/")
ADDRESS = URL.removeprefix("http://")
CALL = (("authorization", "Bearer to-call"),)
DEPLOY = (("authorization", "Bearer to-deploy"),)
# Whatever is not over by then has hung.
PATIENCE = 60


def trailers(error):
    return dict(error.trailing_metadata())


class Functions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.channel = grpc.insecure_channel(ADDRESS)
        cls.stub = FunctionsStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()

    def call(self, chain, data=b"", metadata=CALL, timeout=PATIENCE, **more):
        request = pb.InvokeRequest(chain=chain, data=data, **more)
        return self.stub.Call(request, metadata=metadata, timeout=timeout)

    def invoke(self, chain, parts=(), metadata=CALL, timeout=PATIENCE, **more):
        def requests():
            yield pb.InvokeRequest(chain=chain, **more)
            for part in parts:
                yield pb.InvokeRequest(data=part)

        return self.stub.Invoke(requests(), metadata=metadata, timeout=timeout)

    def fails(self, code, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error = caught.exception
        self.assertEqual(error.code(), code, error)
        return error

    def until(self, what, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.02)

    def workers_are_free(self, name):
        """It answers another call: its worker works for nobody who has left."""
        answer = self.call(name, b'"again"', content_type="application/json", accept="application/json")
        self.assertEqual(json.loads(answer.data), "again")


class Calling(Functions):
    def test_a_value(self):
        answer = self.call("upper", b'"low"', content_type="application/json", accept="application/json")
        self.assertEqual(json.loads(answer.data), "LOW")
        self.assertEqual(answer.content_type.split(";")[0], "application/json")
        self.assertTrue(answer.call_id)

    def test_options(self):
        answer = self.call(
            "add(e = ' & | = + %', n = 2)", b"a", content_type="text/plain", accept="application/json"
        )
        self.assertEqual(json.loads(answer.data), ["a & | = + %"] * 2)

    def test_a_client_without_streams(self):
        """A stream of one message, as a client sends and expects it that knows no streams."""
        plain = self.channel.unary_unary(
            "/faucet.v1.Functions/Invoke",
            request_serializer=pb.InvokeRequest.SerializeToString,
            response_deserializer=pb.InvokeResponse.FromString,
        )
        answer = plain(pb.InvokeRequest(chain="cat", data=b"abc"), metadata=CALL, timeout=PATIENCE)
        self.assertEqual(answer.data, b"abc")

    def test_no_output_is_one_message(self):
        answers = list(self.invoke("cat"))
        self.assertEqual(b"".join(answer.data for answer in answers), b"")
        self.assertTrue(answers[0].call_id)

    def test_many_messages_of_many_sizes(self):
        parts = [bytes([number % 251]) * (number * 977 % 70_000) for number in range(200)]
        answers = list(self.invoke("cat", parts))
        self.assertEqual(b"".join(answer.data for answer in answers), b"".join(parts))

    def test_output_comes_while_input_does(self):
        """Neither waits for the other's end, where the functions do not."""
        for chain in ("cat", "cat | cat | cat"):
            go_on = threading.Event()

            def requests():
                yield pb.InvokeRequest(chain=chain, data=b"first")
                go_on.wait(PATIENCE)
                yield pb.InvokeRequest(data=b"second")

            answers = self.stub.Invoke(requests(), metadata=CALL, timeout=PATIENCE)
            seen = b""
            while seen != b"first":
                seen += next(answers).data
            go_on.set()
            self.assertEqual(b"".join(answer.data for answer in answers), b"second")

    def test_chains(self):
        options = {"content_type": "text/plain", "accept": "application/json"}
        answer = self.call("upper | add e=!", b"low", **options)
        self.assertEqual(json.loads(answer.data), "LOW!")
        answer = self.call("upper() | add(e = \"'|'\")", b"low", buffer=True, **options)
        self.assertEqual(json.loads(answer.data), "LOW'|'")
        parts = [b"some\n"] * 1000
        answers = list(self.invoke("cat | cat", parts, buffer=True))
        self.assertEqual(b"".join(answer.data for answer in answers), b"".join(parts))

    def test_ids_are_passed_on(self):
        metadata = CALL + (("x-request-id", "my-own-id"),)
        self.assertEqual(self.call("cat", metadata=metadata).call_id, "my-own-id")
        error = self.fails(grpc.StatusCode.UNKNOWN, lambda: self.call("fails", metadata=metadata))
        self.assertEqual(trailers(error)["x-request-id"], "my-own-id")

    def test_at_the_same_time_as_http(self):
        def by_http(number):
            request = urllib.request.Request(
                f"{URL}/functions/same",
                b"%d" % number,
                {"Authorization": "Bearer to-call", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read())

        def by_grpc(number):
            answer = self.call("same", b"%d" % number, content_type="application/json", accept="application/json")
            return json.loads(answer.data)

        with ThreadPoolExecutor(8) as pool:
            both = [pool.submit(by, number) for number in range(100) for by in (by_http, by_grpc)]
            answers = [one.result() for one in both]
        answers = [answer if isinstance(answer, int) else answer[0] for answer in answers]
        self.assertEqual(answers, [number for number in range(100) for _ in range(2)])


class Failing(Functions):
    def test_an_error_in_r(self):
        error = self.fails(grpc.StatusCode.UNKNOWN, lambda: self.call("fails"))
        self.assertIn("no such luck", error.details())
        self.assertEqual(trailers(error)["faucet-error"], "function_error")
        self.assertEqual(trailers(error)["faucet-function"], "fails")
        self.assertEqual(trailers(error)["faucet-stage"], "1")
        self.assertIn("x-request-id", trailers(error))
        error = self.fails(grpc.StatusCode.UNKNOWN, lambda: list(self.invoke("fails", [b"a", b"b"])))
        self.assertEqual(trailers(error)["faucet-function"], "fails")

    def test_a_crash(self):
        error = self.fails(grpc.StatusCode.INTERNAL, lambda: self.call("dies"))
        self.assertEqual(trailers(error)["faucet-error"], "worker_died")

    def test_after_the_first_byte(self):
        """What has come is no success."""
        answers = self.invoke("breaks", [b"some"])
        error = self.fails(grpc.StatusCode.INTERNAL, lambda: list(answers))
        self.assertIn(trailers(error)["faucet-error"], ("broken_off", "worker_died"))

    def test_chains(self):
        error = self.fails(grpc.StatusCode.UNKNOWN, lambda: self.call("cat | fails | cat"))
        told = trailers(error)
        self.assertEqual((told["faucet-stage"], told["faucet-function"]), ("2", "fails"))
        self.assertIn("no such luck", error.details())
        error = self.fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.call("cat | | cat"))
        self.assertEqual((trailers(error)["faucet-error"], trailers(error)["faucet-column"]), ("bad_chain", "7"))
        error = self.fails(grpc.StatusCode.NOT_FOUND, lambda: self.call("cat | none"))
        self.assertEqual((trailers(error)["faucet-stage"], trailers(error)["faucet-function"]), ("2", "none"))
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: self.call("cat | endless", timeout=0.3))
        self.until_endless_is_free()
        # After the first byte: what has come is no success, and with `buffer` nothing comes.
        for chain in ("breaks | cat", "cat | breaks"):
            answers = self.invoke(chain, [b"some"])
            self.fails(grpc.StatusCode.INTERNAL, lambda: list(answers))
            answers = self.invoke(chain, [b"some"], buffer=True)
            with self.assertRaises(grpc.RpcError):
                next(answers)

    def test_options(self):
        error = self.fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.call("add"))
        self.assertEqual(trailers(error)["faucet-error"], "bad_option")
        self.assertEqual(trailers(error)["faucet-option"], "e")

    def test_no_function(self):
        self.fails(grpc.StatusCode.NOT_FOUND, lambda: self.call("no-such-function"))

    def test_no_method(self):
        call = self.channel.unary_unary("/faucet.v1.Functions/NoSuchMethod")
        self.fails(grpc.StatusCode.UNIMPLEMENTED, lambda: call(b"", timeout=PATIENCE))

    def test_tokens(self):
        self.fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call("cat", metadata=()))
        wrong = (("authorization", "Bearer wrong"),)
        self.fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call("cat", metadata=wrong))
        self.fails(grpc.StatusCode.UNAUTHENTICATED, lambda: list(self.invoke("cat", [b"a"], metadata=wrong)))
        for metadata in ((), wrong, CALL):
            listing = lambda: self.stub.List(pb.ListRequest(), metadata=metadata, timeout=PATIENCE)
            self.fails(grpc.StatusCode.UNAUTHENTICATED, listing)
        # Who may deploy may call.
        self.assertEqual(self.call("cat", b"a", metadata=DEPLOY).data, b"a")

    def test_a_message_that_is_too_large(self):
        self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.call("cat", bytes(5 << 20)))
        large = bytes(3 << 20)
        self.assertEqual(len(self.call("cat", large).data), len(large))
        # Of the output, too, where it has to fit in one.
        parts = [large, large]
        error = self.fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.call("twice", large))
        self.assertIn("Invoke", error.details())
        self.assertEqual(sum(len(answer.data) for answer in self.invoke("twice", parts)), 12 << 20)

    def test_a_second_chain(self):
        def requests():
            yield pb.InvokeRequest(chain="cat")
            yield pb.InvokeRequest(chain="upper")

        answers = self.stub.Invoke(requests(), metadata=CALL, timeout=PATIENCE)
        self.fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: list(answers))

    def test_deadlines(self):
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: self.call("endless", timeout=0.3))
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(self.invoke("endless", timeout=0.3)))
        self.until_endless_is_free()

    def test_cancelling(self):
        future = self.stub.Call.future(pb.InvokeRequest(chain="endless"), metadata=CALL)
        self.until("it is called", lambda: self.requests_at("endless") > 0)
        future.cancel()
        self.until_endless_is_free()
        # While input is still to come.
        stop = threading.Event()

        def requests():
            yield pb.InvokeRequest(chain="cat", data=b"half")
            stop.wait(PATIENCE)

        answers = self.stub.Invoke(requests(), metadata=CALL)
        answers.cancel()
        stop.set()
        self.assertEqual(self.call("cat", b"a").data, b"a")

    def requests_at(self, name):
        """Requests that a function has, waiting or not; 0 if it has no worker."""
        request = urllib.request.Request(f"{URL}/details?name={name}", headers={"Authorization": "Bearer to-deploy"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())[0]["workers"]

    def until_endless_is_free(self):
        """Its only worker is not held by those who have left: another one is refused by its own deadline, not by the queue's."""
        def is_free():
            try:
                self.call("endless", timeout=1)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            return False

        self.until("its worker is free", is_free)


class Managing(Functions):
    def ask(self, method, request):
        return getattr(self.stub, method)(request, metadata=DEPLOY, timeout=PATIENCE)

    def test_a_life(self):
        definition = pb.Definition(
            name="tr",
            command=pb.Command(words=["tr", "a-z", "A-Z"]),
            workers=pb.Workers(min=0, max=2),
            env={"A": "b"},
            timeout=5,
        )
        deployed = self.ask("Deploy", pb.DeployRequest(definitions=[definition], wait=60)).functions
        self.assertEqual([(one.name, one.status, one.version) for one in deployed], [("tr", "deployed", 1)])
        self.assertEqual(self.call("tr", b"abc").data, b"ABC")
        second = pb.Definition(name="tr", command=pb.Command(words=["tr", "a", "b"]))
        self.ask("Deploy", pb.DeployRequest(definitions=[second], wait=60))
        self.assertEqual(self.call("tr", b"abc").data, b"bbc")
        back = self.ask("Rollback", pb.RollbackRequest(name="tr", wait=60))
        self.assertEqual((back.name, back.status), ("tr", "deployed"))
        self.assertEqual(self.call("tr", b"abc").data, b"ABC")
        details = self.ask("Details", pb.DetailsRequest(name="tr")).details
        self.assertEqual(len(details), 1)
        told = details[0]
        self.assertEqual(told.function.status, "deployed")
        self.assertEqual(list(told.definition.command.words), ["tr", "a-z", "A-Z"])
        self.assertEqual((told.definition.workers.max, dict(told.definition.env)), (2, {"A": "b"}))
        self.assertGreaterEqual(told.requests, 1)
        self.assertIn("tr", [one.name for one in self.ask("List", pb.ListRequest()).functions])
        stopped = self.ask("Stop", pb.StopRequest(name="tr"))
        self.assertEqual(stopped.status, "stopped")
        self.assertTrue(self.ask("Stop", pb.StopRequest(name="tr", remove=True)).removed)
        error = self.fails(grpc.StatusCode.NOT_FOUND, lambda: self.ask("Stop", pb.StopRequest(name="tr")))
        self.assertEqual(trailers(error)["faucet-error"], "no_function")

    def test_what_is_wrong_is_named(self):
        for definition, message in (
            (pb.Definition(name="a/b", url="http://localhost"), "name"),
            (pb.Definition(name="a"), "bundle"),
            (pb.Definition(name="a", url="ftp://localhost"), "url"),
            (pb.Definition(name="a", url="http://localhost", timeout=-1), "timeout"),
        ):
            request = pb.DeployRequest(definitions=[definition])
            error = self.fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.ask("Deploy", request))
            self.assertIn(f"`{message}`", error.details())
        error = self.fails(
            grpc.StatusCode.INVALID_ARGUMENT, lambda: self.ask("Deploy", pb.DeployRequest(wait=float("nan")))
        )
        self.assertIn("wait", error.details())
        self.fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: self.ask("Rollback", pb.RollbackRequest(name="same")))

    def test_logs(self):
        text = "".join(one.text for one in self.ask("Logs", pb.LogsRequest(name="same")))
        self.assertIn("version 1 is deployed\n", text)
        self.assertEqual("".join(one.text for one in self.ask("Logs", pb.LogsRequest(name="same", lines=0))), "")
        follow = self.stub.Logs(pb.LogsRequest(name="breaks", lines=1000, follow=True), metadata=DEPLOY, timeout=PATIENCE)
        seen = ""
        while "version 1 is deployed\n" not in seen:
            seen += next(follow).text
        self.fails(grpc.StatusCode.INTERNAL, lambda: list(self.invoke("breaks", [b"some"])))
        while "out of luck" not in seen:
            seen += next(follow).text
        follow.cancel()
        self.fails(grpc.StatusCode.NOT_FOUND, lambda: list(self.ask("Logs", pb.LogsRequest(name="none"))))


class Proxy(Functions):
    """What an agent answers, through a proxy."""

    @classmethod
    def setUpClass(cls):
        cls.channel = grpc.insecure_channel(os.environ["FAUCET_PROXY_URL"].rstrip("/").removeprefix("http://"))
        cls.stub = FunctionsStub(cls.channel)

    def test_calls(self):
        options = {"content_type": "application/json", "accept": "application/json"}
        self.assertEqual(json.loads(self.call("far", b"[1,2,3]", **options).data), [3, 2, 1])
        self.assertEqual(json.loads(self.call("far | far", b"[1,2,3]", **options).data), [1, 2, 3])
        self.fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.call("far", metadata=()))
        self.fails(grpc.StatusCode.NOT_FOUND, lambda: self.call("none"))

    def test_management(self):
        details = self.stub.Details(pb.DetailsRequest(name="far"), metadata=DEPLOY, timeout=PATIENCE).details
        self.assertEqual([one.function.status for one in details], ["deployed"])
        self.assertEqual(details[0].function.proxy, os.environ["FAUCET_PROXY_URL"].rstrip("/").removeprefix("http://"))
        self.assertEqual([replica.status for replica in details[0].replicas], ["deployed"])


class Beside(Functions):
    def test_health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", "faucet.v1.Functions", "same"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)
        unknown = health_pb2.HealthCheckRequest(service="none")
        self.fails(grpc.StatusCode.NOT_FOUND, lambda: stub.Check(unknown, timeout=PATIENCE))
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        self.assertEqual(next(watching).status, health_pb2.HealthCheckResponse.SERVING)
        watching.cancel()

    def test_health_that_changes(self):
        told = health_pb2.HealthCheckResponse
        watching = health_pb2_grpc.HealthStub(self.channel).Watch(
            health_pb2.HealthCheckRequest(service="comes"), timeout=PATIENCE
        )
        self.assertEqual(next(watching).status, told.SERVICE_UNKNOWN)
        for _ in range(2):
            definition = pb.Definition(name="comes", command=pb.Command(words=["cat"]))
            self.stub.Deploy(pb.DeployRequest(definitions=[definition], wait=60), metadata=DEPLOY, timeout=PATIENCE)
            while next(watching).status != told.SERVING:
                pass
            self.stub.Stop(pb.StopRequest(name="comes"), metadata=DEPLOY, timeout=PATIENCE)
            while (status := next(watching).status) != told.SERVICE_UNKNOWN:
                self.assertEqual(status, told.NOT_SERVING)
        watching.cancel()

    def test_reflection(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        services = database.get_services()
        self.assertIn("faucet.v1.Functions", services)
        self.assertIn("grpc.health.v1.Health", services)
        pool = DescriptorPool(database)
        methods = [method.name for method in pool.FindServiceByName("faucet.v1.Functions").methods]
        self.assertIn("Invoke", methods)
        self.assertEqual(pool.FindMessageTypeByName("faucet.v1.InvokeRequest").fields_by_name["data"].number, 5)

    def test_http_1(self):
        """The port is still HTTP's, and its errors, too."""
        request = urllib.request.Request(f"{URL}/faucet.v1.Functions/List", b"", {"Content-Type": "application/grpc"})
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=PATIENCE)
        self.assertEqual(caught.exception.code, 404)
        caught.exception.close()
        with urllib.request.urlopen(f"{URL}/__faucet__/readyz", timeout=PATIENCE) as answer:
            self.assertEqual(answer.status, 200)


if __name__ == "__main__":
    unittest.main()
