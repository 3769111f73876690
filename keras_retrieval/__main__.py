"""The one door: `keras-retrieval STEP`. A step is a module with one public function, imported when it is called."""

import difflib
import importlib
import os
import re
import sys

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended

# step -> (module, function, what it does)
STEPS: dict[str, tuple[str, str, str]] = {
    "sample-photos": (
        "pipelines.sample_photos",
        "sample_photos",
        "draw a photo collection of made buildings",
    ),
    "build": ("pipelines.build", "build_model", "name -> model.keras, with pretrained or given weights"),
    "convert": ("pipelines.convert", "convert", "published network (.pth, .mat) -> model.keras"),
    "edge-maps": ("pipelines.edge_maps", "edge_maps", "photos or sketches -> edge maps, to look at and to send"),
    "extract": ("pipelines.extract", "extract", "photos -> descriptors"),
    "whiten": ("pipelines.whiten", "whiten", "network + matching photos -> network with the whitening inside"),
    "reconstruct": ("pipelines.sfm", "reconstruct", "unordered photos -> 3D models of what they show"),
    "clean": ("pipelines.clean", "clean", "a folder for each landmark -> its right photos, and its box in them"),
    "tuples": ("pipelines.tuples", "make_tuples", "models, folders, lists or positions -> training tuples"),
    "classify": (
        "pipelines.classify",
        "classify",
        "a folder for each landmark -> network whose trunk tells them apart",
    ),
    "train": ("pipelines.train", "train", "tuples -> fine-tuned network with its whitening, curves, a page"),
    "train-proposals": (
        "pipelines.train_proposals",
        "train_proposals",
        "boxes of objects -> network whose regions are proposed where objects are",
    ),
    "pairs": ("pipelines.pairs", "write_pairs", "photos -> pairs to match, for COLMAP and hloc"),
    "index": ("export.scann_index", "index", "descriptors -> index, tuned to a recall"),
    "update": ("export.update", "update", "index + descriptors to add, names to delete -> the same index, changed"),
    "search": ("export.search", "search", "index + query photos -> names, scores, a page with pictures"),
    "evaluate": ("pipelines.evaluate", "evaluate", "network + dataset -> the figures of its protocol, a page"),
    "export-saved-model": (
        "export.saved_model",
        "export_saved_model",
        "network -> a version for TensorFlow Serving, checked against Keras",
    ),
    "serve": ("export.server", "serve", "exported versions -> a server that speaks TensorFlow Serving's protocol"),
    "describe": ("export.client", "describe", "photos -> descriptors, by a network that is served"),
    "query": ("export.query", "query", "photos -> names, scores, by a network that is served with its index"),
    "export-onnx": ("export.onnx_model", "export_onnx", "network -> model.onnx for the edge, checked against Keras"),
}


def main(arguments: list[str] | None = None) -> None:
    """Runs one step from the shell.

    Args:
        arguments: the words after `keras-retrieval`; `sys.argv[1:]` when None.
    """
    step, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if step in ("-h", "--help"):
        print(_help())
    elif step == "--version":
        from . import __version__

        print(__version__)
    elif step in STEPS:
        _run(step, rest)
    else:
        near = difflib.get_close_matches(step, STEPS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        sys.exit(f"keras-retrieval: no step '{step}'.{hint} The steps: {', '.join(STEPS)}.")


def _help() -> str:
    width = max(map(len, STEPS))
    rows = "\n".join(f"  {step:{width}}  {what}" for step, (_, _, what) in STEPS.items())
    return (
        "Usage: keras-retrieval STEP [OPTIONS]\n\n"
        "Turns a folder of unordered photos into a visual search service.\n\n"
        f"Steps:\n{rows}\n\n"
        "`keras-retrieval STEP --help` tells a step's options; --version the version."
    )


def _run(step: str, arguments: list[str]) -> None:
    # TensorFlow's C++ log tells a machine without a GPU so at length, before anything that we say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _call(step, arguments)
    except (ValueError, OSError, ImportError) as error:
        # What a user can mend is one sentence, not a stack of our frames.
        sys.exit(f"keras-retrieval {step}: {error}")
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns the first into the second.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print(f"\nkeras-retrieval {step}: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _call(step: str, arguments: list[str]) -> None:
    import inspect

    import typer

    module_name, function_name, _ = STEPS[step]
    function = getattr(importlib.import_module(f"keras_retrieval.{module_name}"), function_name)
    # What a caller in Python must know, a user in the shell need not.
    text = re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name=step, help=text)(function)
    app(args=arguments, prog_name=f"keras-retrieval {step}")


if __name__ == "__main__":
    main()
