"""Answers TensorFlow Serving's requests Classify, Regress and MultiInference.

Such a request contains tf.Examples, from which a signature of the model computes class labels with scores (Classify) or
one value (Regress). MultiInference does both in one request.
"""

from typing import Any

import numpy as np

from ..contract.signatures import CLASSIFY, REGRESS
from ..http.messages import shortened
from .errors import Code, ServingError, invalid
from .limits import Deadline
from .predict import response_spec
from .servable import DEFAULT_SIGNATURE, Run, Servable

INPUTS, CLASSES, SCORES, VALUES = "inputs", "classes", "scores", "outputs"


def classify(servable: Servable, request: Any, run: Run, deadline: Deadline, check_method: bool = False) -> Any:
    """Answers a Classify request: computes the labels and scores of each example.

    Args:
        servable: version that answers the request.
        request: ClassificationRequest.
        run: function that computes tensors on the version.
        deadline: deadline of the request.
        check_method: whether a signature must have the method of the request.

    Returns:
        The ClassificationResponse.

    Raises:
        ServingError: the signature or the request is invalid, or the deadline has passed.
        tf.errors.OpError: the graph fails on the inputs.
    """
    from tensorflow_serving.apis import classification_pb2

    signature = _signature(servable, request.model_spec.signature_name)
    feed, fetches = classify_tensors(signature, check_method)
    examples = serialized_examples(request.input)
    found = dict(zip(fetches, run(servable, {feed: examples}, fetches, deadline), strict=True))
    response = classification_pb2.ClassificationResponse(model_spec=response_spec(servable, request.model_spec))
    fill_classes(response.result, signature, found, len(examples))
    return response


def regress(servable: Servable, request: Any, run: Run, deadline: Deadline, check_method: bool = False) -> Any:
    """Answers a Regress request: computes one value for each example.

    Args:
        servable: version that answers the request.
        request: RegressionRequest.
        run: function that computes tensors on the version.
        deadline: deadline of the request.
        check_method: whether a signature must have the method of the request.

    Returns:
        The RegressionResponse.

    Raises:
        ServingError: the signature or the request is invalid, or the deadline has passed.
        tf.errors.OpError: the graph fails on the inputs.
    """
    from tensorflow_serving.apis import regression_pb2

    signature = _signature(servable, request.model_spec.signature_name)
    feed, fetches = regress_tensors(signature, check_method)
    examples = serialized_examples(request.input)
    found = dict(zip(fetches, run(servable, {feed: examples}, fetches, deadline), strict=True))
    response = regression_pb2.RegressionResponse(model_spec=response_spec(servable, request.model_spec))
    fill_values(response.result, signature, found, len(examples))
    return response


def multi_inference(servable: Servable, request: Any, run: Run, deadline: Deadline, check_method: bool = False) -> Any:
    """Answers a MultiInference request: computes several classifications and regressions of the same examples.

    Args:
        servable: version that answers the request.
        request: MultiInferenceRequest.
        run: function that computes tensors on the version.
        deadline: deadline of the request.
        check_method: whether a signature must have the method of the request.

    Returns:
        The MultiInferenceResponse.

    Raises:
        ServingError: a signature or the request is invalid, or the deadline has passed.
        tf.errors.OpError: the graph fails on the inputs.
    """
    from tensorflow_serving.apis import inference_pb2

    signatures, tensors = _task_tensors(servable, request.tasks, check_method)
    fetches = sorted({fetch for _, fetches in tensors for fetch in fetches})
    examples = serialized_examples(request.input)
    feeds = {feed: examples for feed, _ in tensors}
    found = dict(zip(fetches, run(servable, feeds, fetches, deadline), strict=True))
    response = inference_pb2.MultiInferenceResponse()
    for task, signature in zip(request.tasks, signatures, strict=True):
        result = response.results.add(model_spec=response_spec(servable, task.model_spec))
        if task.method_name == CLASSIFY:
            fill_classes(result.classification_result, signature, found, len(examples))
        else:
            fill_values(result.regression_result, signature, found, len(examples))
    return response


def serialized_examples(given: Any) -> np.ndarray:
    """Serializes the tf.Examples of an Input message, each with the features of the Input's context added.

    Returns:
        The serialized examples, (B,) bytes objects.

    Raises:
        ServingError: INVALID_ARGUMENT if there are no examples.
    """
    context, listed = b"", given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        listed = given.example_list_with_context.examples
    if not listed:
        raise invalid("Input is empty.")
    # Concatenated messages parse as one message with the fields of both.
    return np.array([context + example.SerializeToString() for example in listed], object)


def classify_tensors(signature: Any, check_method: bool = False) -> tuple[str, list[str]]:
    """Finds the tensors of a signature for Classify.

    Args:
        signature: SignatureDef.
        check_method: whether the signature must have the method of Classify.

    Returns:
        The name of the input tensor, and the names of the output tensors: classes, scores or both.

    Raises:
        ServingError: the signature does not have these inputs and outputs, or another method.
    """
    if check_method:
        _check_method(signature, CLASSIFY, "classification")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    feed = _named_input(signature, "classification")
    fetches = [signature.outputs[alias].name for alias in (CLASSES, SCORES) if alias in signature.outputs]
    if not fetches:
        expected = f'at least one of "{CLASSES}" or "{SCORES}". Signature was: {signature}'
        raise invalid(f"Expected classification signature outputs to contain {expected}")
    return feed, fetches


def regress_tensors(signature: Any, check_method: bool = False) -> tuple[str, list[str]]:
    """Finds the tensors of a signature for Regress.

    Args:
        signature: SignatureDef.
        check_method: whether the signature must have the method of Regress.

    Returns:
        The name of the input tensor, and a list with the name of the output tensor.

    Raises:
        ServingError: the signature does not have this input and output, or another method.
    """
    if check_method:
        _check_method(signature, REGRESS, "regression")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    feed = _named_input(signature, "regression")
    if VALUES not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")
    return feed, [signature.outputs[VALUES].name]


def fill_classes(result: Any, signature: Any, found: dict[str, np.ndarray], count: int) -> None:
    """Writes labels and scores into a ClassificationResult.

    Args:
        result: ClassificationResult to fill.
        signature: SignatureDef for Classify.
        found: computed tensors, each (B, classes), by tensor name.
        count: B, the number of examples.

    Raises:
        ServingError: INVALID_ARGUMENT if a tensor has the wrong shape or type.
    """
    labels = _class_tensor(signature, found, CLASSES, object, "DT_STRING", count)
    scores = _class_tensor(signature, found, SCORES, np.float32, "DT_FLOAT", count)
    if labels is not None and scores is not None and labels.shape != scores.shape:
        sizes = f"{labels.shape[1]} vs. {scores.shape[1]}"
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {sizes}")
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range((labels if labels is not None else scores).shape[1]):  # type: ignore[union-attr]
            added = classes.add()
            if labels is not None:
                added.label = labels[row, column]
            if scores is not None:
                added.score = scores[row, column]


def fill_values(result: Any, signature: Any, found: dict[str, np.ndarray], count: int) -> None:
    """Writes values into a RegressionResult.

    Args:
        result: RegressionResult to fill.
        signature: SignatureDef for Regress.
        found: computed tensor, (B,) or (B, 1) float32, by tensor name.
        count: B, the number of examples.

    Raises:
        ServingError: INVALID_ARGUMENT if the tensor has the wrong shape or type.
    """
    values = found[signature.outputs[VALUES].name]
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        expected = "either [batch_size] or [batch_size, 1]"
        raise invalid(f"Expected output Tensor shape to be {expected} but got {_shape(values)}")
    if len(values) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
    for value in values.reshape(-1).tolist():
        result.regressions.add().value = value


def _signature(servable: Servable, name: str) -> Any:
    key = shortened(name or DEFAULT_SIGNATURE)
    return servable.signature(name, invalid(f"No signature was found with the name: {key}"))


def _check_method(signature: Any, method: str, kind: str) -> None:
    if signature.method_name != method:
        raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")


def _named_input(signature: Any, kind: str) -> str:
    if INPUTS not in signature.inputs:
        raise invalid(f"No {kind} inputs found in SignatureDef: {signature}")
    return signature.inputs[INPUTS].name


def _task_tensors(servable: Servable, tasks: Any, check_method: bool) -> tuple[list[Any], list[tuple[str, list[str]]]]:
    """Finds the signature, the input tensor and the output tensors of each task; the first faulty task is reported."""
    signatures: dict[str, Any] = {}
    tensors = []
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in signatures:
            raise invalid(f"Duplicate evaluation of signature: {shortened(name)}")
        missing = invalid(f"Requested signature not found in model graph: {shortened(name)}")
        signatures[name] = servable.signature(name, missing)
        if task.method_name == CLASSIFY:
            tensors.append(classify_tensors(signatures[name], check_method))
        elif task.method_name == REGRESS:
            tensors.append(regress_tensors(signatures[name], check_method))
        else:
            message = f"Unsupported signature method_name: {shortened(task.method_name)}"
            raise ServingError(Code.UNIMPLEMENTED, message)
    return list(signatures.values()), tensors


def _class_tensor(
    signature: Any, found: dict[str, np.ndarray], alias: str, dtype: Any, dtype_name: str, count: int
) -> np.ndarray | None:
    if alias not in signature.outputs:
        return None
    tensor = found[signature.outputs[alias].name]
    if tensor.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(tensor)}")
    if tensor.dtype != dtype:
        raise invalid(f"Expected {alias} Tensor of {dtype_name}. Got: {_dtype(tensor)}")
    if len(tensor) != count:
        raise invalid(f"Expected {alias} output batch size of {count}. Got: {len(tensor)}")
    return tensor


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _dtype(array: np.ndarray) -> str:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    return types_pb2.DataType.Name(dtype.as_datatype_enum)
