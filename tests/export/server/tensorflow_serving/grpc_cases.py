"""Requests over gRPC and TensorFlow Serving's errors: code and text."""

# ruff: noqa: E501
# fmt: off

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"
MISSING = (INVALID, "Missing ModelSpec")
NO_NAME = (INVALID, "ModelSpec has no name specified.")
LATEST = (NOT_FOUND, "Servable not found for request: Latest(m)")
FLOAT = "dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 2"
X = f'inputs {{ key: "x" value {{ {FLOAT} }} }}'
MANY = 'model_spec { name: "many" %s }'


def given(tensor):
    return f'inputs {{ key: "x" value {{ {tensor} }} }}'


PREDICT = [
    # (PredictRequest, code, text)
    ("", *MISSING),
    (X, *MISSING),
    ("model_spec {} " + X, *NO_NAME),
    ('model_spec { name: "m" } ' + X, *LATEST),
    ('model_spec { name: "m" version { value: 9 } }', NOT_FOUND, "Servable not found for request: Specific(m, 9)"),
    ('model_spec { name: "m" version { value: -1 } }', NOT_FOUND, "Servable not found for request: Specific(m, -1)"),
    (MANY % "version { value: 9 }", NOT_FOUND, "Servable not found for request: Specific(many, 9)"),
    (MANY % 'version_label: "L"', INVALID, "Unrecognized servable version label: L"),
    ('model_spec { name: "m" version_label: "L" }', INVALID, "Unrecognized servable version label: L"),
    (MANY % 'signature_name: "s"', "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
    (MANY % f'signature_name: "{"s" * 300}"', "FAILED_PRECONDITION", f'Serving signature key "{"s" * 126} .. {"s" * 126}" not found.'),
    (MANY % "", INVALID, "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
    (MANY % "" + X + 'inputs { key: "z" }', INVALID, "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}."),
    (MANY % 'signature_name: "pair"' + X, INVALID, "input size does not match signature: 1!=2 len({x}) != len({a,b}). Sent extra: {x}. Missing but required: {a,b}."),
    (MANY % "" + 'inputs { key: "z" }', INVALID, "input tensor alias not found in signature: z. Inputs expected to be in the set {x}."),
    (MANY % "" + given("dtype: DT_INT64 tensor_shape { dim { size: 1 } } int64_val: 2"), INVALID, "Expects arg[0] to be float but int64 is provided"),
    (MANY % "" + given('dtype: DT_STRING string_val: "a"'), INVALID, "Expects arg[0] to be float but string is provided"),
    (MANY % "" + given("dtype: DT_HALF half_val: 1"), INVALID, "Expects arg[0] to be float but half is provided"),
    (MANY % "" + given("dtype: DT_FLOAT tensor_shape { dim { size: 3 } } tensor_content: 'abcd'"), INVALID, "tensor parsing error: x"),
    (MANY % "" + given("float_val: 1"), INVALID, "tensor parsing error: x"),
    (MANY % "" + given("dtype: DT_FLOAT tensor_shape { dim { size: -1 } }"), INVALID, "tensor parsing error: x"),
    (MANY % "" + given("dtype: 99"), INVALID, "tensor parsing error: x"),
    (MANY % "" + X + 'output_filter: "q"', INVALID, "output tensor alias not found in signature: q Outputs expected to be in the set {y}."),
    (MANY % "" + X + 'output_filter: "y" output_filter: "y"', INVALID, "duplicate output tensor alias: y"),
    (MANY % "" + X + f'output_filter: "{"q" * 300}"', INVALID, f"output tensor alias not found in signature: {'q' * 126} .. {'q' * 126} Outputs expected to be in the set {{y}}."),
]

OF_EXAMPLES = [
    # (ModelSpec and examples of a ClassificationRequest or RegressionRequest, code, text)
    ("", *MISSING),
    ("input { example_list { examples {} } }", *MISSING),
    ("model_spec {}", *NO_NAME),
    ('model_spec { name: "m" }', *LATEST),
    (MANY % "version { value: 9 }", NOT_FOUND, "Servable not found for request: Specific(many, 9)"),
    (MANY % 'version_label: "L"', INVALID, "Unrecognized servable version label: L"),
    (MANY % 'signature_name: "s"', INVALID, "No signature was found with the name: s"),
]

CLASSIFY = [
    # (signature, examples, text of INVALID_ARGUMENT; a text that ends in ": " is followed by the signature)
    ("classify_x_to_y", "", "Input is empty."),
    ("classify_x_to_y", "input { example_list {} }", "Input is empty."),
    ("classify_x_to_y", "input { example_list_with_context { context {} } }", "Input is empty."),
    ("serving_default", "one", "No classification inputs found in SignatureDef: "),
    ("pair", "one", "Expected one input Tensor."),
    ("constant", "one", "Expected one input Tensor."),
    ("bad_two_inputs", "one", "Expected one input Tensor."),
    ("bad_three_outputs", "one", "Expected one or two output Tensors, found 3"),
    ("bad_input_name", "one", "No classification inputs found in SignatureDef: "),
    ("bad_output_name", "one", 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '),
    ("regress_x_to_y", "one", 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '),
    ("bad_scores_rank", "one", "Expected Tensor shape: [batch_size num_classes] but got [1]"),
    ("bad_scores_type", "one", "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
    ("bad_classes_type", "one", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    ("bad_scores_count", "one", "Expected scores output batch size of 1. Got: 2"),
    ("bad_classes_count", "one", "Expected classes output batch size of 1. Got: 2"),
    ("bad_sizes", "one", "Tensors class and score should match in dim_size(1). Got 1 vs. 2"),
]

REGRESS = [
    # (signature, examples, text of INVALID_ARGUMENT, as in CLASSIFY)
    ("regress_x_to_y", "", "Input is empty."),
    ("pair", "one", "Expected one input Tensor."),
    ("classify_both", "one", "Expected one output Tensor."),
    ("bad_two_values", "one", "Expected one output Tensor."),
    ("bad_regress_input", "one", "No regression inputs found in SignatureDef: "),
    ("serving_default", "one", "No regression inputs found in SignatureDef: "),
    ("bad_value_name", "one", "No regression outputs found in SignatureDef: "),
    ("classify_x_to_y", "one", "No regression outputs found in SignatureDef: "),
    ("bad_values_rank", "one", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
    ("bad_values_count", "one", "Input batch size did not match output batch size: 1 vs. 2"),
    ("bad_values_type", "one", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
]


def task(signature, method, model="many"):
    return f'tasks {{ model_spec {{ name: "{model}" signature_name: "{signature}" }} method_name: "tensorflow/serving/{method}" }} '


MULTI_INFERENCE = [
    # (tasks and examples, code, text)
    ("", *NO_NAME),
    ("tasks {}", *NO_NAME),
    (task("", "classify", "m"), *LATEST),
    (task("s", "classify"), INVALID, "Requested signature not found in model graph: s"),
    (task("classify_x_to_y", "classify") * 2, INVALID, "Duplicate evaluation of signature: classify_x_to_y"),
    (task("classify_x_to_y", "classify") + task("regress_x_to_y", "regress", ""), INVALID, "Found ModelSpec with an empty model name."),
    (task("classify_x_to_y", "classify") + task("regress_x_to_y", "regress", "m"), INVALID, "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    (task("classify_x_to_y", "predict"), "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
    (task("classify_x_to_y", "regress"), INVALID, "No regression outputs found in SignatureDef: "),
    (task("bad_two_inputs", "classify"), INVALID, "Expected one input Tensor."),
    (task("classify_x_to_y", "classify") + task("s", "regress"), INVALID, "Requested signature not found in model graph: s"),
    (task("classify_x_to_y", "classify"), INVALID, "Input is empty."),
]

METADATA = [
    # (GetModelMetadataRequest, code, text)
    ("", *MISSING),
    ('metadata_field: "signature_def"', *MISSING),
    (MANY % "", INVALID, "GetModelMetadataRequest must specify at least one metadata_field"),
    (MANY % "" + 'metadata_field: "f"', INVALID, "Metadata field f is not supported"),
    (MANY % "" + 'metadata_field: "signature_def" metadata_field: "f"', INVALID, "Metadata field f is not supported"),
    ('model_spec {} metadata_field: "signature_def"', *NO_NAME),
    ('model_spec { name: "m" } metadata_field: "signature_def"', *LATEST),
    (MANY % "version { value: 9 }" + 'metadata_field: "signature_def"', NOT_FOUND, "Servable not found for request: Specific(many, 9)"),
    (MANY % 'version_label: "L"' + 'metadata_field: "signature_def"', INVALID, "Unrecognized servable version label: L"),
    ('model_spec { name: "m" } metadata_field: "f"', INVALID, "Metadata field f is not supported"),
]

STATUS = [
    # (GetModelStatusRequest, code, text)
    ("", *MISSING),
    ("model_spec {}", NOT_FOUND, "Could not find any versions of model "),
    ('model_spec { name: "m" }', NOT_FOUND, "Could not find any versions of model m"),
    ('model_spec { name: "m" version { value: 9 } }', NOT_FOUND, "Could not find version 9 of model m"),
    ('model_spec { name: "m" version_label: "L" }', NOT_FOUND, "Could not find any versions of model m"),
    (MANY % "version { value: 9 }", NOT_FOUND, "Could not find version 9 of model many"),
]

RELOAD = [
    # (ReloadConfigRequest, code, text)
    ("", INVALID, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
    ("config {}", INVALID, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
    ("config { custom_model_config {} }", INVALID, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"),
    ('config { model_config_list { config { name: "a" base_path: "/" model_platform: "tensorflow" } config { name: "a" base_path: "/" model_platform: "tensorflow" } } }', INVALID, "Illegal to list model a multiple times in config list"),
    ('config { model_config_list { config { name: "a" base_path: "b" model_platform: "tensorflow" } } }', INVALID, "Expected model a to have an absolute path or URI; got base_path()=b"),
    ('config { model_config_list { config { name: "a" base_path: "/" } } }', INVALID, "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."),
    ('config { model_config_list { config { name: "a" base_path: "/" model_platform: "caffe" } } }', INVALID, "Model a requests unsupported platform caffe"),
    ('config { model_config_list { config { name: "a" base_path: "/" model_platform: "tensorflow" model_type: TENSORFLOW } } }', INVALID, "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."),
    ('config { model_config_list { config { name: "a" base_path: "/" model_type: OTHER } } }', INVALID, "ModelServerConfig::model_type choice 2 not supported."),
]
