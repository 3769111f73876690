"""The one door: `keras-retrieval STEP`. A step is a module with one public function, imported when it is called."""

import contextlib
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .errors import RetrievalError
from .steps import STEPS, function_name, module_name

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended


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
        with _log_on_stdout():
            _call(step, arguments)
    except (RetrievalError, ValueError, OSError, ImportError) as error:
        # What a user can mend is one sentence, not a stack of our frames.
        sys.exit(f"keras-retrieval {step}: {error}")
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns the first into the second.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print(f"\nkeras-retrieval {step}: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


@contextlib.contextmanager
def _log_on_stdout() -> Iterator[None]:
    """Prints what the logger `keras_retrieval` gets, from INFO up, as plain lines between the output of the step.

    Loggers below it, such as the server's, are left to the handlers of whoever configures them.
    """
    import logging  # here, so that --help does without

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), flush=True)

    logger, lines = logging.getLogger("keras_retrieval"), Lines()
    lines.addFilter(lambda record: record.name == logger.name)
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


def _call(step: str, arguments: list[str]) -> None:
    import inspect

    import typer

    function = getattr(importlib.import_module(module_name(step)), function_name(step))
    # What a caller in Python must know, a user in the shell need not.
    text = re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0]
    text = re.sub(r"\n\n(?=- )", "\n\n\b\n", text)  # \b: click would join the lines of a list to one paragraph
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name=step, help=text)(_for_typer(function))
    app(args=arguments, prog_name=f"keras-retrieval {step}")


def _for_typer(function: Callable[..., Any]) -> Callable[..., Any]:
    """The step with a signature of Typer's own options."""
    typer_signature = importlib.import_module("keras_retrieval.pipelines.command.options").typer_signature

    def command(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    command.__signature__ = signature = typer_signature(function)  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


if __name__ == "__main__":
    main()
