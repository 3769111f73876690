"""The command: it answers at once, lists its steps, and reports errors in one line."""

import contextlib
import errno
import importlib
import io
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import typer
from keras_retrieval.pipelines.command.options import typer_signature

import keras_retrieval
from keras_retrieval.__main__ import INTERRUPTED, _log_on_stdout, main
from keras_retrieval.errors import ArgumentError, RetrievalError
from keras_retrieval.steps import STEPS, function_name, module_name
from keras_retrieval.stopping import TERMINATED
from tests.helpers.odd_collection import photo
from tests.helpers.small_network import draw_photo

HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "PIL", "scann", "pycolmap", "h5py", "rich", "typer")


def run(*arguments, **environment):
    command = [sys.executable, "-m", "keras_retrieval", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=1800, env={**os.environ, **environment}
    )


def test_help_takes_little_time():
    """Of CPU, which other processes hardly change: 0.04 s on a quiet machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert found.returncode == 0
    assert all(f"  {step} " in found.stdout for step in STEPS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15


@pytest.mark.parametrize("arguments", ["['--help']", "['--version']", "[]"])
def test_help_and_version_import_nothing_heavy(arguments):
    code = f"import sys; from keras_retrieval.__main__ import main; main({arguments}); "
    code += f"print('imported', [name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "imported []"


def test_no_argument_asks_for_help(capsys):
    main([])
    printed = capsys.readouterr().out
    main(["-h"])
    assert capsys.readouterr().out == printed
    assert printed.startswith("Usage: keras-retrieval STEP")


def test_help_lists_the_steps_by_group(capsys):
    main(["--help"])
    _, _, *groups, _ = capsys.readouterr().out.split("\n\n")
    listed = {block.splitlines()[0].rstrip(":"): block.splitlines()[1:] for block in groups}
    assert list(listed) == list(dict.fromkeys(step.group for step in STEPS.values()))
    for group, rows in listed.items():
        assert [row.split()[0] for row in rows] == [step for step, (_, own, _) in STEPS.items() if own == group]
        assert all(len(row) <= 110 for row in rows)


def test_the_version_is_the_package_s(capsys):
    main(["--version"])
    assert capsys.readouterr().out == keras_retrieval.__version__ + "\n"


@pytest.mark.parametrize(("word", "near"), [("extrct", "extract"), ("indx", "index"), ("serch", "search")])
def test_an_unknown_step_names_the_nearest(word, near):
    with pytest.raises(SystemExit) as caught:
        main([word])
    assert f"no step '{word}'. Did you mean '{near}'?" in str(caught.value)
    assert all(step in str(caught.value) for step in STEPS)


def test_a_step_that_is_like_none_names_them_all():
    with pytest.raises(SystemExit) as caught:
        main(["zzz"])
    assert str(caught.value).startswith("keras-retrieval: no step 'zzz'. The steps: ")


def function_of(step):
    return getattr(importlib.import_module(module_name(step)), function_name(step))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_explains_itself_and_each_of_its_options(step, capsys):
    with pytest.raises(SystemExit) as ended:
        main([step, "--help"])
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, parameter in typer_signature(function_of(step)).parameters.items():
        declared = [fact for fact in getattr(parameter.annotation, "__metadata__", ()) if hasattr(fact, "help")]
        assert declared, f"{step}: {name} is not an option of Typer"
        assert declared[0].help, f"{step}: {name} has no help"
        assert " ".join(declared[0].help.split())[:30] in printed
        assert parameter.kind == parameter.KEYWORD_ONLY or isinstance(declared[0], typer.models.ArgumentInfo)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_a_docstring_with_its_command(step):
    assert f"keras-retrieval {step}" in (importlib.import_module(module_name(step)).__doc__ or "")
    assert STEPS[step].summary
    assert function_of(step).__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "vgg16_gem", "nowhere", "out"), "keras-retrieval extract: nowhere does not exist"),
        (
            ("extract", "m.keras", "nowhere", "out", "--scales", "x"),
            "keras-retrieval extract: --scales must be factors above 0 and up to 4, such as 1,0.7071,0.5, got x",
        ),
        (("index", "nowhere", "out"), "keras-retrieval index: nowhere does not exist"),
        (("search", "nowhere", "a.jpg"), "keras-retrieval search: nowhere does not exist"),
        (("build", "vgg16_gem", "model.h5"), "keras-retrieval build: OUTPUT must end in .keras, got model.h5"),
        (
            ("build", "alexnet_gem", "model.keras", "--weights", "imagenet"),
            "keras-retrieval build: Keras has no ImageNet weights of alexnet: build it with --weights none (random)",
        ),
        (
            ("build", "alexnet_gem", "model.keras", "--weights", "none", "--levels", "0"),
            "keras-retrieval build: --levels does not apply to alexnet_gem: its pooling 'gem' takes --p",
        ),
        (
            ("build", "alexnet_gem", "model.keras", "--weights", "none", "--dim", "0"),
            "keras-retrieval build: --dim must be at least 1, got 0",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert str(ended.value.code).startswith(message)
    assert "\n" not in str(ended.value.code)


def test_in_the_shell_it_is_one_line_and_status_1(tmp_path):
    found = run("extract", "vgg16_gem", tmp_path / "nowhere", tmp_path / "out")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"keras-retrieval extract: {tmp_path / 'nowhere'} does not exist\n"
    (tmp_path / "a.jpg").write_bytes(photo(0))
    found = run("extract", "vgg17_gem", tmp_path, tmp_path / "out")
    assert found.returncode == 1
    assert len(found.stderr.splitlines()) == 1, "TensorFlow, which was imported, has its say too"
    assert found.stderr.startswith("keras-retrieval extract: unknown backbone 'vgg17' in 'vgg17_gem'. The nearest is")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("a", "b", "c", "--nope"), "No such option"),
        (("a", "b", "c", "--size", "x"), "--size"),
    ],
)
def test_wrong_usage_is_told_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["extract", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def step_that(monkeypatch, failure):
    """Replaces the step `build` by one that raises."""

    def step() -> None:
        raise failure

    module = importlib.import_module("keras_retrieval.pipelines.networks.build")
    monkeypatch.setattr(module, "build", step)


def test_ctrl_c_is_told_in_one_line_with_status_130(monkeypatch, capsys):
    step_that(monkeypatch, KeyboardInterrupt())
    with pytest.raises(SystemExit) as ended:
        main(["build"])
    assert ended.value.code == INTERRUPTED == 130
    assert capsys.readouterr().err == "\nkeras-retrieval build: stopped\n"


def test_sigterm_ends_any_step_as_ctrl_c_does(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def step():
        """Waits."""
        with tempfile.TemporaryDirectory():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)

    module = importlib.import_module("keras_retrieval.pipelines.networks.build")
    monkeypatch.setattr(module, "build", step)
    with pytest.raises(SystemExit) as ended:
        main(["build"])
    assert ended.value.code == TERMINATED == 143
    assert capsys.readouterr().err == "\nkeras-retrieval build: stopped\n"
    assert list(tmp_path.iterdir()) == []


USERS_ERRORS = [kind("no good") for kind in (RetrievalError, ArgumentError, ValueError, FileNotFoundError, ImportError)]


@pytest.mark.parametrize("failure", USERS_ERRORS)
def test_users_errors_are_sentences(monkeypatch, failure):
    step_that(monkeypatch, failure)
    with pytest.raises(SystemExit) as ended:
        main(["build"])
    assert ended.value.code == "keras-retrieval build: no good"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "missing.pth", "out.keras"), "missing.pth does not exist"),
        (("convert", "missing.mat", "out.keras"), "missing.mat does not exist"),
        (("convert", "gone/missing.pth", "out.keras"), "gone/missing.pth: the folder gone does not exist"),
        (("convert", "folder", "out.keras"), "folder is a folder, not a file"),
        (("describe", "file", "--ca", "gone.pem"), "--ca gone.pem does not exist"),
        (("clean", "folder", "file/out"), "file/out cannot be written: file is a file, where a folder is needed"),
        (
            ("tuples", "folder", "file/t.npz", "--negatives", "0"),
            "file/t.npz cannot be written: file is a file, where a folder is needed",
        ),
        (("edge-maps", "folder", "file/maps"), "file/maps cannot be written: file is a file, where a folder is needed"),
    ],
)
def test_an_error_of_a_path_names_it_and_the_reason(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    for scene, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        draw_photo(tmp_path / f"folder/{name}.png", scene, 0, 40, 35)
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert str(ended.value.code) == f"keras-retrieval {arguments[0]}: {message}"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space is left on the disk (name out.keras)"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "a"), "a: the disk is read-only"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"a"), "a: permission denied"),
        (OSError(errno.EXDEV, os.strerror(errno.EXDEV), "a", None, "b"), "a -> b: invalid cross-device link"),
        (OSError(errno.ENOENT, "unable to open file 'x.h5'"), "unable to open file 'x.h5'"),
        (OSError("a library's own words"), "a library's own words"),
    ],
)
def test_no_error_of_the_operating_system_shows_its_number(monkeypatch, failure, message):
    def step(name: str, output: str) -> None:
        raise failure

    monkeypatch.setattr(importlib.import_module("keras_retrieval.pipelines.networks.build"), "build", step)
    with pytest.raises(SystemExit) as ended:
        main(["build", "name", "out.keras"])
    assert ended.value.code == f"keras-retrieval build: {message}"


@pytest.mark.parametrize("failure", [ZeroDivisionError(), KeyError("x"), RuntimeError("x")])
def test_our_own_mistakes_keep_their_stack(monkeypatch, failure):
    step_that(monkeypatch, failure)
    with pytest.raises(type(failure)):
        main(["build"])


def logging_step(monkeypatch, *messages, failure=None):
    """Replaces the step `build` by one that logs."""

    def step() -> None:
        log = logging.getLogger("keras_retrieval")
        for level, text in messages:
            log.log(level, text)
        if failure:
            raise failure

    monkeypatch.setattr(importlib.import_module("keras_retrieval.pipelines.networks.build"), "build", step)


def state():
    logger = logging.getLogger("keras_retrieval")
    return list(logger.handlers), logger.level, logger.propagate


@pytest.mark.parametrize("failure", [None, RetrievalError("no good")])
def test_the_log_is_plain_lines_on_stdout_while_a_step_runs(monkeypatch, capsys, failure):
    before = state()
    logging_step(monkeypatch, (10, "a detail"), (20, "read 3 photos\n  of 4"), (30, "1 is left out"), failure=failure)
    with pytest.raises(SystemExit) as ended:
        main(["build"])
    assert ended.value.code == (f"keras-retrieval build: {failure}" if failure else 0)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("read 3 photos\n  of 4\n1 is left out\n", "")
    assert state() == before, "a process that calls main() keeps its own logging"


def test_loggers_below_ours_are_left_to_their_own_handlers(monkeypatch, capsys):
    def step() -> None:
        logging.getLogger("keras_retrieval.server").info("version 1 loaded")

    monkeypatch.setattr(importlib.import_module("keras_retrieval.pipelines.networks.build"), "build", step)
    with pytest.raises(SystemExit):
        main(["build"])
    assert capsys.readouterr().out == ""


def test_a_step_that_configures_the_root_logger_shows_the_log_itself(monkeypatch, capsys):
    handler = logging.StreamHandler()

    def step() -> None:
        logging.getLogger("keras_retrieval").info("before")
        logging.getLogger().addHandler(handler)
        logging.getLogger("keras_retrieval").info("after")

    monkeypatch.setattr(importlib.import_module("keras_retrieval.pipelines.networks.build"), "build", step)
    try:
        with pytest.raises(SystemExit):
            main(["build"])
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().out == "before\n"


def test_importing_the_library_configures_no_logging():
    code = "import logging, keras_retrieval, keras_retrieval.pipelines, keras_retrieval.export; "
    code += "logger = logging.getLogger('keras_retrieval'); print(logger.handlers, logger.level, logger.propagate)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[] 0 True\n"


def test_tables_on_a_terminal_have_no_control_sequences(capsys, monkeypatch):
    """Names in tables and lines are escaped; what a table library would write for a terminal is not written."""
    from rich.console import Console
    from rich.table import Table

    def step() -> None:
        """Prints a table."""
        table = Table("name", title="names")
        table.add_row("bell\x07\x1b[2J")
        Console().print(table)
        print("red\x1b[31m\ttab\nline \udce9")

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("keras_retrieval.__main__._call", lambda name, arguments: step())
    main(["extract"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["red\\x1b[31m\ttab", "line \\udce9"]
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert "\\x1b" not in lines[0] + lines[2]


def test_a_name_that_the_terminal_cannot_show_does_not_end_a_step(tmp_path):
    folder = tmp_path / "K\u00f6ln \u96ea"
    folder.mkdir()
    draw_photo(folder / "a.png", 0, 0)
    found = run("edge-maps", folder, tmp_path / "maps", "--size", 64, PYTHONIOENCODING="ascii")
    assert (found.returncode, found.stderr) == (0, "")
    assert "K\\xf6ln \\u96ea: 1 photo" in found.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["extract", "--help"]])
def test_a_closed_pipe_ends_the_command_quietly(words):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "keras_retrieval", *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (ended.stderr, ended.returncode in (1, 141)) == ("", True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["extract", "--help"]])
def test_a_full_disk_for_the_output_is_one_sentence(words):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "keras_retrieval", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "no space is left on the disk" in ended.stderr.splitlines()[0]
    assert "Traceback" not in ended.stderr


class ClosedStream(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


def test_work_in_another_thread_goes_on_without_its_output():
    logger, ended = logging.getLogger("keras_retrieval"), []

    def work():
        logger.info("a line that nobody reads")
        ended.append(True)

    with contextlib.redirect_stdout(ClosedStream()), _log_on_stdout():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with pytest.raises(BrokenPipeError):
            logger.info("the main thread ends")
    assert ended == [True]
