"""Reads requests and writes responses in the JSON format of TensorFlow Serving's REST API."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from ..http.messages import shortened
from .errors import ServingError, invalid
from .json_reader import members, parse, to_bytes
from .json_tensors import Elements, decode, from_json, is_bytes, tokens, try_from_json, type_name
from .json_writer import debug_text, decimals, elements, named, objects, one_line, one_per_line, quoted

SIGNATURE, INSTANCES, INPUTS, EXAMPLES, CONTEXT = "signature_name", "instances", "inputs", "examples", "context"
KINDS = {"float_list": "float", "int64_list": "int64", "bytes_list": "bytes"}


def parse_request(body: bytes, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Parses the body of a request, which must be a JSON object with a string as the name of the signature, if any.

    Args:
        body: the body.
        check: function that raises an error if nobody waits for the result any more.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not such an object; an error of `check`.
    """
    document = parse(body, check)
    if not isinstance(document, dict):
        raise _wrong(document, "Is not object")
    if not isinstance(document.get(SIGNATURE, ""), str):
        raise _wrong(document, f"not formatted correctly. '{SIGNATURE}' key must be a string value.")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """Returns the name of the signature in a request; "" if the request does not name a signature."""
    return _text(document.get(SIGNATURE, ""))


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
        raise _wrong(
            document, f"Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' keys to exist "
        )
    if INSTANCES in document:
        rows = document[INSTANCES]
        if not isinstance(rows, list):
            raise _wrong(document, f"Expecting '{INSTANCES}' to be an list/array")
        if not rows:
            raise _wrong(document, f"No values in '{INSTANCES}' array")
        return _from_instances(rows, _expected(dtypes, optional, rows[0]))
    if INPUTS in document:
        return _from_inputs(document[INPUTS], _expected(dtypes, optional, document[INPUTS]))
    raise invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")


def _expected(dtypes: dict[str, str], optional: Collection[str], value: Any) -> dict[str, str]:
    """Returns the inputs that a request must contain: all required inputs, and the optional inputs that it names."""
    names = value if _is_named(value) else ()
    return {name: kind for name, kind in dtypes.items() if name not in optional or name in names} or dtypes


def _wrong(value: Any, problem: str) -> ServingError:
    return invalid(f"JSON Value: {debug_text(value)} {problem}")


def _text(value: str) -> str:
    """Replaces bytes that are not UTF-8, which messages of Protocol Buffers cannot contain."""
    return to_bytes(value).decode("utf-8", "replace")


def _from_instances(rows: list[Any], dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    if len(dtypes) > 1 and not isinstance(rows[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    if not _is_named(rows[0]):
        name, kind = min(dtypes.items())
        if not any(map(_is_named, rows)) and (column := try_from_json(rows, kind)) is not None:
            return {name: column}
        return {name: _Columns(dtypes).plain(rows, name)}
    if all(type(row) is dict and row.keys() == dtypes.keys() for row in rows):
        columns = {name: try_from_json([row[name] for row in rows], kind) for name, kind in dtypes.items()}
        found = {name: column for name, column in columns.items() if column is not None}
        if len(found) == len(dtypes):
            return found
    return _Columns(dtypes).named(rows)


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_bytes(row)


class _Columns:
    """Reads instances one by one, in TensorFlow Serving's order and with its checks.

    Args:
        dtypes: data type of each input, by input name.
    """

    def __init__(self, dtypes: dict[str, str]) -> None:
        self._dtypes = dtypes
        self._columns: dict[str, Elements] = {}
        self._first: dict[str, tuple[int, list[int]]] = {}  # number of values and shape of an input's first instance

    def plain(self, rows: list[Any], name: str) -> np.ndarray:
        for position, row in enumerate(rows):
            if _is_named(row):
                raise invalid(f"Expecting value/list but got object at item {position} of input list")
            self._add(name, row, f"Failed to process element: {position}")
        return self._arrays(len(rows))[name]

    def named(self, rows: list[Any]) -> dict[str, np.ndarray]:
        for position, row in enumerate(rows):
            if not _is_named(row):
                raise invalid(f"Expecting object but got list at item {position} of input list")
            names = set()
            for key, value in members(row):
                name = _text(key.partition("\0")[0])
                names.add(name)
                self._add(name, value, f"Failed to process element: {position} key: {shortened(name)}")
            if names != self._dtypes.keys():
                problem = f"JSON object: {debug_text(row)} keys must be equal to: {','.join(sorted(self._dtypes))}"
                raise invalid(f"Failed to process element: {position} of '{INSTANCES}' list. {problem}")
        return self._arrays(len(rows))

    def _add(self, name: str, value: Any, where: str) -> None:
        try:
            if name not in self._dtypes:
                raise invalid(f"JSON object: does not have named input: {shortened(name)}")
            column = self._columns.setdefault(name, Elements(self._dtypes[name]))
            size = column.add(value)
            expected, shape = self._first.setdefault(name, (size, column.last_shape))
            if size != expected:
                raise invalid(f"Expecting tensor size: {expected} but got: {size}")
            if column.last_shape != shape:
                raise invalid(f"Expecting shape {_shape(shape)} but got: {_shape(column.last_shape)}")
        except ServingError as error:
            raise invalid(f"{where} of '{INSTANCES}' list. Error: {error.code.name}: {error.message}") from None

    def _arrays(self, count: int) -> dict[str, np.ndarray]:
        return {name: column.array([count, *self._first[name][1]], name) for name, column in self._columns.items()}


def _shape(sizes: list[int]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def _from_inputs(value: Any, dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    if _is_named(value):
        found = {}
        for name, kind in dtypes.items():
            if name not in value:
                raise invalid(f"Missing named input: {name} in '{INPUTS}' object.")
            found[name] = from_json(value[name], kind, name)
        return found
    if len(dtypes) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
            " tensorinfo_map"
        )
    ((name, kind),) = dtypes.items()
    return {name: from_json(value, kind, name)}


def predict_text(outputs: Mapping[str, np.ndarray], by_row: bool) -> bytes:
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
    several = len(outputs) > 1
    if not by_row:
        depth = 1 + several
        texts = {
            name: one_per_line(tokens(array, name, depth + array.ndim), array.shape, depth)
            for name, array in outputs.items()
        }
        return named({"outputs": named(texts, 1) if several else next(iter(texts.values()))}, 0)
    _check_batch(outputs)
    columns = {
        name: one_line(tokens(array, name, 1 + several + array.ndim), array.shape, 1) for name, array in outputs.items()
    }
    if not several:
        return named({"predictions": elements(next(iter(columns.values())))}, 0)
    rows = (dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True))
    return named({"predictions": objects(rows)}, 0)


def _check_batch(outputs: Mapping[str, np.ndarray]) -> None:
    expected = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected not in (-1, len(array)):
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
    listed = target.example_list
    if CONTEXT in document:
        listed = target.example_list_with_context
        _fill_example(document[CONTEXT], listed.context)
    examples = document.get(EXAMPLES)
    if EXAMPLES not in document:
        raise _wrong(document, f"When method is classify, key '{EXAMPLES}' is expected and was not found")
    if not isinstance(examples, list):
        raise _wrong(document, f"Expecting '{EXAMPLES}' value to be an list/array")
    if not examples:
        raise _wrong(document, f"'{EXAMPLES}' value is an empty array")
    for example in examples:
        _fill_example(example, listed.examples.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example.SetInParent()
    for key, content in members(value):
        name = _text(key.partition("\0")[0])
        feature = example.features.feature[name]
        feature.Clear()
        for item in content if isinstance(content, list) else [content]:
            _add_value(item, shortened(name), feature)


def _add_value(value: Any, name: str, feature: Any) -> None:
    if value is None or isinstance(value, list) or _is_named(value):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    if type(value) is int and not -(2**63) <= value < 2**64:
        value = float(value)
    kind = {float: "float_list", int: "int64_list", bool: "int64_list"}.get(type(value), "bytes_list")
    if feature.WhichOneof("kind") not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {KINDS[feature.WhichOneof('kind')]}")
    if kind == "int64_list" and value >= 2**63:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if kind == "bytes_list":
        value = decode(value) if isinstance(value, dict) else to_bytes(value)
    if kind == "int64_list":
        value = int(value)
    if kind == "float_list":
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    getattr(feature, kind).value.append(value)


def classes_text(result: Any) -> bytes:
    """Writes a ClassificationResult as the JSON response of classify: [label, score] pairs for each example."""
    scores = iter(decimals(np.array([c.score for row in result.classifications for c in row.classes], np.float32)))
    rows = []
    for row in result.classifications:
        pairs = [b"[%s, %s]" % (quoted(c.label.encode()), next(scores)) for c in row.classes]
        rows.append(b"[%s]" % b", ".join(pairs))
    return named({"results": elements(rows)}, 0)


def values_text(result: Any) -> bytes:
    """Writes a RegressionResult as the JSON response of regress: one value for each example."""
    values = np.array([regression.value for regression in result.regressions], np.float32)
    return named({"results": one_line(decimals(values), values.shape)[0]}, 0)
