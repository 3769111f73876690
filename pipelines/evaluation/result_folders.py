"""Keeps the results of earlier settings of `evaluate` when another setting is written to the same folder.

results.json and page.html in the folder are those of the last run. Before another setting replaces them, they are
moved to the folder setting-HASH below it. A setting is the dataset, the network, and all other options that change
results.
"""

import json
from pathlib import Path
from typing import Any

from ..files.durable import fingerprint
from ..files.remote import place_text
from ..local_features.extractors import extractor_identity
from ..local_features.matchers import matcher_identity
from ..networks.files import model_identity
from .options import EvaluateOptions

RESULTS, PAGE = "results.json", "page.html"

Setting = dict[str, Any]


def setting_of(options: EvaluateOptions) -> Setting:
    """Returns what decides the results of a run.

    Args:
        options: the options of the run.

    Returns:
        A dict, serialisable as JSON, with the options except `output` and `replace`; paths are absolute, and the model
        is given by its identity, see `networks.files.model_identity`; so are extractor and matcher of local features.
    """
    setting = {name: value for name, value in options.facts().items() if name not in ("output", "replace")}
    for name in ("photos", "gnd", "distractors"):
        if setting[name]:
            setting[name] = place_text(Path(setting[name]))
    if options.model:
        setting["model"] = model_identity(options.model)
        if options.verify:
            setting["local"] = extractor_identity(options.local)
            setting["matcher"] = matcher_identity(options.matcher)
    return setting


def keep_other_results(output: Path, setting: Setting) -> Path | None:
    """Moves the results in a folder to a folder of their own below it, if they are those of another setting.

    Args:
        output: the folder of the results, which may not exist.
        setting: the setting whose results are to be written.

    Returns:
        The folder to which the results were moved; None if there are none, or if they are of the same setting.
    """
    path = output / RESULTS
    if not path.is_file():
        return None
    content = path.read_text(encoding="utf-8")
    found = _setting_in(content)
    if found == json.loads(json.dumps(setting)):
        return None
    folder = output / f"setting-{fingerprint(found or content)[:8]}"
    folder.mkdir(exist_ok=True)
    for name in (PAGE, RESULTS):
        if (output / name).exists():
            (output / name).replace(folder / name)
    return folder


def _setting_in(content: str) -> Any:
    """The setting in a results.json; None if the file is damaged or of an older version."""
    try:
        return json.loads(content)["setting"]
    except (ValueError, TypeError, KeyError):
        return None
