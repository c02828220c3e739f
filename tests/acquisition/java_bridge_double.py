"""Speaks the protocol of Micro-Manager's server (pyjavaz 5.1: JSON requests over ZeroMQ) in front of a real core.

``python tests/acquisition/java_bridge_double.py PORT SIZE EXPOSURE_MS`` serves the demo camera until it is killed, so
that the Java route is tested without Java. It says ``ready`` when it listens.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pymmcore
import zmq

PROTOCOL = "5.1.0"
STRING, INT, LONG, DOUBLE, BOOLEAN, NOTHING = "java.lang.String", "int", "long", "double", "boolean", "void"
CORE: dict[str, tuple[list[str], str]] = {
    "clearROI": ([], NOTHING),
    "getBytesPerPixel": ([], LONG),
    "getCameraDevice": ([], STRING),
    "getCircularBufferMemoryFootprint": ([], INT),
    "getDevicePropertyNames": ([STRING], "mmcorej.StrVector"),
    "getExposure": ([], DOUBLE),
    "getImageBitDepth": ([], LONG),
    "getImageHeight": ([], LONG),
    "getImageWidth": ([], LONG),
    "getLoadedDevices": ([], "mmcorej.StrVector"),
    "getNumberOfComponents": ([], LONG),
    "getPixelSizeUm": ([], DOUBLE),
    "getProperty": ([STRING, STRING], STRING),
    "getPropertyLowerLimit": ([STRING, STRING], DOUBLE),
    "getPropertyUpperLimit": ([STRING, STRING], DOUBLE),
    "getROI": ([], "java.awt.Rectangle"),
    "getRemainingImageCount": ([], INT),
    "hasPropertyLimits": ([STRING, STRING], BOOLEAN),
    "isBufferOverflowed": ([], BOOLEAN),
    "isPropertyReadOnly": ([STRING, STRING], BOOLEAN),
    "isSequenceRunning": ([], BOOLEAN),
    "popNextTaggedImage": ([], "mmcorej.TaggedImage"),
    "setAutoShutter": ([BOOLEAN], NOTHING),
    "setCircularBufferMemoryFootprint": ([INT], NOTHING),
    "setExposure": ([DOUBLE], NOTHING),
    "setProperty": ([STRING, STRING, STRING], NOTHING),
    "setROI": ([INT, INT, INT, INT], NOTHING),
    "startSequenceAcquisition": ([INT, DOUBLE, BOOLEAN], NOTHING),
    "stopSequenceAcquisition": ([], NOTHING),
}
"""The core's methods that liveloc calls: types of their arguments, and of what they return."""
ARRAYS = {1: "byte-array", 2: "short-array", 4: "int-array"}


@dataclass(frozen=True, eq=False)
class TaggedImage:
    """Fields of mmcorej.TaggedImage: Java's arrays are flat, its sizes numbers."""

    pix: Any
    tags: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Fields of java.awt.Rectangle."""

    x: int
    y: int
    width: int
    height: int


class Server:
    """Answers one request after the other."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.objects: dict[str, Any] = {}

    def serve(self, port: int, ready: Callable[[], object]) -> None:
        """Until the process is killed."""
        with zmq.Context() as context, context.socket(zmq.REP) as socket:
            socket.bind(f"tcp://127.0.0.1:{port}")
            ready()
            while True:
                request = json.loads(socket.recv_multipart()[0].decode("iso-8859-1"))
                socket.send_multipart(self.answer(request))

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        """JSON, and behind it each array with its number."""
        arrays: list[bytes] = []
        try:
            reply = self._carry_out(request, arrays)
        except Exception as error:  # noqa: BLE001 (an exception in Java is an answer too)
            reply = {"type": "exception", "value": f"java.lang.Exception: {error}"}
        return [json.dumps(reply).encode("iso-8859-1"), *arrays]

    def _carry_out(self, request: dict[str, Any], arrays: list[bytes]) -> dict[str, Any]:
        match request["command"]:
            case "connect":
                return {"type": "none", "version": PROTOCOL}
            case "get-constructors":
                return {"type": "none", "api": [{"name": request["classpath"], "arguments": []}]}
            case "constructor":
                return self._shadow("mmcorej.CMMCore", self._core, CORE, [])
            case "destructor":
                self.objects.pop(request["hash-code"], None)
                return {"type": "none"}
            case "get-field":
                return self._value(getattr(self.objects[request["hash-code"]], request["name"]), arrays)
            case "run-method":
                target = self.objects[request["hash-code"]]
                return self._value(_call(target, request["name"], request["arguments"]), arrays)
            case other:
                raise ValueError(f"unknown command {other}")

    def _shadow(
        self, kind: str, target: Any, methods: dict[str, tuple[list[str], str]], fields: list[str]
    ) -> dict[str, Any]:
        """An object that stays in Java, with what can be asked of it."""
        code = uuid.uuid4().hex
        self.objects[code] = target
        api = [{"name": name, "arguments": taken, "return-type": given} for name, (taken, given) in methods.items()]
        interfaces = [kind, "java.lang.Object"]
        described = {
            "class": kind,
            "hash-code": code,
            "port": 0,
            "interfaces": interfaces,
            "fields": fields,
            "api": api,
        }
        return {"type": "unserialized-object", **described}

    def _value(self, value: Any, arrays: list[bytes]) -> dict[str, Any]:
        match value:
            case None:
                return {"type": "none"}
            case str():
                return {"type": "string", "value": value}
            case bool() | int() | float():
                return {"type": "primitive", "value": value}
            case dict():
                return {"type": "object", "class": "JSONObject", "value": json.dumps(value)}
            case np.ndarray():
                number = len(arrays) // 2 + 1
                arrays += [number.to_bytes(4, sys.byteorder), value.tobytes()]
                return {"type": ARRAYS[value.itemsize], "value": f"@{number:x}"}
            case TaggedImage():
                return self._shadow("mmcorej.TaggedImage", value, {}, ["pix", "tags"])
            case Rectangle():
                return self._shadow("java.awt.Rectangle", value, {}, ["x", "y", "width", "height"])
            case tuple() | list():
                methods = {"size": ([], LONG), "get": ([INT], STRING)}
                return self._shadow("mmcorej.StrVector", StrVector(list(value)), methods, [])
            case _:
                raise TypeError(f"{type(value)} cannot be sent")


class StrVector:
    """mmcorej.StrVector."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def size(self) -> int:
        """How many."""
        return len(self._words)

    def get(self, place: int) -> str:
        """One."""
        return self._words[place]


def _call(target: Any, name: str, arguments: list[Any]) -> Any:
    if name == "getROI":
        return Rectangle(*target.getROI())
    if name != "popNextTaggedImage":
        return getattr(target, name)(*arguments)
    metadata = pymmcore.Metadata()
    pixels = target.popNextImageMD(metadata)
    tags: dict[str, Any] = {key: metadata.GetSingleTag(key).GetValue() for key in metadata.GetKeys()}
    return TaggedImage(pixels.ravel(), {**tags, "Width": pixels.shape[1], "Height": pixels.shape[0]})


def demo_core(size: int, exposure: float) -> Any:
    """A core with Micro-Manager's demo camera, 16 bits."""
    from mm_test_adapters import device_adapter_path

    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
    core.loadSystemConfiguration(str(Path(device_adapter_path()) / "MMConfig_demo.cfg"))
    for name, value in (("PixelType", "16bit"), ("OnCameraCCDXSize", size), ("OnCameraCCDYSize", size)):
        core.setProperty("Camera", name, value)
    core.setExposure(exposure)
    return core


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _core(size: int, exposure: float, camera: str = "demo") -> Any:
    if camera == "demo":
        return demo_core(size, exposure)
    from tests.acquisition.encoding_camera import encoding_core

    return encoding_core(size, exposure).core


if __name__ == "__main__":
    Server(_core(int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])).serve(int(sys.argv[1]), _say_ready)
