"""The methods Predict and GetModelMetadata on a loaded version, with the error messages of TensorFlow Serving."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..contract.signatures import CLASSIFY, PREDICT, REGRESS
from ..http.messages import shortened
from .errors import Code, ServingError, invalid
from .limits import Deadline
from .servable import DEFAULT_SIGNATURE, Run, Servable
from .tensor_proto import from_proto, to_proto

METADATA_FIELD = "signature_def"


def run_directly(
    servable: Servable, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: Deadline
) -> list[np.ndarray]:
    """Computes tensors on a version at once, without slots or batches: the `servable.Run` for warm-up requests."""
    return servable.run(feeds, fetches, deadline)


def predict(servable: Servable, request: Any, run: Run, deadline: Deadline, check_method: bool = False) -> Any:
    """Answers a Predict request.

    Args:
        servable: version that answers the request.
        request: PredictRequest. An empty signature_name selects serving_default, and an empty output_filter all
            outputs.
        run: function that computes tensors on the version.
        deadline: deadline of the request.
        check_method: whether to check the method of the signature; see `predict_signature`.

    Returns:
        The PredictResponse, whose model_spec contains the signature and the version that answered.

    Raises:
        ServingError: the request is invalid, or the deadline has passed.
        tf.errors.OpError: the graph fails on the inputs.
    """
    from tensorflow_serving.apis import predict_pb2

    signature = predict_signature(servable, request.model_spec.signature_name, check_method)
    inputs = _inputs(signature, request.inputs)
    aliases = _outputs(signature, request.output_filter)
    outputs = servable.compute(signature, inputs, aliases, run, deadline)
    response = predict_pb2.PredictResponse(model_spec=response_spec(servable, request.model_spec))
    for alias, value in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(value, servable.tensor_content))
    return response


def predict_signature(servable: Servable, name: str, check_method: bool = False) -> Any:
    """Finds the signature for a Predict request.

    Args:
        servable: version that answers the request.
        name: name of the signature; "" for serving_default.
        check_method: whether the method of the signature must be that of Predict, Classify or Regress.

    Returns:
        The SignatureDef.

    Raises:
        ServingError: FAILED_PRECONDITION if there is no such signature, INTERNAL if it has another method.
    """
    key = shortened(name or DEFAULT_SIGNATURE)
    missing = ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
    signature = servable.signature(name, missing)
    if check_method and signature.method_name not in (PREDICT, CLASSIFY, REGRESS):
        expected = f"{{{PREDICT}, {CLASSIFY}, {REGRESS}}}"
        message = f"Expected prediction signature method_name to be one of {expected}. Was: {signature.method_name}"
        raise ServingError(Code.INTERNAL, message)
    return signature


def response_spec(servable: Servable, spec: Any) -> Any:
    """Makes the ModelSpec of a response: model, signature (even if it is the default signature) and version.

    Args:
        servable: version that answers the request.
        spec: ModelSpec of the request.
    """
    from tensorflow_serving.apis import model_pb2

    answer = model_pb2.ModelSpec(name=spec.name, signature_name=spec.signature_name or DEFAULT_SIGNATURE)
    answer.version.value = servable.version
    return answer


def check_input_names(signature: Any, names: Collection[str]) -> None:
    """Checks that a request contains the inputs of a signature, apart from those that have default values.

    Raises:
        ServingError: INVALID_ARGUMENT if an input is missing, or the signature does not have it.
    """
    given = {*signature.defaults, *names}
    if len(given) != len(signature.inputs):
        raise invalid(_wrong_inputs(given, set(signature.inputs)))
    for alias in sorted(given):
        if alias not in signature.inputs:
            expected = f"Inputs expected to be in the set {_names(signature.inputs)}."
            raise invalid(f"input tensor alias not found in signature: {shortened(alias)}. {expected}")


def _inputs(signature: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    check_input_names(signature, inputs)
    given = {**dict(signature.defaults), **inputs}
    return {alias: from_proto(given[alias], alias) for alias in sorted(given)}


def _wrong_inputs(sent: set[str], required: set[str]) -> str:
    return (
        f"input size does not match signature: {len(sent)}!={len(required)} "
        f"len({_names(sent)}) != len({_names(required)}). "
        f"Sent extra: {_names(sent - required)}. Missing but required: {_names(required - sent)}."
    )


def _outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            expected = f"Outputs expected to be in the set {_names(signature.outputs)}."
            raise invalid(f"output tensor alias not found in signature: {shortened(alias)} {expected}")
        if alias in aliases:
            raise invalid(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _names(names: Any) -> str:
    return f"{{{shortened(','.join(sorted(names)))}}}"


def check_metadata_fields(fields: Sequence[str]) -> None:
    """Checks the fields of a GetModelMetadata request, for which only signature_def is supported.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no field, or a field is not supported.
    """
    if not fields:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != METADATA_FIELD:
            raise invalid(f"Metadata field {shortened(field)} is not supported")


def metadata(servable: Servable) -> Any:
    """Makes the GetModelMetadataResponse of a version, with its model name, version number and signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response.metadata[METADATA_FIELD].Pack(signatures)
    return response
