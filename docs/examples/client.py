"""Follows a liveloc run from its first localisation on, however late it joins. Needs pyzmq and pyarrow.

    python client.py tcp://127.0.0.1:5601

docs/wire.md explains the messages.
"""

import json
import sys
import time

import pyarrow as pa
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5601"
host, _, port = endpoint.rpartition(":")
context, poller = zmq.Context(), zmq.Poller()
news, questions = context.socket(zmq.SUB), context.socket(zmq.DEALER)
news.connect(endpoint)
news.subscribe("localisations")
news.subscribe("status")  # says how many batches there are, so that a lost last one is noticed
questions.connect(f"{host}:{int(port) + 1}")
poller.register(news, zmq.POLLIN)
poller.register(questions, zmq.POLLIN)
session, batches, asked = "", list[pa.RecordBatch](), 0.0

while True:
    for end, _ in poller.poll():
        header, *payload = end.recv_multipart()[end is news :]  # what is published has its topic in front
        message = json.loads(header)
        if message["session"] != session:  # the first message, or the engine was started anew
            session, batches, asked = message["session"], [], 0.0
        there_are = message.get("batches", 0)
        if message["kind"] == "localisations":
            there_are = message["sequence"] + 1
            if message["sequence"] == len(batches):
                batches.append(pa.ipc.open_stream(payload[0]).read_next_batch())
                print(f"{sum(map(len, batches))} localisations", flush=True)  # noqa: T201
        if end is questions:  # a replay goes on, or has come to its end
            asked = 0.0 if message["kind"] == "end" else time.monotonic()
        if there_are > len(batches) and time.monotonic() - asked > 3:
            questions.send_json({"liveloc": 1, "request": "replay", "from": len(batches)})
            asked = time.monotonic()
