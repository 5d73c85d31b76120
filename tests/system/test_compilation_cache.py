"""Compiled programs are kept privately, or not at all."""

import contextlib
import os
import stat
import subprocess

import jax
import pytest
from helpers.disks import mounted

from senet_jax.system import compilation_cache


@pytest.fixture(autouse=True)
def _restore():
    before = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def test_the_folder_is_the_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.enable()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "senet_jax")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert compilation_cache.enable() == folder


def test_a_folder_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.enable()
    os.chmod(folder, 0o770)
    jax.config.update("jax_compilation_cache_dir", None)
    assert compilation_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compilation_cache.enable() is None


def test_without_a_home_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert compilation_cache.enable() is None


@pytest.mark.parametrize("options", ["ro", "size=1M"])
def test_a_disk_that_takes_nothing_is_no_error(tmp_path, monkeypatch, options):
    with mounted(tmp_path / "disk", "size=1M") as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        assert compilation_cache.enable()
        if options == "ro":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        else:
            with contextlib.suppress(OSError), (disk / "full").open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))
        assert compilation_cache.enable() is None


def test_an_entry_that_was_cut_short_is_compiled_again_without_a_word(tmp_path, monkeypatch):
    """As one is that another process is writing: JAX writes entries in place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.enable()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    from jax.experimental.compilation_cache import compilation_cache as of_jax

    def result():
        of_jax.reset_cache()
        return float(jax.jit(lambda x: x * 7.5 + 1)(2.0))

    try:
        right = result()
        entries = list(folder.glob("*-cache"))
        assert entries
        for entry in entries:
            entry.write_bytes(entry.read_bytes()[:-9])
        jax.clear_caches()
        assert result() == right == 16.0
    finally:
        of_jax.reset_cache()


def test_the_users_own_folder_is_warned_of_once_if_it_cannot_be_written(
    tmp_path, monkeypatch, capfd
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    assert compilation_cache.enable() is None
    assert not jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", True)
    assert capfd.readouterr().err.count("cannot be written; compiled programs are not kept") == 1


def test_the_users_own_choice_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert compilation_cache.enable() is None
