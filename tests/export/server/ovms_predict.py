"""Sends requests for the model "toy" (x (B, 2) -> y) with ovmsclient, as it comes from PyPI, and prints the answers.

Run in an environment of its own: `python ovms_predict.py GRPC_PORT REST_PORT`. Without a version the client asks for
version 0.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from ovmsclient import make_grpc_client, make_http_client  # type: ignore[import-not-found]

MODEL = {"model_name": "toy", "model_version": 1}


def answers(client: Any) -> dict[str, Any]:
    """Status, metadata, a prediction, and the error for a model that does not exist."""
    inputs = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    return {
        "status": client.get_model_status(**MODEL)[1]["state"],
        "metadata": "x" in json.dumps(client.get_model_metadata(**MODEL)),
        "prediction": np.asarray(client.predict(inputs, **MODEL)).tolist(),
        "error": error(lambda: client.predict(inputs, model_name="m", model_version=9)),
    }


def error(ask: Callable[[], Any]) -> str:
    """Type and message of the error that a call raises."""
    try:
        ask()
    except Exception as caught:
        return f"{type(caught).__name__}: {caught}"
    return ""


if __name__ == "__main__":
    grpc_port, rest_port = sys.argv[1:]
    clients = {"grpc": make_grpc_client(f"127.0.0.1:{grpc_port}"), "rest": make_http_client(f"127.0.0.1:{rest_port}")}
    print(json.dumps({name: answers(client) for name, client in clients.items()}))
