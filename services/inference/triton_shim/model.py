"""The Triton model: hands requests to the engine and sends its facts back as decoupled responses.

Triton copies no packages into its stub, so the model's `root` parameter says where `services` and `mesh` lie.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One served model. Triton calls `initialize`, then `execute` for arriving requests, then `finalize`."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Loads the weights; an exception here makes Triton report the model as failed, with its text."""
        parameters = json.loads(args["model_config"])["parameters"]
        settings = {key: value["string_value"] for key, value in parameters.items()}
        sys.path.insert(0, settings["root"])
        from services.inference.triton_shim.exporting import Exporter
        from services.inference.triton_shim.session import Session, SessionConfig

        config = SessionConfig(
            folder=Path(settings["folder"]),
            telemetry=settings["telemetry"],
            otlp_endpoint=settings["otlp_endpoint"],
            slots=int(settings["slots"]),
            waiting=int(settings["waiting"]),
            threads=int(settings["threads"]),
        )
        self._session = Session(config)
        self._exporter = Exporter(pb_utils, self._session.counts)

    def execute(self, requests: list[Any]) -> None:
        """Starts every request and returns at once; answers come from the engine's threads."""
        for request in requests:
            sender = request.get_response_sender()
            body = pb_utils.get_input_tensor_by_name(request, "REQUEST").as_numpy().tobytes()
            parameters = json.loads(request.parameters() or "{}")
            self._session.answer(body, parameters, _send_with(sender), sender.is_cancelled)

    def finalize(self) -> None:
        """Ends what is running and frees the model."""
        self._session.close()
        self._exporter.close()


def _send_with(sender: Any) -> Callable[[bytes, bytes, bool], None]:
    def send(header: bytes, data: bytes, last: bool) -> None:
        tensors = [_tensor("HEADER", header), _tensor("DATA", data)]
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=flags)

    return send


def _tensor(name: str, data: bytes) -> Any:
    return pb_utils.Tensor(name, np.frombuffer(data, dtype=np.uint8))
