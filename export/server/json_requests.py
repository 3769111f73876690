"""Reads requests and writes responses in the JSON format of TensorFlow Serving's REST API."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .errors import ServingError, invalid
from .json_tensors import as_text, decode, from_json, is_bytes, row_texts, tensor_text

SIGNATURE, INSTANCES, INPUTS, EXAMPLES, CONTEXT = "signature_name", "instances", "inputs", "examples", "context"


def signature_name(document: dict[str, Any]) -> str:
    """Reads the name of the signature from a JSON request.

    Returns:
        The name; "" if the request does not name a signature.

    Raises:
        ServingError: INVALID_ARGUMENT if the name is not a string.
    """
    name = document.get(SIGNATURE, "")
    if not isinstance(name, str):
        problem = f"not formatted correctly. '{SIGNATURE}' key must be a string value."
        raise invalid(f"JSON Value: {as_text(document)} {problem}")
    return name


def predict_inputs(
    document: dict[str, Any], dtypes: dict[str, str], optional: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Reads the input tensors of a predict request.

    Args:
        document: JSON request, {"instances": [one value or object per row, ...]} or {"inputs": one value, or an object
            of tensors}. The name of the input may be omitted if there is only one.
        dtypes: TensorFlow's name of the data type of each input, such as "float", by input name.
        optional: names of inputs with default values, which a request may omit.

    Returns:
        One array for each input in the request, by input name.

    Raises:
        ServingError: INVALID_ARGUMENT if the request has the wrong form, or a value has the wrong type or shape.
    """
    if INSTANCES in document and INPUTS in document:
        problem = f"Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' keys to exist"
        raise invalid(f"JSON Value: {as_text(document)} {problem}")
    if INSTANCES in document:
        rows = document[INSTANCES]
        return _from_instances(
            document, _expected(dtypes, optional, rows[0] if isinstance(rows, list) and rows else None)
        )
    if INPUTS in document:
        return _from_inputs(document[INPUTS], _expected(dtypes, optional, document[INPUTS]))
    raise invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")


def _expected(dtypes: dict[str, str], optional: Collection[str], value: Any) -> dict[str, str]:
    """Returns the inputs that a request must contain: all required inputs, and the optional inputs that it names."""
    names = value if _is_named(value) else ()
    return {name: kind for name, kind in dtypes.items() if name not in optional or name in names} or dtypes


def _from_instances(document: dict[str, Any], dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    instances = document[INSTANCES]
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {as_text(document)} Excepting '{INSTANCES}' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {as_text(document)} No values in '{INSTANCES}' array")
    if len(dtypes) > 1 and not isinstance(instances[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    if _is_named(instances[0]):
        _check_names(instances, dtypes)
        return {name: _column([row[name] for row in instances], kind, f" key: {name}") for name, kind in dtypes.items()}
    for position, row in enumerate(instances):
        if _is_named(row):
            raise invalid(f"Expecting value/list but got object at item {position} of input list")
    ((name, kind),) = dtypes.items()
    return {name: _column(instances, kind, "")}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_bytes(row)


def _check_names(instances: list[Any], dtypes: dict[str, str]) -> None:
    names = ",".join(sorted(dtypes))
    for position, row in enumerate(instances):
        if not _is_named(row):
            raise invalid(f"Expecting object but got list at item {position} of input list")
        for name in row.keys() - dtypes.keys():
            problem = f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
            raise invalid(f"Failed to process element: {position} key: {name} of '{INSTANCES}' list. Error: {problem}")
        if row.keys() != dtypes.keys():
            problem = f"JSON object: {as_text(row)} must only have keys: {names}"
            raise invalid(f"Failed to process element: {position} of '{INSTANCES}' list. {problem}")


def _column(values: list[Any], dtype: str, key: str) -> np.ndarray:
    """Makes the tensor (B, ...) of one value per instance; if this fails, raises the first faulty instance's error."""
    try:
        return from_json(values, dtype)
    except ServingError as unlocated:
        shapes = []
        for position, value in enumerate(values):
            where = f"Failed to process element: {position}{key} of '{INSTANCES}' list."
            try:
                shapes.append(from_json(value, dtype).shape)
            except ServingError as error:
                raise ServingError(error.code, f"{where} Error: {error.code.name}: {error.message}") from None
            if shapes[-1] != shapes[0]:
                raise invalid(f"{where} Error: INVALID_ARGUMENT: {_other_shape(shapes[0], shapes[-1])}") from None
        raise unlocated


def _other_shape(expected: tuple[int, ...], got: tuple[int, ...]) -> str:
    sizes = int(np.prod(expected)), int(np.prod(got))
    if sizes[0] != sizes[1]:
        return f"Expecting tensor size: {sizes[0]} but got: {sizes[1]}"
    return f"Expecting shape [{','.join(map(str, expected))}] but got: [{','.join(map(str, got))}]"


def _from_inputs(value: Any, dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    if _is_named(value):
        for name in dtypes:
            if name not in value:
                raise invalid(f"Missing named input: {name} in '{INPUTS}' object.")
        return {name: from_json(value[name], kind) for name, kind in dtypes.items()}
    if len(dtypes) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
            " tensorinfo_map"
        )
    ((name, kind),) = dtypes.items()
    return {name: from_json(value, kind)}


def predict_text(outputs: Mapping[str, np.ndarray], by_row: bool) -> str:
    """Writes a predict response as JSON text.

    Args:
        outputs: output tensors, by output name.
        by_row: whether to write {"predictions": [one value or object per row, ...]}, as for a request with "instances";
            otherwise {"outputs": tensors}. Output names are omitted if there is only one output.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no output, or if `by_row` is true and the outputs differ in their
            number of rows.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if not by_row:
        texts = {name: tensor_text(array, name) for name, array in outputs.items()}
        return f'{{\n    "outputs": {_object(texts)}\n}}'
    _check_batch(outputs)
    columns = {name: row_texts(array, name) for name, array in outputs.items()}
    count = len(next(iter(columns.values())))
    lines = [_object({name: column[row] for name, column in columns.items()}) for row in range(count)]
    return '{{\n    "predictions": [{}]\n}}'.format(", ".join(lines))


def _object(texts: dict[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in texts.items())}}}"


def _check_batch(outputs: Mapping[str, np.ndarray]) -> None:
    expected = 0
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if expected not in (0, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def fill_input(document: dict[str, Any], target: Any) -> None:
    """Writes the examples of a classify or regress request, and their common context, into an Input message.

    Args:
        document: JSON request, {"examples": [object of features, ...], "context": object of features}; "context" is
            optional.
        target: Input message to fill.

    Raises:
        ServingError: INVALID_ARGUMENT if the request has the wrong form, or a feature has an unsupported type.
    """
    examples = document.get(EXAMPLES)
    if EXAMPLES not in document:
        problem = f"When method is classify, key '{EXAMPLES}' is expected and was not found"
        raise invalid(f"JSON Value: {as_text(document)} {problem}")
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {as_text(document)} Expecting '{EXAMPLES}' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {as_text(document)} '{EXAMPLES}' value is an empty array")
    listed = target.example_list
    if CONTEXT in document:
        listed = target.example_list_with_context
        _fill_example(document[CONTEXT], listed.context)
    for example in examples:
        _fill_example(example, listed.examples.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type(value).__name__}")
    example.SetInParent()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_value(item, name, feature)


def _add_value(value: Any, name: str, feature: Any) -> None:
    if value is None or isinstance(value, list) or _is_named(value):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type(value).__name__}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = ("float_list" if isinstance(value, float) else "int64_list") if number else "bytes_list"
    kind = "int64_list" if isinstance(value, bool) else kind
    if feature.WhichOneof("kind") not in (None, kind):
        was = feature.WhichOneof("kind").removesuffix("_list")
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {was}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    if kind == "bytes_list":
        value = decode(value) if isinstance(value, dict) else value.encode("utf-8", "surrogatepass")
    getattr(feature, kind).value.append(value)


def classes_text(result: Any) -> str:
    """Writes a ClassificationResult as the JSON response of classify: [label, score] pairs for each example."""
    found = [[[c.label, _score(c.score)] for c in row.classes] for row in result.classifications]
    return json.dumps({"results": found}, indent=4)


def values_text(result: Any) -> str:
    """Writes a RegressionResult as the JSON response of regress: one value for each example."""
    return json.dumps({"results": [_score(regression.value) for regression in result.regressions]}, indent=4)


def _score(value: float) -> float:
    # the shortest decimal number that is parsed as the same float32 number
    return float(str(np.float32(value)))
