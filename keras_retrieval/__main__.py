"""The command `keras-retrieval STEP`, which runs one step.

A step is a module with one public function. Its module is imported only when the step is run.
"""

import contextlib
import difflib
import errno
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from . import library_logs, standard_streams
from .errors import RetrievalError, printable
from .steps import STEPS, function_name, module_name
from .stopping import TERMINATED, terminable

_OUTPUT = "the output"  # in place of a file's name, in errors of a pipe that its reader has closed
OUTPUT_CLOSED = 141  # exit status of a command whose output was closed, by the same convention
INTERRUPTED = 130  # exit status of a command that was stopped by Ctrl-C, by the convention of shells

_REASONS = {
    errno.EACCES: "permission denied",
    errno.EEXIST: "it exists already",
    errno.EISDIR: "it is a folder, where a file is needed",
    errno.ENOSPC: "no space is left on the disk",
    errno.EROFS: "the disk is read-only",
}


def main(arguments: list[str] | None = None) -> None:
    """Runs one step from the shell, or prints the help or the version.

    Args:
        arguments: the command-line arguments after `keras-retrieval`; None for `sys.argv[1:]`. Without arguments the
            help is printed.

    Raises:
        SystemExit: after every step, also a successful one. The code is 0 if the step succeeded, 130 if Ctrl-C stopped
            it, 143 if SIGTERM did, 2 if its options cannot be parsed, and the error message (exit status 1) if the step
            failed or does not exist.
    """
    standard_streams.open_closed()
    step, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if step in ("-h", "--help"):
        _show(_help())
    elif step == "--version":
        from . import __version__

        _show(__version__)
    elif step in STEPS:
        _run(step, rest)
    else:
        near = difflib.get_close_matches(step, STEPS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        sys.exit(f"keras-retrieval: no step '{step}'.{hint} The steps: {', '.join(STEPS)}.")


def _show(text: str) -> None:
    try:
        with contextlib.redirect_stdout(_Escaped(sys.stdout)):
            print(text, flush=True)
    except OSError as error:
        if error.filename == _OUTPUT:
            _end_without_output()
        sys.exit(f"keras-retrieval: {_os_error(error, ['the output'])}")


def _end_without_output() -> None:
    """Ends as a command whose reader has closed the pipe, such as `head`: with the status of SIGPIPE, and quietly."""
    standard_streams.drop_output()
    sys.exit(OUTPUT_CLOSED)


def _help() -> str:
    width, groups = max(map(len, STEPS)), dict.fromkeys(group for _, group, _ in STEPS.values())
    rows = "\n\n".join("\n".join([f"{name}:", *_rows(name, width)]) for name in groups)
    return (
        "Usage: keras-retrieval STEP [OPTIONS]\n\n"
        "Turns a folder of unordered photos into a visual search service.\n\n"
        f"{rows}\n\n"
        "`keras-retrieval STEP --help` shows the options of a step; `keras-retrieval --version` the version."
    )


def _rows(group: str, width: int) -> list[str]:
    return [f"  {step:{width}}  {summary}" for step, (_, name, summary) in STEPS.items() if name == group]


def _run(step: str, arguments: list[str]) -> None:
    library_logs.hide()
    try:
        with contextlib.redirect_stdout(_Escaped(sys.stdout)), _log_on_stdout():
            try:
                with terminable():
                    _call(step, arguments)
            except SystemExit:
                sys.stdout.flush()  # at the interpreter's end, an error could not be caught
                raise
    except RetrievalError as error:
        # Errors that a user can fix are one line without a traceback.
        sys.exit(f"keras-retrieval {step}: {_in_shell_words(str(error), step)}")
    except OSError as error:
        if error.filename == _OUTPUT:
            _end_without_output()
        sys.exit(f"keras-retrieval {step}: {printable(_os_error(error, arguments))}")
    except (ValueError, ImportError) as error:
        sys.exit(f"keras-retrieval {step}: {printable(str(error))}")
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer converts KeyboardInterrupt to SystemExit.
        code = end.code if isinstance(end, SystemExit) else INTERRUPTED
        if code not in (INTERRUPTED, TERMINATED):
            raise
        print(f"\nkeras-retrieval {step}: stopped", file=sys.stderr)
        sys.exit(code)


def _os_error(error: OSError, arguments: list[str]) -> str:
    """Returns the message of an error of the operating system as "PATH: reason", without its number.

    Args:
        error: the error. A message that a library wrote is returned unchanged.
        arguments: the arguments of the command, which are shown if the error does not contain a path.
    """
    if error.errno is None or not str(error).startswith("[Errno"):
        return str(error)
    if error.filename is None:
        if error.strerror and error.strerror != os.strerror(error.errno):
            return str(error.strerror)
        return f"{_reason(error, '')} ({' '.join(arguments)})"
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    return f"{' -> '.join(paths) or error.filename}: {_reason(error, paths[0] if paths else '')}"


def _reason(error: OSError, path: str) -> str:
    from pathlib import Path  # not at the top: --help does not need it

    place = Path(path)
    if error.errno == errno.ENOENT and path:
        return "it does not exist" if place.parent.is_dir() else f"the folder {place.parent} does not exist"
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and path:
        blocking = next((above for above in (place, *place.parents) if above.is_file()), None)
        if blocking is not None:
            return f"{'it' if blocking == place else blocking} is a file, where a folder is needed"
    reason = _REASONS.get(error.errno or 0, error.strerror or "unknown error of the operating system")
    return reason[:1].lower() + reason[1:]


class _Escaped:
    """A stream that escapes control characters, by which the name of a file could change what a terminal shows.

    Line breaks stay, since steps print several lines at once. Bytes that are not UTF-8 are escaped, too, and so are
    characters that the stream's encoding does not have.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(_without_controls(text).encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError as error:
            error.filename = _OUTPUT
            raise
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError as error:
            error.filename = _OUTPUT
            raise

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Returns False, so that libraries write no control sequences of their own, which would be escaped."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _without_controls(text: str) -> str:
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


@contextlib.contextmanager
def _log_on_stdout() -> Iterator[None]:
    """Prints the records of the logger `keras_retrieval`, from level INFO up, as plain lines on stdout.

    Records of its child loggers are not printed. Once a step adds a handler to the root logger, as the server does, no
    record is printed here, because that handler receives all of them.
    """
    import logging  # not at the top: --help does not need it

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                print(self.format(record), flush=True)
            except OSError:
                # Work in other threads, such as a server's, goes on without a terminal or without space for its log.
                if threading.current_thread() is threading.main_thread():
                    raise

    logger, lines = logging.getLogger("keras_retrieval"), Lines()
    others, level = list(logging.getLogger().handlers), logger.level
    lines.addFilter(lambda record: record.name == logger.name and logging.getLogger().handlers == others)
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


def _in_shell_words(message: str, step: str) -> str:
    import typer

    words = importlib.import_module("keras_retrieval.pipelines.command.shell_words")
    return words.in_shell_words(message, typer.main.get_command(_app(step)).params)


def _call(step: str, arguments: list[str]) -> None:
    if any(word == "" or word.endswith("=") for word in arguments):
        function = getattr(importlib.import_module(module_name(step)), function_name(step))
        if hasattr(function, "options"):
            options = importlib.import_module("keras_retrieval.pipelines.command.options")
            options.check_no_path_is_empty(function.options, arguments)
    _app(step)(args=arguments, prog_name=f"keras-retrieval {step}")


def _app(step: str) -> Any:
    import inspect

    import typer

    function = getattr(importlib.import_module(module_name(step)), function_name(step))
    # Without the sections that only matter to callers in Python.
    text = re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0]
    text = re.sub(r"\n\n(?=- )", "\n\n\b\n", text)  # \b: click would join the lines of a list to one paragraph
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name=step, help=text)(_for_typer(function))
    return app


def _for_typer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that calls the step and has a signature from which Typer makes the options."""
    typer_signature = importlib.import_module("keras_retrieval.pipelines.command.options").typer_signature

    def command(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    command.__signature__ = signature = typer_signature(function)  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


if __name__ == "__main__":
    main()
