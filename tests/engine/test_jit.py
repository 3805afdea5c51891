"""Compiled code on disk: kept, found again, and never trusted further than it deserves."""

import errno
import os
import stat
import subprocess
import sys
import warnings

import kernels
import llvmlite
import oracle
import pytest

from polyphase import Problem
from polyphase.engine import jit, run

POSIX = hasattr(os, "geteuid")
PROBLEM = Problem.parse("c3:2 i5 k3 s2 p1")
SOURCE = """
import sys
from polyphase import Problem
from polyphase.engine import run
for line in sys.argv[1:]:
    run.operation(Problem.parse(line))
print("ok")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder that nothing has been written to, in a process that remembers nothing."""
    monkeypatch.setenv("POLYPHASE_CACHE", str(tmp_path / "cache"))
    forget(monkeypatch)
    yield tmp_path / "cache"
    monkeypatch.undo()
    forget(monkeypatch)


def forget(monkeypatch):
    jit._folder.cache_clear()
    monkeypatch.setattr(jit, "_warned", False)
    run.compiled.cache_clear()
    run._gather.cache_clear()


@pytest.fixture
def compiled(monkeypatch):
    """The number of times that LLVM has compiled something, as a list of ones."""
    count = []
    emit = jit.emit

    def counted(*arguments):
        count.append(1)
        return emit(*arguments)

    monkeypatch.setattr(jit, "emit", counted)
    return count


def work():
    """Compile or load two kernels, and see that they compute."""
    run.compiled.cache_clear()
    run._gather.cache_clear()
    target, method = kernels.ways(PROBLEM)[0]
    operation = kernels.operation(PROBLEM, target, method)
    x, w, b = kernels.operands(PROBLEM)
    expected = oracle.conv_transpose(x, w, b, PROBLEM.geometry)
    oracle.assert_same(kernels.compute(operation, x, w, b), expected, PROBLEM)


def in_process(*lines, **environment):
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", SOURCE, *(lines or [str(PROBLEM)])],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_code_is_compiled_once(folder, compiled):
    work()
    assert len(compiled) == 2
    assert len(list(folder.iterdir())) == 2
    work()
    assert len(compiled) == 2


@pytest.mark.skipif(not POSIX, reason="this system has no such permissions")
def test_folder_and_files_are_private(folder):
    work()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def damage(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        damage,
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda content: content[:10],
        lambda content: b"",
        # whole and sealed, but no machine code
        lambda content: None,
    ],
    ids=["one bit", "half", "longer", "shorter than the seal", "empty", "no object"],
)
def test_what_is_not_whole_is_compiled_anew(folder, compiled, change, capfd):
    work()
    before = {file: file.read_bytes() for file in folder.iterdir()}
    for file, content in before.items():
        changed = change(content)
        if changed is None:
            changed = jit._seal(file.name, b"nonsense") + b"nonsense"
        file.write_bytes(changed)
    work()
    assert len(compiled) == 4
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_file_under_another_name_is_compiled_anew(folder, compiled):
    work()
    first, second = sorted(folder.iterdir())
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    work()
    assert len(compiled) == 4


@pytest.mark.skipif(not POSIX, reason="this system has no such owners")
def test_files_of_another_user_are_not_read(folder, compiled, monkeypatch):
    work()
    found = os.fstat

    def foreign(handle):
        result = list(found(handle))
        result[stat.ST_UID] += 1
        return os.stat_result(result)

    monkeypatch.setattr(jit.os, "fstat", foreign)
    work()
    assert len(compiled) == 4


@pytest.mark.skipif(not POSIX, reason="this system has no such permissions")
def test_files_that_others_may_write_are_not_read(folder, compiled):
    work()
    for file in folder.iterdir():
        file.chmod(0o622)
    work()
    assert len(compiled) == 4


def assert_one_warning_and_memory_only(compiled, reason):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        work()
        work()
    assert len(compiled) == 4
    assert [entry.category for entry in told] == [RuntimeWarning]
    text = str(told[0].message)
    assert reason in text
    assert "POLYPHASE_CACHE" in text


@pytest.mark.skipif(not POSIX, reason="this system has no such owners")
def test_a_folder_of_another_user_is_not_used(folder, compiled, monkeypatch):
    monkeypatch.setattr(jit.os, "geteuid", lambda: os.stat(folder.parent).st_uid + 1)
    assert_one_warning_and_memory_only(compiled, "belongs to user")
    assert not list(folder.iterdir())


@pytest.mark.skipif(not POSIX, reason="this system has no such permissions")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_is_not_used(folder, compiled, mode):
    folder.mkdir()
    folder.chmod(mode)
    assert_one_warning_and_memory_only(compiled, "others may write")
    assert not list(folder.iterdir())


def test_a_file_in_place_of_the_folder(folder, compiled):
    folder.write_text("in the way")
    assert_one_warning_and_memory_only(compiled, str(folder))


def test_a_folder_that_cannot_be_made(folder, compiled, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(jit.Path, "mkdir", refuse)
    assert_one_warning_and_memory_only(compiled, "Permission denied")


def test_a_folder_that_cannot_be_written(folder, compiled, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(jit.tempfile, "mkstemp", refuse)
    assert_one_warning_and_memory_only(compiled, "Read-only")
    assert not list(folder.iterdir())


def test_a_full_disk(folder, compiled, monkeypatch):
    opened = os.fdopen

    def full(*arguments, **options):
        file = opened(*arguments, **options)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *reason):
                file.close()

            def write(self, content):
                file.write(content[:100])
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full()

    monkeypatch.setattr(jit.os, "fdopen", full)
    assert_one_warning_and_memory_only(compiled, "No space left")
    # nothing half written is left behind, under any name
    assert not list(folder.iterdir())


def test_a_user_without_a_home(folder, compiled, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("POLYPHASE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(jit.Path, "home", homeless)
    assert_one_warning_and_memory_only(compiled, "home")


def test_cache_0_leaves_the_disk_alone(folder, compiled, monkeypatch):
    monkeypatch.setenv("POLYPHASE_CACHE", "0")
    monkeypatch.setattr(jit, "_read", None)
    monkeypatch.setattr(jit, "_write", None)
    work()
    work()
    assert len(compiled) == 4
    assert not folder.exists()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems have other places")
def test_the_folder_is_that_of_the_user_unless_another_is_named(monkeypatch, tmp_path):
    jit._folder.cache_clear()
    try:
        monkeypatch.delenv("POLYPHASE_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert jit._folder() == tmp_path / "xdg" / "polyphase"
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", str(tmp_path))
        jit._folder.cache_clear()
        assert jit._folder() == tmp_path / ".cache" / "polyphase"
    finally:
        jit._folder.cache_clear()


def test_another_version_compiles_for_itself(folder, compiled, monkeypatch):
    work()
    for change in (
        lambda: monkeypatch.setattr(llvmlite, "__version__", "0.0.1"),
        lambda: monkeypatch.setattr(jit, "_source_digest", lambda: "other"),
    ):
        before = len(compiled)
        change()
        work()
        assert len(compiled) == before + 2
    # the files of the others are still there
    assert len(list(folder.iterdir())) == 6


def test_every_file_that_emits_code_is_part_of_the_digest(monkeypatch, tmp_path):
    folder = jit.Path(jit.__file__).parent
    emitting = [file for file in folder.glob("**/*.py") if "llvmlite" in file.read_text()]
    sources = jit._sources()
    assert set(map(str, emitting)) <= set(sources)
    # each byte of each of them counts
    copies = [tmp_path / str(number) for number in range(len(sources))]
    for source, copied in zip(sources, copies, strict=True):
        copied.write_bytes(jit.Path(source).read_bytes())
    monkeypatch.setattr(jit, "_sources", lambda: [str(copied) for copied in copies])
    digests = {jit._source_digest.__wrapped__()}
    for copied in copies:
        copied.write_bytes(copied.read_bytes() + b"#")
        digests.add(jit._source_digest.__wrapped__())
    assert len(digests) == 1 + len(copies)


def test_targets_and_keys_have_files_of_their_own(folder, compiled):
    for target in kernels.TARGETS:
        for dtype in ("f32", "f64"):
            run._gather(dtype, target)
    assert len(list(folder.iterdir())) == len(compiled) == 2 * len(kernels.TARGETS)


def test_processes_at_the_same_time(folder):
    # all begin with an empty folder and write the same files
    lines = [f"c3:2 i5 k{k} s2" for k in (1, 2, 3, 4)]
    command = [sys.executable, "-W", "error", "-c", SOURCE, *lines]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate() for process in processes]
    assert told == [("ok\n", "")] * 4
    names = {file.name for file in folder.iterdir()}
    # digests, and nothing temporary
    assert {len(name) for name in names} == {64}
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert in_process(*lines).stdout == "ok\n"
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_the_warning_names_the_place_and_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    process = in_process(POLYPHASE_CACHE=str(tmp_path / "file"))
    assert process.stdout == "ok\n"
    assert process.stderr.count("RuntimeWarning") == 1
    assert str(tmp_path / "file") in process.stderr
    assert "set POLYPHASE_CACHE to a private folder, or to 0" in process.stderr


def test_malformed_code_is_refused_before_it_is_compiled():
    target = kernels.TARGETS[0]
    with pytest.raises(RuntimeError, match="expected"):
        jit.emit("define void @run(", target)
    undominated = "define i64 @run() {\n  %a = add i64 %b, 1\n  %b = add i64 1, 1\n  ret i64 %a\n}"
    with pytest.raises(RuntimeError, match="dominate"):
        jit.emit(undominated, target)
