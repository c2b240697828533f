"""The C programs' own unit tests and fuzzers, built with sanitizers and run one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNIT_TESTS = sorted(path.stem for path in (ROOT / "native" / "tests").glob("test_*.c"))
FUZZERS = sorted(path.stem for path in (ROOT / "native" / "tests").glob("fuzz_*.c"))
OUT = ROOT / "build" / "native-tests"
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
FUZZ_SECONDS = int(os.environ.get("CORRAL_FUZZ_SECONDS", "20"))


def run_build(*arguments: str) -> None:
    """Run native/build.py; its words are the test's failure."""
    command = [sys.executable, str(ROOT / "native" / "build.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def unit_tests() -> Path:
    """The folder with all unit tests of native/tests, built with ASan and UBSan."""
    run_build("--tests", "--out", str(OUT))
    return OUT


@pytest.fixture(scope="session")
def fuzzers() -> Path:
    """The folder with all fuzzers."""
    run_build("--fuzz", "--out", str(OUT))
    return OUT


@pytest.mark.timeout(600)
@pytest.mark.requires("cc")
@pytest.mark.parametrize("name", UNIT_TESTS)
def test_c_unit_test_passes_under_sanitizers(name: str, unit_tests: Path, tmp_path: Path) -> None:
    """Each native/tests/test_*.c exits 0, with no complaint of ASan, LSan or UBSan."""
    result = subprocess.run(
        [str(unit_tests / name)], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.timeout(600 + FUZZ_SECONDS)
@pytest.mark.requires("clang")
@pytest.mark.parametrize("name", FUZZERS)
def test_fuzzer_finds_nothing_within_its_time(name: str, fuzzers: Path, tmp_path: Path) -> None:
    """Each native/tests/fuzz_*.c survives CORRAL_FUZZ_SECONDS (20) of input made up from its seed corpus."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds = ROOT / "native" / "tests" / "corpus" / name.removeprefix("fuzz_")
    command = [str(fuzzers / name), f"-max_total_time={FUZZ_SECONDS}", "-rss_limit_mb=2048", "-timeout=10"]
    command += [str(corpus), *([str(seeds)] if seeds.is_dir() else [])]
    result = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300 + FUZZ_SECONDS
    )
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.timeout(600)
@pytest.mark.requires("cc")
def test_programs_build_with_sanitizers(tmp_path: Path) -> None:
    """The whole of corral-runtime builds with ASan and UBSan, as dynamic program."""
    run_build("--sanitize", "--out", str(tmp_path))
    assert (tmp_path / "corral-runtime").exists()


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_programs_link_for_aarch64(tmp_path: Path) -> None:
    """The programs compile and link for the other supported machine."""
    pytest.importorskip("ziglang", reason="the package ziglang is not installed")
    run_build("--target", "aarch64-linux-musl", "--out", str(tmp_path))
    header = (tmp_path / "corral-runtime").read_bytes()[:20]
    # e_machine of the ELF header: 183 is EM_AARCH64.
    assert (header[:4], int.from_bytes(header[18:20], "little")) == (b"\x7fELF", 183)
