"""The generated messages and calls are those of the .proto files, and bother no other etcd client in the process."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.etcd.rpc import services_pb2_grpc as stubs

ROOT = Path(__file__).parents[2]
RPC = Path(messages.__file__).parent

Fields = dict[str, tuple[int, str, bool, str]]
"""By name: the number, the type, whether it is repeated, and the oneof that it is in."""

Enums = dict[str, dict[str, int]]


def tokens(name: str) -> list[str]:
    text = re.sub(r"//.*", "", (RPC / name).read_text(encoding="utf-8"))
    return re.findall(r'[\w.]+|"[^"]*"|\S', text)


def written_messages() -> dict[str, tuple[Fields, Enums]]:
    """What messages.proto says. It has no options, maps or messages within messages: these would not be understood."""
    words = tokens("messages.proto")
    package = words[words.index("package") + 1]
    found: dict[str, tuple[Fields, Enums]] = {}
    blocks: list[tuple[str, str]] = []
    at = words.index(";", words.index("package")) + 1
    while at < len(words):
        kinds = [kind for kind, _ in blocks]
        if words[at] in ("message", "enum", "oneof"):
            blocks.append((words[at], words[at + 1]))
            assert words[at + 2] == "{"
            if words[at] == "message":
                assert not kinds
                found[words[at + 1]] = {}, {}
            elif words[at] == "enum":
                found[blocks[0][1]][1][words[at + 1]] = {}
            at += 3
            continue
        if words[at] == "}":
            blocks.pop()
            at += 1
            continue
        end = words.index(";", at)
        statement, at = words[at:end], end + 1
        fields, enums = found[blocks[0][1]]
        if kinds[-1] == "enum":
            name, equals, number = statement
            enums[blocks[-1][1]][name] = int(number)
        else:
            repeated = statement[0] == "repeated"
            type_, name, equals, number = statement[repeated:]
            if type_ in enums:
                type_ = f"{blocks[0][1]}.{type_}"
            oneof = blocks[-1][1] if kinds[-1] == "oneof" else ""
            fields[name] = int(number), type_, repeated, oneof
        assert equals == "="
    assert package == messages.DESCRIPTOR.package
    return found


def generated_messages() -> dict[str, tuple[Fields, Enums]]:
    file = FileDescriptorProto()
    messages.DESCRIPTOR.CopyToProto(file)
    prefix = f".{file.package}."

    def shape(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[int, str, bool, str]:
        type_ = field.type_name.removeprefix(prefix)
        if not type_:
            type_ = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        return field.number, type_, repeated, oneof

    return {
        message.name: (
            {field.name: shape(message, field) for field in message.field},
            {enum.name: {value.name: value.number for value in enum.value} for enum in message.enum_type},
        )
        for message in file.message_type
    }


def test_the_messages_are_those_of_the_proto_file():
    written = written_messages()
    # The reader of the file reads what there is: a oneof, an enum, a message, repeated ones.
    assert written["Compare"] == (
        {
            "target": (2, "Compare.CompareTarget", False, ""),
            "key": (3, "bytes", False, ""),
            "create_revision": (5, "int64", False, "target_union"),
            "mod_revision": (6, "int64", False, "target_union"),
        },
        {"CompareTarget": {"VERSION": 0, "CREATE": 1, "MOD": 2}},
    )
    assert written["WatchResponse"][0]["events"] == (11, "Event", True, "")
    assert generated_messages() == written
    file = FileDescriptorProto()
    messages.DESCRIPTOR.CopyToProto(file)
    assert file.syntax == "proto3"
    assert ROOT / file.name == RPC / "messages.proto"


def test_the_types_are_those_of_the_messages():
    """A field that is generated and has no type, or the other way round, comes from a file that was not made anew."""
    tree = ast.parse((RPC / "messages_pb2.pyi").read_text(encoding="utf-8"))
    typed = {
        node.name: {
            ast.literal_eval(part.value)
            for part in node.body
            if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    assert typed == {name: {tuple(fields)} for name, (fields, _) in written_messages().items()}


class Recorder:
    """A channel and a server that note what they are asked for."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[bool, bool, Any]] = {}
        self.handlers: list[grpc.GenericRpcHandler] = []

    def _note(self, path: str, request_streams: bool, response_streams: bool, parts: dict[str, Any]) -> None:
        self.calls[path] = request_streams, response_streams, parts["response_deserializer"](b"").DESCRIPTOR.name

    def unary_unary(self, path: str, **parts: Any) -> None:
        self._note(path, False, False, parts)

    def stream_stream(self, path: str, **parts: Any) -> None:
        self._note(path, True, True, parts)

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        self.handlers += handlers


class Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def test_the_calls_are_those_of_the_proto_file():
    """By etcd's names of them: whether requests and answers are streams, and the messages that go there and back."""
    text = re.sub(r"//.*", "", (RPC / "services.proto").read_text(encoding="utf-8"))
    package = re.search(r"package ([\w.]+);", text)[1]
    assert package == "etcdserverpb"
    message = re.escape(messages.DESCRIPTOR.package) + r"\.(\w+)"
    call = re.compile(rf"rpc (\w+)\((stream )?{message}\)\s+returns \((stream )?{message}\);")
    written, services = {}, []
    for service, body in re.findall(r"service (\w+) \{(.*?)\n\}", text, re.DOTALL):
        services.append(service)
        for method, asks, request, answers, response in call.findall(body):
            written[f"/{package}.{service}/{method}"] = bool(asks), bool(answers), request, response
    assert len(written) == text.count("rpc ")
    generated = {}
    for service in services:
        recorder = Recorder()
        getattr(stubs, f"{service}Stub")(recorder)
        getattr(stubs, f"add_{service}Servicer_to_server")(getattr(stubs, f"{service}Servicer")(), recorder)
        (handlers,) = recorder.handlers
        for path, (asks, answers, response) in recorder.calls.items():
            handler = handlers.service(Details(path))
            assert (handler.request_streaming, handler.response_streaming) == (asks, answers)
            generated[path] = asks, answers, handler.request_deserializer(b"").DESCRIPTOR.name, response
    assert generated == written
    assert sorted(services) == sorted(name.removesuffix("Stub") for name in vars(stubs) if name.endswith("Stub"))


STRANGER = """
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto

def register(name, package, messages, services=()):
    file = FileDescriptorProto(name=name, package=package, syntax="proto3")
    for message in messages:
        file.message_type.add(name=message)
    for service in services:
        file.service.add(name=service)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

def register_client(directory):
    register(directory + "kv.proto", "mvccpb", ["KeyValue", "Event"])
    register(directory + "rpc.proto", "etcdserverpb", {names}, ["KV", "Watch", "Lease", "Maintenance", "Auth"])
"""

THEIRS = """
register_client("")
register("messages.proto", "", ["KeyValue", "Event"])
register("services.proto", "", [], ["KV"])
"""

OURS = "import xchronos.store.etcd.rpc.messages_pb2, xchronos.store.etcd.rpc.services_pb2_grpc\n"

AGAIN = """
try:
    register_client("other/")
except TypeError:
    print("conflict")
"""


@pytest.mark.parametrize("order", [OURS + THEIRS, THEIRS + OURS], ids=["ours first", "theirs first"])
def test_another_etcd_client_in_the_process_is_no_conflict(order):
    """All files that a process loads share one registry, where a name may be defined once."""
    script = STRANGER.replace("{names}", repr(list(written_messages()))) + order + AGAIN
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    # A second client that defines etcd's own names is one: the registry does look.
    assert run.stdout == "conflict\n"
